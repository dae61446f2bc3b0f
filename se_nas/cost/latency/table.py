"""A space's latency table: what every block takes, and how well their sum predicts whole networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, FiniteFloat, PositiveFloat, field_validator

from se_nas.cost.latency.block_model import BlockPrediction
from se_nas.cost.latency.choosing import distinct_blocks
from se_nas.cost.latency.fit import PredictionAccuracy, ends_macs
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.timing import Measurement
from se_nas.cost.metrics import ENERGY, LATENCY, METRICS
from se_nas.cost.table import CostTable, build_table
from se_nas.errors import ArchitectureError, ConfigError, counted, format_seconds
from se_nas.records.record import Record, read_record
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec

Timed = tuple[Architecture, float]
"""A network, and its milliseconds."""


@dataclass(frozen=True)
class LatencyFit:
    """How a table was calibrated, and its `prediction_accuracy` on held-out networks.

    Attributes:
        environment: versions of what ran the networks, and of the machine that did, by name.
        method: "chains" where blocks were timed by themselves, "networks" where their times were fitted to networks'.
        macs: on the same networks, how well a line on MACs alone predicts; None in tables of before there was one.
        max_seconds: the bound for whose sake less was timed than there is; None where all was.
        prediction: of the blocks that were not timed; None where all were.
        ends_ms_per_mac: of stem and head before calibration; 0 where they are all in the intercept.
    """

    held_out: PredictionAccuracy
    calibrated_on: int
    intercept_ms: float
    factor: float
    seconds: float
    environment: dict[str, str]
    method: Literal["chains", "networks"] = "chains"
    macs: PredictionAccuracy | None = None
    max_seconds: float | None = None
    prediction: BlockPrediction | None = None
    ends_ms_per_mac: float = 0.0


def tells_blocks(fit: LatencyFit, blocks: int) -> bool:
    """Whether a table of so many blocks knows each one's time.

    Fitted to fewer networks, most of it is a line on their counts.
    """
    return fit.method == "chains" or fit.calibrated_on >= blocks


class _SpaceName(Record):
    name: str
    digest: str


class TimedBlock(Record):
    """A block in words, its milliseconds before calibration, and whether those were predicted from other blocks'."""

    block: str
    ms: FiniteFloat
    predicted: Literal[True] | None = None


class MeasuredNetwork(Record):
    """A network, and the milliseconds that it took."""

    picks: dict[str, Option]
    ms: PositiveFloat


class PredictedNetwork(MeasuredNetwork):
    """The same, and what the table predicts."""

    predicted_ms: FiniteFloat


class LatencyFile(Record):
    """What a table's file holds: `latency.json` or `energy.json` of a run, or one in the cache.

    Attributes:
        metric: "energy_mj" where each `ms` is of millijoules instead.
    """

    format: Literal["se_nas latency table"] = "se_nas latency table"
    version: Literal[1] = 1
    metric: Literal["energy_mj"] | None = None
    space: _SpaceName
    key: LatencyKey
    fit: LatencyFit = Field(alias="report")  # the name in every file of version 1
    blocks: tuple[TimedBlock, ...]
    calibration: tuple[MeasuredNetwork, ...]
    held_out: tuple[PredictedNetwork, ...]

    @field_validator("key", mode="before")
    @classmethod
    def _runtime(cls, key: Any) -> Any:
        # of tables that were made before there were runtimes
        if isinstance(key, dict) and "backend" in key:
            return {"runtime" if name == "backend" else name: value for name, value in key.items()}
        return key


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Predicted latency of every network of a space under one key.

    Attributes:
        block_ms: uncalibrated milliseconds of every distinct block of the space.
        calibration: the networks that the calibration was fitted on, with their measured milliseconds.
        held_out: networks that the fit has not seen, with their measured milliseconds.
        predicted: the blocks whose milliseconds are not timed but predicted from those that were.
        metric: "energy_mj" where these are millijoules.
    """

    space: SearchSpace
    key: LatencyKey
    block_ms: Mapping[BlockSpec, float]
    calibration: tuple[Timed, ...]
    held_out: tuple[Timed, ...]
    fit: LatencyFit
    predicted: frozenset[BlockSpec] = frozenset()
    metric: str = LATENCY

    @cached_property
    def table(self) -> CostTable:
        """The calibrated table."""
        fit = self.fit
        per_mac = fit.factor * fit.ends_ms_per_mac
        return build_table(
            self.space,
            self.metric,
            lambda stem, head: fit.intercept_ms + per_mac * ends_macs(stem, head) if per_mac else fit.intercept_ms,
            lambda block: fit.factor * self.block_ms[block],
        )

    def prediction(self, architecture: Architecture) -> Measurement:
        """What it predicts of a network, with the 95 % interval that its errors on held-out networks make likely."""
        ms, error = self.table.cost(architecture), 1.96 * self.fit.held_out.residual_std
        return Measurement(ms, ms, (max(0.0, ms * (1 - error)), ms * (1 + error)), self.fit.held_out.n)

    @property
    def better_than_macs(self) -> bool:
        """Whether it predicts held-out networks better than a line on MACs; of an old table it is not known."""
        return self.fit.macs is None or self.fit.held_out.mape < self.fit.macs.mape

    def record(self) -> LatencyFile:
        """What its file holds; `from_record` reads it back."""
        return LatencyFile(
            metric=ENERGY if self.metric == ENERGY else None,
            space=_SpaceName(name=self.space.name, digest=self.space.digest),
            key=self.key,
            report=self.fit,
            blocks=tuple(
                TimedBlock(block=block.words(), ms=ms, **({"predicted": True} if block in self.predicted else {}))
                for block, ms in self.block_ms.items()
            ),
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
            ConfigError: it is of another space, or its numbers do not go together.
        """
        if stored.space.digest != space.digest:
            problem = f"space.digest: must be {space.digest}, that of space {space.name}"
            raise ConfigError(source, [f"{problem}, but got {stored.space.digest!r:.80}"])
        blocks = distinct_blocks(space)
        if [entry.block for entry in stored.blocks] != [block.words() for block in blocks]:
            raise ConfigError(source, [f"blocks: must be the {len(blocks)} blocks of the space in their order"])
        table = cls(
            space,
            stored.key,
            {block: entry.ms for block, entry in zip(blocks, stored.blocks, strict=True)},
            _measured(space, stored.calibration, f"{source}: calibration"),
            _measured(space, stored.held_out, f"{source}: held_out"),
            stored.fit,
            frozenset(block for block, entry in zip(blocks, stored.blocks, strict=True) if entry.predicted),
            stored.metric or LATENCY,
        )
        if (prediction := stored.fit.prediction) is not None or table.predicted:
            told = 0 if prediction is None else prediction.predicted
            if told != len(table.predicted):
                must = f"must be as many as blocks are called predicted, {len(table.predicted)}, but got {told}"
                raise ConfigError(source, [f"report.prediction.predicted: {must}"])
        # one number of the blocks or of the fit that was altered is seen in what they predict
        for place, ((architecture, _), entry) in enumerate(zip(table.held_out, stored.held_out, strict=True)):
            predicted = table.table.cost(architecture)
            if not math.isclose(predicted, entry.predicted_ms, rel_tol=1e-6):
                must = f"must be what the blocks and the fit predict, {predicted:.6g}"
                raise ConfigError(
                    source,
                    [f"held_out[{place}].predicted_ms: {must}, but got {entry.predicted_ms:.6g}: was it altered?"],
                )
        return table


def read_latency_table(path: Path, space: SearchSpace, metric: str = LATENCY) -> LatencyTable:
    """The table in a file; ConfigError where it cannot be read or is not of a latency, or of energy where that is asked
    for, or see `LatencyTable.from_record`."""
    table = LatencyTable.from_record(space, read_record(LatencyFile, path), str(path))
    wanted = ENERGY if metric == ENERGY else LATENCY  # no file says of which device of a run it is
    if table.metric != wanted:
        raise ConfigError(str(path), [f"metric: must be a table of {wanted}, but is one of {table.metric}"])
    return table


def latency_lines(table: LatencyTable) -> list[str]:
    """How a table was made and what it is worth, in plain words."""
    key, fit = table.key, table.fit
    versions = ", ".join(f"{name} {version}" for name, version in fit.environment.items())
    how = f"latency = {fit.intercept_ms:.3f} ms + {fit.factor:.3f} * their sum, fitted on {fit.calibrated_on} networks"
    if fit.method == "networks":
        what, unit = "times" if table.metric == LATENCY else "energies", METRICS[table.metric].unit
        how = (
            f"their {what} and {fit.intercept_ms:.3f} {unit} for the rest fitted to {fit.calibrated_on} whole networks"
        )
    blocks = counted(len(table.block_ms), "distinct block")
    took = f"timed in {format_seconds(round(fit.seconds))}"
    if fit.prediction is not None:
        rest = f"{fit.prediction.predicted} predicted from these, which misses a block that it has not seen by"
        blocks = f"{fit.prediction.timed} of {blocks} {took}, {rest} {fit.prediction.mape:.1%}"
    elif fit.method == "chains":
        blocks += f" {took}"
    lines = [
        f"{table.space.name} on {key.device}: {key.runtime}, {key.dtype}, batch {key.batch_size}, "
        f"threads {key.threads}; {versions}",
        f"{blocks}; {how}",
        f"on {fit.held_out.n} held-out networks: {accuracy_words(fit.held_out)}",
    ]
    if fit.macs is not None:
        lines.append(f"a line on MACs alone: {accuracy_words(fit.macs)}")
    return lines


def accuracy_words(found: PredictionAccuracy) -> str:
    """What predictions are worth."""
    return (
        f"mean absolute error {found.mape:.1%}, {found.within_5:.0%} within 5 %, {found.within_10:.0%} within 10 %, "
        f"Spearman {found.spearman:.3f}"
    )


def _measured(space: SearchSpace, entries: Sequence[MeasuredNetwork], source: str) -> tuple[Timed, ...]:
    try:
        return tuple((space.architecture(entry.picks), entry.ms) for entry in entries)
    except ArchitectureError as error:
        raise ConfigError(source, [str(error)]) from error
