"""A space's latency table: every block timed, the sum calibrated on whole networks, and how well that predicts others.

Separately timed blocks do not add up to a network: caches and launches differ. Two numbers fitted on networks of the
space, latency = intercept + factor * sum, take most of the bias out (the intercept holds stem and head, which all
networks of a space share); networks that the fit has not seen say what remains.
"""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, FiniteFloat, PositiveFloat
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.stats import spearmanr

from se_nas.cost.latency.timing import (
    LatencyKey,
    Measurement,
    OnProgress,
    measure_blocks,
    measure_networks,
    no_progress,
)
from se_nas.cost.table import CostTable, FloatArray, build_table
from se_nas.errors import ArchitectureError, ConfigError
from se_nas.records.record import Record, read_record
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Choice, Option
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec, NetworkSpec

BlockTimer = Callable[[Sequence[BlockSpec], LatencyKey, OnProgress], list[float]]
NetworkTimer = Callable[[Sequence[NetworkSpec], LatencyKey, OnProgress], list[Measurement]]

TIME_BLOCKS: BlockTimer = partial(measure_blocks, passes=2)
TIME_NETWORKS: NetworkTimer = partial(measure_networks, rounds=10)


@dataclass(frozen=True)
class PredictionAccuracy:
    """How predictions meet measurements, over `n` networks.

    Attributes:
        mape: mean absolute error relative to the measured latency.
        within_5, within_10: shares of the networks predicted to 5 % and to 10 %.
        spearman: rank correlation (0 where either side is constant).
        residual_std: standard deviation of the signed relative error.
    """

    n: int
    mape: float
    within_5: float
    within_10: float
    spearman: float
    residual_std: float


@dataclass(frozen=True)
class LatencyFit:
    """How a table was calibrated, and its `prediction_accuracy` on held-out networks."""

    held_out: PredictionAccuracy
    calibrated_on: int
    intercept_ms: float
    factor: float
    seconds: float
    environment: dict[str, str]


class _SpaceName(Record):
    name: str
    digest: str


class TimedBlock(Record):
    """A block in words, and its milliseconds before calibration."""

    block: str
    ms: FiniteFloat


class MeasuredNetwork(Record):
    """A network, and the milliseconds that it took."""

    picks: dict[str, Option]
    ms: PositiveFloat


class PredictedNetwork(MeasuredNetwork):
    """The same, and what the table predicts."""

    predicted_ms: FiniteFloat


class LatencyFile(Record):
    """What a table's file holds: `latency.json` of a run, or one in the cache."""

    format: Literal["se_nas latency table"] = "se_nas latency table"
    version: Literal[1] = 1
    space: _SpaceName
    key: LatencyKey
    fit: LatencyFit = Field(alias="report")  # the name in every file of version 1
    blocks: tuple[TimedBlock, ...]
    calibration: tuple[MeasuredNetwork, ...]
    held_out: tuple[PredictedNetwork, ...]


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Predicted latency of every network of a space under one key.

    Attributes:
        block_ms: uncalibrated milliseconds of every distinct block of the space.
        calibration: the networks that the calibration was fitted on, with their measured milliseconds.
        held_out: networks that the fit has not seen, with their measured milliseconds.
    """

    space: SearchSpace
    key: LatencyKey
    block_ms: Mapping[BlockSpec, float]
    calibration: tuple[tuple[Architecture, float], ...]
    held_out: tuple[tuple[Architecture, float], ...]
    fit: LatencyFit

    @cached_property
    def table(self) -> CostTable:
        """The calibrated table, of metric "latency_ms"."""
        fit = self.fit
        return build_table(self.space, "latency_ms", fit.intercept_ms, lambda block: fit.factor * self.block_ms[block])

    def record(self) -> LatencyFile:
        """What its file holds; `from_record` reads it back."""
        return LatencyFile(
            space=_SpaceName(name=self.space.name, digest=self.space.digest),
            key=self.key,
            report=self.fit,
            blocks=tuple(TimedBlock(block=block.words(), ms=ms) for block, ms in self.block_ms.items()),
            calibration=tuple(MeasuredNetwork(picks=a.as_dict(), ms=ms) for a, ms in self.calibration),
            held_out=tuple(
                PredictedNetwork(picks=a.as_dict(), ms=ms, predicted_ms=self.table.cost(a)) for a, ms in self.held_out
            ),
        )

    @classmethod
    def from_record(cls, space: SearchSpace, stored: LatencyFile, source: str = "latency table") -> LatencyTable:
        """Read back `record`.

        Args:
            source: names the value's origin in errors.

        Raises:
            ConfigError: it is of another space.
        """
        if stored.space.digest != space.digest:
            problem = f"space.digest: must be {space.digest}, that of space {space.name}"
            raise ConfigError(source, [f"{problem}, but got {stored.space.digest!r:.80}"])
        blocks = distinct_blocks(space)
        if [entry.block for entry in stored.blocks] != [block.words() for block in blocks]:
            raise ConfigError(source, [f"blocks: must be the {len(blocks)} blocks of the space in their order"])
        return cls(
            space,
            stored.key,
            {block: entry.ms for block, entry in zip(blocks, stored.blocks, strict=True)},
            _measured(space, stored.calibration, f"{source}: calibration"),
            _measured(space, stored.held_out, f"{source}: held_out"),
            stored.fit,
        )


def read_latency_table(path: Path, space: SearchSpace) -> LatencyTable:
    """The table in a file; ConfigError where it cannot be read, or see `LatencyTable.from_record`."""
    return LatencyTable.from_record(space, read_record(LatencyFile, path), str(path))


def time_latency_table(
    space: SearchSpace,
    key: LatencyKey,
    *,
    seed: int = 0,
    progress: bool = False,
    calibrate_on: int = 24,
    held_out: int = 24,
    visits: int = 4,
    time_blocks: BlockTimer = TIME_BLOCKS,
    time_networks: NetworkTimer = TIME_NETWORKS,
) -> LatencyTable:
    """The latency table of a space, timed now.

    Blocks and networks take turns over several visits: a shared machine's speed drifts by some per cent within a
    minute, and a calibration in one slow spell would bias every prediction.

    Args:
        seed: draws the networks to calibrate on and those held out.
        progress: show progress bars on the standard error stream.
        calibrate_on, held_out: how many networks; halves of what there is in a space of fewer networks.
        visits: how often all blocks and then all networks are timed, at least 1.
        time_blocks, time_networks: the clocks; the medians over their visits count.

    Raises:
        ConfigError: the space has fewer than 6 networks.
        DeviceError: the key is of another machine.
    """
    started = time.monotonic()
    found = spread_architectures(space, calibrate_on + held_out, np.random.default_rng(seed))
    if len(found) < 6:
        must = f"a latency table takes at least 6 distinct networks, but got {len(found)}"
        raise ConfigError(f"space {space.name}", [f"{must}; `latency: {{table: false}}` in a run file goes on without"])
    cut = calibrate_on if len(found) == calibrate_on + held_out else len(found) // 2
    networks = [space.resolve(architecture) for architecture in found]
    blocks = distinct_blocks(space)
    with _bars(progress) as (on_blocks, on_networks):
        block_visits, network_visits = [], []
        for visit in range(visits):
            block_visits.append(time_blocks(blocks, key, _part(on_blocks, visit, visits)))
            timed = time_networks(networks, key, _part(on_networks, visit, visits))
            network_visits.append([measurement.median_ms for measurement in timed])
    block_ms = dict(zip(blocks, map(float, np.median(block_visits, axis=0)), strict=True))
    measured = np.median(network_visits, axis=0)
    sums = np.array([sum(block_ms[block] for block in network.blocks) for network in networks])
    intercept, factor = fit_relative(sums[:cut], measured[:cut])
    fit = LatencyFit(
        held_out=prediction_accuracy(intercept + factor * sums[cut:], measured[cut:]),
        calibrated_on=cut,
        intercept_ms=intercept,
        factor=factor,
        seconds=time.monotonic() - started,
        environment=_environment(),
    )
    timed_networks = tuple(zip(found, map(float, measured), strict=True))
    return LatencyTable(space, key, block_ms, timed_networks[:cut], timed_networks[cut:], fit)


def latency_lines(table: LatencyTable) -> list[str]:
    """How a table was made and what it is worth, in plain words."""
    key, fit, held_out = table.key, table.fit, table.fit.held_out
    return [
        f"{table.space.name} on {key.device}: {key.backend}, {key.dtype}, batch {key.batch_size}, "
        f"threads {key.threads}; " + ", ".join(f"{name} {version}" for name, version in fit.environment.items()),
        f"{len(table.block_ms)} distinct blocks timed; latency = {fit.intercept_ms:.3f} ms + {fit.factor:.3f} * "
        f"their sum, fitted on {fit.calibrated_on} networks",
        f"on {held_out.n} held-out networks: mean absolute error {held_out.mape:.1%}, {held_out.within_5:.0%} within "
        f"5 %, {held_out.within_10:.0%} within 10 %, Spearman {held_out.spearman:.3f}",
    ]


def distinct_blocks(space: SearchSpace) -> tuple[BlockSpec, ...]:
    """Every block that some network of the space has, once, in order of first appearance."""
    return tuple(
        dict.fromkeys(
            op.block(*options)
            for slot in space.slots
            for op in slot.ops
            for options in itertools.product(*(axis.options for axis in op.axes))
        )
    )


def spread_architectures(space: SearchSpace, count: int, rng: np.random.Generator) -> list[Architecture]:
    """Distinct architectures, spread over the space's sizes; fewer than `count` where no more turn up in 50 draws each.

    Uniform picks make almost every network of middling size. So each draw first tilts the numbers (depth, kernel,
    expansion) towards the small or the large, and apart from that the named options (SE) towards the first or the last.
    """
    found: dict[Architecture, None] = {}
    for _ in range(50 * count):
        if len(found) == count:
            break
        of_numbers, of_names = rng.uniform(-2.0, 2.0, size=2)
        found.setdefault(
            space.architecture(
                {
                    c.name: c.options[rng.choice(len(c.options), p=_tilted(c, of_names if _named(c) else of_numbers))]
                    for c in space.choices
                }
            )
        )
    return list(found)


def _named(choice: Choice) -> bool:
    return isinstance(choice.options[0], str)


def _tilted(choice: Choice, tilt: float) -> FloatArray:
    ranks = np.arange(len(choice.options)) if _named(choice) else np.argsort(np.argsort(choice.options))
    weights = np.exp(tilt * ranks)
    return np.asarray(weights / weights.sum())


def fit_relative(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """The (a, b) whose a + b * x has the least squared error relative to y.

    Args:
        x: (N,) predictors.
        y: (N,) measured values, > 0.
    """
    solution = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones(len(y)), rcond=None)[0]
    return float(solution[0]), float(solution[1])


def prediction_accuracy(predicted: FloatArray, measured: FloatArray) -> PredictionAccuracy:
    """Compare (N,) predictions with (N,) measurements, N at least 2."""
    error = predicted / measured - 1
    constant = np.ptp(predicted) == 0 or np.ptp(measured) == 0
    return PredictionAccuracy(
        n=len(error),
        mape=float(np.mean(np.abs(error))),
        within_5=float(np.mean(np.abs(error) <= 0.05)),
        within_10=float(np.mean(np.abs(error) <= 0.10)),
        spearman=0.0 if constant else float(spearmanr(predicted, measured).statistic),
        residual_std=float(np.std(error, ddof=1)),
    )


def _part(on_progress: OnProgress, index: int, parts: int) -> OnProgress:
    """What is told of one of several equal parts of the work."""
    return lambda done, total: on_progress(index * total + done, parts * total)


def _measured(
    space: SearchSpace, entries: Sequence[MeasuredNetwork], source: str
) -> tuple[tuple[Architecture, float], ...]:
    try:
        return tuple((space.architecture(entry.picks), entry.ms) for entry in entries)
    except ArchitectureError as error:
        raise ConfigError(source, [str(error)]) from error


def _environment() -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


@contextmanager
def _bars(show: bool) -> Iterator[tuple[OnProgress, OnProgress]]:
    """Two bars with the time that remains, one for the blocks and one for the networks."""
    if not show:
        yield no_progress, no_progress
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def task(description: str) -> OnProgress:
            number = bar.add_task(description, total=None)
            return lambda done, total: bar.update(number, completed=done, total=total)

        yield task("timing blocks"), task("timing networks")
