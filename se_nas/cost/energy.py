"""The energy of one run of a network, by the counter that its device keeps.

A counter sees all that its device does: what idles is counted too, and so is other work, which a quiet machine has
none of. What a measurement takes once, before the runs and after them, is not: a short series of runs and a long one
are measured, and their difference is that of the runs between.

A space's table of it is fitted to whole networks, as latencies are where no block can be timed by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from se_nas.cost.latency.cache import build_latency_table
from se_nas.cost.latency.folder import latency_folder
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.table import LatencyTable
from se_nas.cost.latency.timing import Measurement, OnProgress, median_interval, prepared
from se_nas.cost.metrics import ENERGY
from se_nas.errors import DeviceError
from se_nas.hardware.energy import EnergyMeter
from se_nas.hardware.lines import Say
from se_nas.layers.network import Network
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec, NetworkSpec

#: Times that a long series is as long as a short one.
_LONGER = 3
#: Measurements of each network of a table, which takes a second for one.
_TABLE_ROUNDS = 3


@dataclass(frozen=True)
class Energy:
    """Millijoules of one run: the median of `n` measurements, and where the true median is with 95 % confidence."""

    median_mj: float
    ci95_mj: tuple[float, float]
    n: int


def measure_energy(
    network: Network | NetworkSpec,
    key: LatencyKey,
    meter: EnergyMeter | None = None,
    *,
    rounds: int = 10,
    seconds: float = 0.25,
) -> Energy | None:
    """Measure a network under a latency's conditions; None where its device is elsewhere or keeps no counter.

    Args:
        meter: of the key's device, which it has by default.
        rounds: measurements, at least 1.
        seconds: of a short series of runs, which counters that are renewed every 0.1 s can tell.

    Raises:
        DeviceError: the key is of another machine, or a run does not fit the memory.
    """
    if RUNTIMES[key.runtime].remote:
        return None
    meter = meter or EnergyMeter(key.torch_device)
    if meter.source is None:
        return None
    found = []
    with prepared(network, key) as sampler:
        runs = max(1, math.ceil(1000 * seconds / max(float(np.median(sampler(3))), 1e-3)))
        for _ in range(rounds):
            joules = []
            for series in (runs, _LONGER * runs):
                with meter:
                    sampler(series)
                if meter.joules is None:  # the counter went
                    return None
                joules.append(meter.joules)
            found.append(max(0.0, 1000 * (joules[1] - joules[0]) / ((_LONGER - 1) * runs)))
    return Energy(float(np.median(found)), median_interval(found), len(found))


def needed_energy(network: Network | NetworkSpec, key: LatencyKey, *, rounds: int = 10) -> Measurement:
    """The same where something depends on it, with millijoules where other measurements have milliseconds.

    Raises:
        DeviceError: there is no counter, or it did not move; or see `measure_energy`.
    """
    found = measure_energy(network, key, rounds=rounds)
    if found is None:
        raise DeviceError(f"energy_mj {no_counter()}")
    if not found.median_mj > 0:
        raise DeviceError("energy_mj must be told by the device's counter, but longer runs did not take more by it")
    return Measurement(found.median_mj, found.median_mj, found.ci95_mj, found.n)


def no_counter() -> str:
    """What is wrong with an energy that is asked for where none can be read, in words."""
    return f"must be read from a counter, but none can be read here: looked for {EnergyMeter.looked_for()}"


def energy_key(keys: Iterable[LatencyKey]) -> LatencyKey | None:
    """The first of some conditions whose device is here and keeps a counter that can be read."""
    here = (key for key in keys if not RUNTIMES[key.runtime].remote)
    return next((key for key in here if EnergyMeter(key.torch_device).source is not None), None)


def build_energy_table(
    space: SearchSpace,
    key: LatencyKey,
    *,
    seed: int = 0,
    progress: bool = False,
    say: Say | None = None,
    max_seconds: float | None = None,
) -> LatencyTable:
    """A space's table of millijoules, fitted to whole networks: from the cache where it still holds, else measured.

    Raises:
        ConfigError, DeviceError: see `build_latency_table` and `needed_energy`.
    """
    return build_latency_table(
        space,
        key,
        metric=ENERGY,
        seed=seed,
        progress=progress,
        say=say,
        cache_folder=latency_folder().parent / "energy",
        max_seconds=max_seconds,
        time_blocks=_no_blocks,
        time_networks=_networks,
    )


def _no_blocks(blocks: Sequence[BlockSpec], key: LatencyKey, on_progress: OnProgress) -> list[float] | None:
    # counters are too coarse for what one block more takes
    return None


def _networks(networks: Sequence[NetworkSpec], key: LatencyKey, on_progress: OnProgress) -> list[Measurement]:
    found = []
    for network in networks:
        found.append(needed_energy(network, key, rounds=_TABLE_ROUNDS))
        on_progress(len(found), len(networks))
    return found
