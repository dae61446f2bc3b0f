"""Making a space's latency table: blocks or networks timed, the sum of blocks held against whole networks.

Separately timed blocks do not add up to a network: caches and launches differ. Two numbers fitted on networks of the
space, latency = intercept + factor * sum, take most of the bias out (the intercept holds stem and head where all
networks of a space share them; else the sum has them too, at the blocks' pace); networks that the fit has not seen say
what remains. Where a runtime times no block by itself, the blocks' times are those that explain the networks' best; see
`fit.fit_terms`.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from se_nas.cost.latency.block_model import chosen_blocks, predict_blocks
from se_nas.cost.latency.choosing import block_numbers, distinct_blocks, spread_architectures
from se_nas.cost.latency.fit import ends_macs, fit_relative, fit_terms, pace_of_ends, prediction_accuracy
from se_nas.cost.latency.kept import KeptMeasurements
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.plan import Plan, Speed, plan_words, planned
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.table import LatencyFit, LatencyTable, Timed
from se_nas.cost.latency.timing import OnProgress, no_progress
from se_nas.cost.latency.visits import TIME_BLOCKS, TIME_NETWORKS, BlockTimer, NetworkTimer, Visits
from se_nas.cost.metrics import LATENCY, METRICS
from se_nas.cost.table import FloatArray
from se_nas.errors import ConfigError
from se_nas.hardware.lines import Say
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace

Method = Literal["chains", "networks"]

#: Networks to fit to: two numbers where blocks are timed by themselves, all blocks' times where they are not.
CALIBRATE_ON = {"chains": 24, "networks": 64}


def time_latency_table(
    space: SearchSpace,
    key: LatencyKey,
    *,
    metric: str = LATENCY,
    seed: int = 0,
    progress: bool = False,
    say: Say | None = None,
    max_seconds: float | None = None,
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
        metric: what the clocks tell, of another one in its unit instead of milliseconds.
        seed: draws the networks to calibrate on and those held out.
        progress: show progress bars on the standard error stream.
        say: is told before how long it will take.
        max_seconds: of wall time, added up over processes that were ended. Where all takes longer it is fewer visits
            and then a part of the blocks, of which the others are predicted; see `plan.planned`.
        calibrate_on, held_out: how many networks; halves of what there is in a space of fewer networks. By default
            `CALIBRATE_ON`.
        visits: how often all blocks and then all networks are timed, at least 1; by default as the runtime says.
        time_blocks, time_networks: the clocks; the medians over their visits count.
        keep: the file in which what is timed is kept until the table is made.

    Raises:
        ConfigError: the space has fewer than 6 networks, or the least of a table takes longer than `max_seconds`.
        DeviceError: the key is of another machine, or the program that times for it fails.
    """
    kept = None if keep is None else KeptMeasurements(keep, _environment(key))
    started = monotonic() - (0.0 if kept is None else kept.seconds)
    clock = Visits(key, time_blocks, time_networks, kept)
    blocks = distinct_blocks(space)

    @cache
    def networks_of(method: Method) -> list[Architecture]:
        return _some_networks(space, (calibrate_on or CALIBRATE_ON[method]) + held_out, seed)

    def plan_of(method: Method, speed: Speed) -> Plan:
        # whole networks alone are timed where each takes seconds to prepare, or a call of a program
        often = visits or (RUNTIMES[key.runtime].visits if method == "chains" else 1)
        some = len(blocks) if method == "chains" else 0
        made = planned(some, len(networks_of(method)), often, speed, max_seconds, monotonic() - started)
        if say is not None:
            say(plan_words(made, len(blocks), metric))
        clock.keep_plan(made)
        return made

    method: Method = "chains" if RUNTIMES[key.runtime].chains else "networks"
    speed = Speed(None, 0.0)
    if kept is not None and kept.plan is not None and kept.plan.max_seconds == max_seconds:
        plan = kept.plan
    else:
        if say is not None or max_seconds is not None:
            few = [space.resolve(architecture) for architecture in networks_of(method)]
            speed = clock.speed(blocks if method == "chains" else (), few)
            method = "networks" if speed.block is None else "chains"
        plan = plan_of(method, speed)
    chosen = chosen_blocks(blocks, plan.blocks) if 0 < plan.blocks < len(blocks) else range(len(blocks))
    block_visits: list[list[float]] = []
    network_visits: list[list[float]] = []
    with _bars(progress) as (on_blocks, on_networks):
        while len(network_visits) < plan.visits:
            visit, began = len(network_visits), monotonic()
            if plan.blocks:
                part = _part(on_blocks, visit, plan.visits)
                times = clock.blocks(visit, [blocks[place] for place in chosen], part)
                if times is None and visit == 0:
                    plan = plan_of("networks", speed)
                block_visits += [times] if times is not None else []  # a busy moment tells nothing of chains
            found = networks_of("chains" if plan.blocks else "networks")[: plan.networks]
            networks = [space.resolve(architecture) for architecture in found]
            network_visits.append(clock.networks(visit, networks, _part(on_networks, visit, plan.visits)))
            now = monotonic()
            if (
                len(network_visits) < plan.visits
                and max_seconds is not None
                and now - started + (now - began) > max_seconds
            ):
                plan = plan.model_copy(update={"cut": True})
                break  # the machine is slower than when this was planned
    timed = tuple(zip(found, map(float, np.median(network_visits, axis=0)), strict=True))
    method = "chains" if plan.blocks else "networks"
    block_ms = np.median(np.array(block_visits, dtype=np.float64), axis=0) if plan.blocks else None
    prediction = None
    if block_ms is not None and len(chosen) < len(blocks):
        block_ms, prediction = predict_blocks(blocks, chosen, block_ms)
    wished = calibrate_on or CALIBRATE_ON[method]
    cut = len(found) * wished // (wished + held_out) if len(found) == wished + held_out or plan.cut else len(found) // 2
    table = fitted_table(space, key, block_ms, timed[:cut], timed[cut:], _environment(key), started)
    table = replace(table, metric=metric)
    if plan.cut:
        untimed = frozenset(blocks).difference(blocks[place] for place in chosen)
        fit = replace(table.fit, max_seconds=max_seconds, prediction=prediction)
        table = replace(table, fit=fit, predicted=untimed)
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
    method: Method = "networks" if block_ms is None else "chains"
    if block_ms is None:
        fitted = fit_terms(blocks, numbers[:cut], measured[:cut])
        intercept, factor, block_ms, ends = fitted.intercept_ms, 1.0, fitted.block_ms, 0.0
        sums = numbers @ block_ms
    else:
        ends = pace_of_ends(space, blocks, block_ms)
        sums = numbers @ block_ms + ends * np.array([ends_macs(one.stem_convs, one.head) for one in networks])
        intercept, factor = fit_relative(sums[:cut], measured[:cut])
    macs = np.array([METRICS["macs"].of(network) for network in networks])
    from_macs = fit_relative(macs[:cut], measured[:cut])
    fit = LatencyFit(
        held_out=prediction_accuracy(intercept + factor * sums[cut:], measured[cut:]),
        calibrated_on=cut,
        intercept_ms=intercept,
        factor=factor,
        seconds=monotonic() - started,
        environment=environment,
        method=method,
        ends_ms_per_mac=ends,
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
