"""The energy of one run of a network, by the counter that its device keeps.

A counter sees all that its device does: what idles is counted too, and so is other work, which a quiet machine has
none of. What a measurement takes once, before the runs and after them, is not: a short series of runs and a long one
are measured, and their difference is that of the runs between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.timing import median_interval, prepared
from se_nas.hardware.energy import EnergyMeter
from se_nas.layers.network import Network
from se_nas.space.specs import NetworkSpec

#: Times that a long series is as long as a short one.
_LONGER = 3


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
