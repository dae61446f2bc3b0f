"""Making a space's latency table: blocks or networks timed, the sum of blocks held against whole networks.

Separately timed blocks do not add up to a network: caches and launches differ. Two numbers fitted on networks of the
space, latency = intercept + factor * sum, take most of the bias out (the intercept holds stem and head, which all
networks of a space share); networks that the fit has not seen say what remains. Where a runtime times no block by
itself, the blocks' times are those that explain the networks' best; see `fit.fit_terms`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from se_nas.cost.latency.choosing import block_numbers, distinct_blocks, spread_architectures
from se_nas.cost.latency.fit import fit_relative, fit_terms, prediction_accuracy
from se_nas.cost.latency.kept import KeptMeasurements
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.table import LatencyFit, LatencyTable, Timed
from se_nas.cost.latency.timing import Measurement, OnProgress, measure_blocks, measure_networks, no_progress
from se_nas.cost.metrics import METRICS
from se_nas.cost.table import FloatArray
from se_nas.errors import ConfigError, DeviceError, counted
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec, NetworkSpec

BlockTimer = Callable[[Sequence[BlockSpec], LatencyKey, OnProgress], list[float] | None]
"""None where chains of copies do not tell a block's time."""
NetworkTimer = Callable[[Sequence[NetworkSpec], LatencyKey, OnProgress], list[Measurement]]

TIME_BLOCKS: BlockTimer = partial(measure_blocks, passes=2)
TIME_NETWORKS: NetworkTimer = partial(measure_networks, rounds=10)

#: Networks to fit to: two numbers where blocks are timed by themselves, all blocks' times where they are not.
CALIBRATE_ON = {"chains": 24, "networks": 64}


def time_latency_table(
    space: SearchSpace,
    key: LatencyKey,
    *,
    seed: int = 0,
    progress: bool = False,
    calibrate_on: int | None = None,
    held_out: int = 24,
    visits: int | None = None,
    time_blocks: BlockTimer = TIME_BLOCKS,
    time_networks: NetworkTimer = TIME_NETWORKS,
    keep: Path | None = None,
) -> LatencyTable:
    """The latency table of a space, timed now.

    Blocks and networks take turns over several visits: a shared machine's speed drifts by some per cent within a
    minute, and a calibration in one slow spell would bias every prediction.

    Args:
        seed: draws the networks to calibrate on and those held out.
        progress: show progress bars on the standard error stream.
        calibrate_on, held_out: how many networks; halves of what there is in a space of fewer networks. By default
            `CALIBRATE_ON`.
        visits: how often all blocks and then all networks are timed, at least 1; by default as the runtime says.
        time_blocks, time_networks: the clocks; the medians over their visits count.
        keep: the file in which networks that are timed elsewhere are kept until the table is made.

    Raises:
        ConfigError: the space has fewer than 6 networks.
        DeviceError: the key is of another machine, or the program that times for it fails.
    """
    started = time.monotonic()
    blocks = distinct_blocks(space)
    kept = KeptMeasurements(keep) if keep is not None and RUNTIMES[key.runtime].remote else None
    with _bars(progress) as (on_blocks, on_networks):
        times = (
            time_blocks(blocks, key, _part(on_blocks, 0, visits or RUNTIMES[key.runtime].visits))
            if RUNTIMES[key.runtime].chains
            else None
        )
        method = "chains" if times is not None else "networks"
        # whole networks alone are timed where each takes seconds to prepare, or a call of a program
        visits = visits or (RUNTIMES[key.runtime].visits if times is not None else 1)
        calibrate_on = calibrate_on or CALIBRATE_ON[method]
        found = _some_networks(space, calibrate_on + held_out, seed)
        cut = calibrate_on if len(found) == calibrate_on + held_out else len(found) // 2
        networks = [space.resolve(architecture) for architecture in found]
        block_visits, network_visits = [times], []
        for visit in range(visits):
            if times is not None and visit > 0:
                again = time_blocks(blocks, key, _part(on_blocks, visit, visits))
                block_visits += [again] if again is not None else []  # a busy moment tells nothing of chains
            clock = time_networks if kept is None else partial(_one_by_one, time_networks, kept)
            timed = clock(networks, key, _part(on_networks, visit, visits))
            network_visits.append([measurement.median_ms for measurement in timed])
    measured = np.median(network_visits, axis=0)
    timed_networks = tuple(zip(found, map(float, measured), strict=True))
    block_ms = None if times is None else np.median(np.array(block_visits, dtype=np.float64), axis=0)
    table = fitted_table(space, key, block_ms, timed_networks[:cut], timed_networks[cut:], _environment(key), started)
    if kept is not None:
        kept.clear()
    return table


def fitted_table(
    space: SearchSpace,
    key: LatencyKey,
    block_ms: FloatArray | None,
    calibration: Sequence[Timed],
    held_out: Sequence[Timed],
    environment: dict[str, str],
    started: float,
) -> LatencyTable:
    """The table of what was measured.

    Args:
        block_ms: of every distinct block of the space, where they were timed; else they are fitted.
        calibration, held_out: at least 2 networks each.
        started: when the making of the table began, by the clock of `time.monotonic`.
    """
    blocks = distinct_blocks(space)
    networks = [space.resolve(architecture) for architecture, _ in (*calibration, *held_out)]
    measured = np.array([ms for _, ms in (*calibration, *held_out)])
    numbers, cut = block_numbers(blocks, networks), len(calibration)
    method: Literal["chains", "networks"] = "networks" if block_ms is None else "chains"
    if block_ms is None:
        fitted = fit_terms(blocks, numbers[:cut], measured[:cut])
        intercept, factor, block_ms = fitted.intercept_ms, 1.0, fitted.block_ms
    else:
        intercept, factor = fit_relative(numbers[:cut] @ block_ms, measured[:cut])
    macs = np.array([METRICS["macs"].of(network) for network in networks])
    from_macs = fit_relative(macs[:cut], measured[:cut])
    fit = LatencyFit(
        held_out=prediction_accuracy(intercept + factor * (numbers[cut:] @ block_ms), measured[cut:]),
        calibrated_on=cut,
        intercept_ms=intercept,
        factor=factor,
        seconds=time.monotonic() - started,
        environment=environment,
        method=method,
        macs=prediction_accuracy(from_macs[0] + from_macs[1] * macs[cut:], measured[cut:]),
    )
    by_block = dict(zip(blocks, map(float, block_ms), strict=True))
    return LatencyTable(space, key, by_block, tuple(calibration), tuple(held_out), fit)


def _some_networks(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    found = spread_architectures(space, count, np.random.default_rng(seed))
    if len(found) < 6:
        must = f"a latency table takes at least 6 distinct networks, but got {len(found)}"
        raise ConfigError(f"space {space.name}", [f"{must}; `latency: {{table: false}}` in a run file goes on without"])
    return found


def _one_by_one(
    time_networks: NetworkTimer,
    kept: KeptMeasurements,
    networks: Sequence[NetworkSpec],
    key: LatencyKey,
    on_progress: OnProgress,
) -> list[Measurement]:
    """Time each network on its own, and keep what was measured until the table is made."""
    found = []
    for done, network in enumerate(networks):
        if (measurement := kept.get(network)) is None:
            try:
                (measurement,) = time_networks([network], key, no_progress)
            except DeviceError as error:
                there = f"; it was at network {done + 1} of {len(networks)}"
                if done:
                    there += f", and the {counted(done, 'network')} before it are kept: the same command goes on there"
                raise DeviceError(f"{error}{there}") from error
            kept.add(network, measurement)
        found.append(measurement)
        on_progress(done + 1, len(networks))
    return found


def _part(on_progress: OnProgress, index: int, parts: int) -> OnProgress:
    """What is told of one of several equal parts of the work."""
    return lambda done, total: on_progress(index * total + done, parts * total)


def _environment(key: LatencyKey) -> dict[str, str]:
    return {
        "torch": torch.__version__,
        **RUNTIMES[key.runtime].versions,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


@contextmanager
def _bars(show: bool) -> Iterator[tuple[OnProgress, OnProgress]]:
    """Two bars with the time that remains, one for the blocks and one for the networks; for a terminal alone."""
    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield no_progress, no_progress
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:

        def task(description: str) -> OnProgress:
            number = bar.add_task(description, total=None)
            return lambda done, total: bar.update(number, completed=done, total=total)

        yield task("timing blocks"), task("timing networks")
