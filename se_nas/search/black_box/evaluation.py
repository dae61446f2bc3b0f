"""What a black-box search asks of an evaluator, and the record of each architecture that it proposed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self, runtime_checkable

from pydantic import PositiveFloat, model_validator

from se_nas.cost.budget import Budget
from se_nas.errors import ArchitectureError, ConfigError, SeNasError
from se_nas.records.fields import Amount, Count, Metric, Number, Seconds
from se_nas.records.files import read_json
from se_nas.records.measure import ACCURACY, Measure
from se_nas.records.record import Record, parse_record, write_record
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace

#: `on_epoch(epoch, accuracy)` after each epoch of an evaluation, counted from 0; it raises `Pruned` to end it early.
OnEpoch = Callable[[int, float], None]

#: Any function of an architecture can be searched: its accuracy, from 0 to 1.
Evaluate = Callable[[Architecture], float]

State = Literal["complete", "pruned", "failed", "running"]
#: By the names that Optuna has for them.
_STATES: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}


class Pruned(Exception):
    """An evaluation that was ended early because its first epochs fell behind those of others."""


class Unjudged(SeNasError):
    """An architecture of which an evaluator knows nothing, such as one that a table lacks; the search goes on."""


@runtime_checkable
class EvaluatorWithEpochs(Protocol):
    """An evaluator with epochs, after each of which it can be ended.

    It is told from a function by its `evaluate` alone: any object that has such an attribute is taken for one.
    """

    def evaluate(self, architecture: Architecture, on_epoch: OnEpoch) -> float:
        """The accuracy, from 0 to 1; passes `Pruned` on."""


def evaluate_with(evaluator: Evaluate | EvaluatorWithEpochs, architecture: Architecture, on_epoch: OnEpoch) -> float:
    """The accuracy that an evaluator of either kind gives."""
    if isinstance(evaluator, EvaluatorWithEpochs):
        return evaluator.evaluate(architecture, on_epoch)
    return float(evaluator(architecture))


@dataclass(frozen=True)
class Evaluation:
    """One proposal of a search, and what became of it.

    Attributes:
        number: of the proposal, from 0.
        accuracy: the worth of what was measured, which for an accuracy is itself; of a pruned one what it last
            reported; None where there is none.
        costs: by metric, in the metric's unit.
        excess: of each budget, (cost - limit) / limit; at most 0 where it is kept.
        seconds: wall time of the evaluation; 0 where the accuracy was known.
        same_as: number of the earlier proposal of the same architecture, whose accuracy this one took.
        curve: (epoch, accuracy) pairs that were reported on the way.
    """

    number: int
    architecture: Architecture
    state: State
    accuracy: float | None
    costs: dict[str, float]
    excess: dict[str, float]
    seconds: float = 0.0
    same_as: int | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)

    @property
    def feasible(self) -> bool:
        """Whether every budget is kept, by the tables."""
        return all(value <= 0 for value in self.excess.values())

    @property
    def complete(self) -> bool:
        """Whether it was evaluated to the end, with a finite accuracy."""
        return self.state == "complete" and self.accuracy is not None and math.isfinite(self.accuracy)


class EvaluationRow(Record):
    """An `Evaluation` in its file."""

    number: Count
    state: State
    accuracy: Number | None
    costs: dict[Metric, Amount]
    excess: dict[Metric, Number]
    feasible: bool
    seconds: Seconds
    same_as: Count | None
    curve: tuple[tuple[Count, Number], ...]
    picks: dict[str, Option]


class EvaluationsFile(Record):
    """What `evaluations.json` holds."""

    format: Literal["se_nas evaluations"] = "se_nas evaluations"
    version: Literal[1] = 1
    sampler: str
    objectives: tuple[str, ...]
    measure: Measure = ACCURACY
    budgets: dict[Metric, PositiveFloat]
    evaluations: tuple[EvaluationRow, ...]

    @model_validator(mode="after")
    def _same_metrics(self) -> Self:
        needed = {*self.budgets, *self.objectives} - {self.measure.name}
        costs = set(self.evaluations[0].costs) if self.evaluations else needed
        for index, row in enumerate(self.evaluations):
            if set(row.costs) != costs or not needed <= costs or set(row.excess) not in (set(), set(self.budgets)):
                raise ValueError(f"evaluations[{index}] must have the metrics of the budgets and objectives")
            for value in [row.accuracy, *(value for _, value in row.curve)]:
                if value is not None and (fault := self.measure.fault(value)):
                    raise ValueError(f"evaluations[{index}]: {fault}")
        return self


def excess_of(costs: Mapping[str, float], budgets: Sequence[Budget]) -> dict[str, float]:
    """By budgeted metric, how far a cost is above its limit, as a share of the limit."""
    return {budget.metric: (costs[budget.metric] - budget.limit) / budget.limit for budget in budgets}


def evaluation_of(
    trial: Any, architecture: Architecture, costs: dict[str, float], budgets: Sequence[Budget]
) -> Evaluation:
    """What a trial of Optuna's is as an evaluation; one that was ended early has its last accuracy."""
    state = _STATES[trial.state.name]
    curve = [(int(epoch), float(value)) for epoch, value in trial.user_attrs.get("curve", [])]
    accuracy = float(trial.values[0]) if state == "complete" else None
    if state == "pruned" and curve:
        accuracy = curve[-1][1]
    return Evaluation(
        number=trial.number,
        architecture=architecture,
        state=state,
        accuracy=accuracy,
        costs=costs,
        excess=excess_of(costs, budgets),
        seconds=float(trial.user_attrs.get("seconds", 0.0)),
        same_as=trial.user_attrs.get("same_as"),
        curve=curve,
    )


def best_first(evaluations: Sequence[Evaluation], budgets: Sequence[Budget]) -> list[Evaluation]:
    """The complete evaluations that keep these budgets, each architecture once: by falling accuracy, then the cheaper
    first (by the metrics in their order), then the earlier."""
    first: dict[Architecture, Evaluation] = {}
    for entry in sorted(evaluations, key=lambda e: e.number):
        if entry.complete and all(budget.holds(entry.costs[budget.metric]) for budget in budgets):
            first.setdefault(entry.architecture, entry)
    return sorted(first.values(), key=lambda e: (-float(e.accuracy or 0.0), *e.costs.values(), e.number))


def save_evaluations(
    path: Path,
    evaluations: Sequence[Evaluation],
    *,
    objectives: Sequence[str],
    sampler: str,
    budgets: Sequence[Budget],
    measure: Measure = ACCURACY,
) -> Path:
    """Write `evaluations.json`, which reports and later decodes read; each `accuracy` as the evaluator measured it."""
    rows = tuple(
        EvaluationRow(
            number=entry.number,
            state=entry.state,
            accuracy=None if entry.accuracy is None else measure.worth(entry.accuracy),
            costs=entry.costs,
            excess=entry.excess,
            feasible=entry.feasible,
            seconds=entry.seconds,
            same_as=entry.same_as,
            curve=tuple((epoch, measure.worth(value)) for epoch, value in entry.curve),
            picks=entry.architecture.as_dict(),
        )
        for entry in evaluations
    )
    limits = {budget.metric: budget.limit for budget in budgets}
    record = EvaluationsFile(
        sampler=sampler, objectives=tuple(objectives), measure=measure, budgets=limits, evaluations=rows
    )
    return write_record(path, record)


def evaluations_from(space: SearchSpace, value: Any, source: str) -> list[Evaluation]:
    """The evaluations in what `save_evaluations` wrote.

    Raises:
        ConfigError: it is something else, or of another space.
    """
    return evaluations_in(parse_record(EvaluationsFile, value, source), space, source)


def read_evaluations(path: Path, space: SearchSpace) -> list[Evaluation]:
    """The evaluations in a file; see `evaluations_from`."""
    return evaluations_from(space, read_json(path), str(path))


def evaluations_in(stored: EvaluationsFile, space: SearchSpace, source: str) -> list[Evaluation]:
    """The evaluations of a file that was read; see `evaluations_from`."""
    found = []
    for index, row in enumerate(stored.evaluations):
        try:
            architecture = space.architecture(row.picks)
        except ArchitectureError as error:
            must = f"evaluations[{index}].picks: must be those of space {space.name}, but they are of another"
            raise ConfigError(source, [must]) from error
        found.append(
            Evaluation(
                number=row.number,
                architecture=architecture,
                state=row.state,
                accuracy=None if row.accuracy is None else stored.measure.worth(row.accuracy),
                costs={str(metric): value for metric, value in row.costs.items()},
                excess={str(metric): value for metric, value in row.excess.items()},
                seconds=row.seconds,
                same_as=row.same_as,
                curve=[(epoch, stored.measure.worth(value)) for epoch, value in row.curve],
            )
        )
    return found
