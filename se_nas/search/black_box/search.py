"""The black-box search: ask the study, evaluate, tell, until enough distinct architectures are evaluated.

Any function of an architecture can be searched from Python:

    result = search_architectures(space, parse_budgets({"macs": "20M"}, "here"), evaluate, max_evaluations=200)
    result.best, result.front
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable, count_tables
from se_nas.errors import ConfigError, TrainingError, TrainingInterrupted
from se_nas.hardware.interrupt import signals_to
from se_nas.hardware.progress_bar import counted_up
from se_nas.records.models.stopped import Rule, Stopped
from se_nas.search.black_box.candidate import Candidate, EnoughProposed, SpaceExhausted
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import (
    Evaluate,
    Evaluation,
    EvaluatorWithEpochs,
    Pruned,
    Unjudged,
    best_first,
    evaluate_with,
)
from se_nas.search.black_box.pareto import front_objectives, front_of
from se_nas.search.black_box.study import ArchitectureStudy
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace

log = logging.getLogger(__name__)

#: Evaluations that fail in a row until the search gives up: the fault is then not the architectures'.
FAILURES = 5
#: Proposals in a row of which the evaluator knows nothing until the search gives up.
UNJUDGED = 1000


@dataclass(frozen=True)
class BlackBoxResult:
    """What a black-box search found.

    Attributes:
        evaluations: every proposal, in order.
        front: the evaluations that keep the budgets and that none dominates in `front_objectives`, by rising cost.
        best: of those that keep the budgets, the one of the highest accuracy; None when there is none.
        exhausted: whether the search ended because nothing new was left to propose.
        stopped: the rule of the configuration that ended it early, if one did.
    """

    evaluations: list[Evaluation]
    front: list[Evaluation]
    best: Evaluation | None
    exhausted: bool
    stopped: Stopped | None = None


def search_architectures(
    space: SearchSpace,
    budgets: Sequence[Budget],
    evaluate: Evaluate | EvaluatorWithEpochs,
    *,
    config: OptunaConfig | None = None,
    tables: Mapping[str, CostTable] | None = None,
    seed: int = 0,
    file: Path | None = None,
    enqueue: Sequence[Architecture] = (),
    progress: bool = False,
) -> BlackBoxResult:
    """Search a space with any function `Architecture -> accuracy`.

    Args:
        budgets: every proposal keeps them.
        config: see `OptunaConfig`; what it says of evaluators is not read.
        tables: cost tables by metric; None for those of MACs and parameters.
        file: where the study is kept, so that another call goes on with it; None for memory.
        enqueue: architectures to evaluate first.

    Raises:
        InfeasibleBudgetError, ConfigError, OutputError: see `ArchitectureStudy`.
        ConfigError, TrainingError: see `work`.
    """
    config = config or OptunaConfig()
    tables = tables or count_tables(space)
    with closing(
        ArchitectureStudy(space.name, space, budgets, tables, config, seed, file=file, take_over=file is not None)
    ) as study:
        for architecture in enqueue:
            study.enqueue(architecture)
        return result_of(study, work(study, evaluate, config.max_evaluations, progress))


def result_of(study: ArchitectureStudy, worked: Worked) -> BlackBoxResult:
    """What a study has found so far."""
    evaluations = study.evaluations()
    ranked = best_first(evaluations, study.budgets)
    objectives = front_objectives(study.config.objectives, [budget.metric for budget in study.budgets])
    front = front_of(evaluations, objectives)
    front.sort(key=lambda e: [e.costs[metric] for metric in objectives[1:]])
    return BlackBoxResult(evaluations, front, ranked[0] if ranked else None, worked.exhausted, worked.stopped)


class Worked(NamedTuple):
    """What a worker did: how many it evaluated, whether it ended because nothing new was left to propose, and the rule
    that ended it early."""

    evaluated: int
    exhausted: bool
    stopped: Stopped | None = None


class _Clock:
    """The wall time of a search: what is known of it, and what this process adds."""

    def __init__(self, study: ArchitectureStudy, spent: float) -> None:
        self._study, self._before, self._began = study, max(spent, study.seconds), time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._began

    def rule(self) -> Rule | None:
        """By which the search ends now; not before it has an answer."""
        config = self._study.config
        if self._study.best_accuracy() is None:
            return None
        return config.rule_that_stops(self.seconds, self._study.since_better() if config.patience else 0)

    def note(self) -> None:
        """Keep the time, where it is limited and what is kept does not say yet that it is over."""
        limit = self._study.config.max_seconds
        if limit is not None and self._study.seconds < limit:
            self._study.note_seconds(self.seconds)


def work(
    study: ArchitectureStudy,
    evaluate: Evaluate | EvaluatorWithEpochs,
    max_evaluations: int,
    progress: bool,
    spent: float = 0.0,
) -> Worked:
    """Evaluate until the study has `max_evaluations`, alone or beside other workers, or a rule ends it.

    Args:
        spent: seconds that the search took before its first evaluation.

    With others at work it waits for their evaluations to end, and takes over those of workers that died.

    Raises:
        TrainingError: several evaluations failed in a row, or many proposals were none that the evaluator knows.
        ConfigError: an accuracy is not from 0 to 1.
        TrainingInterrupted: SIGINT or SIGTERM; the evaluation at hand is done again on resuming.
    """
    failures, unjudged, evaluated, exhausted = 0, 0, 0, False
    clock = _Clock(study, spent)
    with stoppable(study), counted_up("evaluations", wanted=progress, lines=True) as count:
        while True:
            candidate = None
            with study.look():
                study.reap()
                if progress:
                    count(study.count(), max_evaluations, _best(study))
                room = max_evaluations - study.count() - (len(study.running()) - study.left)
                more = (room > 0 and not exhausted) or study.waiting or study.left
                rule = clock.rule() if more else None
                if more and rule is None:
                    try:
                        candidate = study.ask(at_most=max_evaluations if study.shared else None)
                    except EnoughProposed:
                        continue
                    except SpaceExhausted:
                        exhausted = True
                        continue
            if candidate is not None:
                try:
                    went_well = _evaluate(study, evaluate, candidate)
                except Unjudged as error:
                    log.warning("evaluation %d failed: %s", candidate.number, error)
                    study.tell(candidate.number, None, state="failed")
                    unjudged += 1
                    if unjudged >= UNJUDGED:
                        raise TrainingError(f"{unjudged} proposals in a row could not be judged: {error}") from error
                    continue
                clock.note()
                evaluated, unjudged = evaluated + 1, 0
                failures = 0 if went_well else failures + 1
                if failures >= FAILURES:
                    raise TrainingError(
                        f"{failures} evaluations in a row failed, the last one number {candidate.number}"
                    )
            elif study.shared and study.running():
                time.sleep(0.2)
            elif rule is None:
                return Worked(evaluated, exhausted)
            else:
                clock.note()
                ended = study.config.stopped(rule, clock.seconds, study.count(), max_evaluations, "evaluations")
                return Worked(evaluated, exhausted, ended)


@contextmanager
def stoppable(study: ArchitectureStudy) -> Iterator[None]:
    """SIGINT and SIGTERM end the search with a word on how to go on; the study keeps all that was told."""
    stopped_by: int = signal.SIGINT

    def stop(number: int) -> None:
        nonlocal stopped_by
        stopped_by = number
        raise KeyboardInterrupt

    try:
        with signals_to(stop):
            yield
    except TrainingInterrupted:
        raise
    except KeyboardInterrupt as error:
        raise TrainingInterrupted("search", stopped_by, Path(study.where)) from error


def _evaluate(study: ArchitectureStudy, evaluate: Evaluate | EvaluatorWithEpochs, candidate: Candidate) -> bool:
    """Evaluate one candidate and tell the study; False when the evaluation failed."""
    started, number = time.monotonic(), candidate.number
    curve: list[tuple[int, float]] = []
    measure = study.config.measure

    def on_epoch(epoch: int, value: float) -> None:
        curve.append((epoch, measure.worth(value)))
        study.tell_epoch(number, epoch, measure.worth(value))

    try:
        accuracy = evaluate_with(evaluate, candidate.architecture, on_epoch)
    except Pruned:
        study.tell(number, None, state="pruned", seconds=time.monotonic() - started, curve=curve)
        return True
    except TrainingError as error:
        log.warning("evaluation %d failed: %s", number, error)
        study.tell(number, None, state="failed", seconds=time.monotonic() - started, curve=curve)
        return False
    if not math.isfinite(accuracy):
        log.warning("evaluation %d failed: %s must be finite, but got %r", number, measure.name, accuracy)
        study.tell(number, None, state="failed", seconds=time.monotonic() - started, curve=curve)
        return False
    fault = measure.fault(accuracy)
    if fault is not None:
        raise ConfigError(f"evaluation {number}", [fault])
    study.tell(number, measure.worth(accuracy), seconds=time.monotonic() - started, curve=curve)
    return True


def _best(study: ArchitectureStudy) -> str:
    """The best so far, in words."""
    best, measure = study.best_accuracy(), study.config.measure
    return "" if best is None else f"best {measure.show(measure.worth(best))}"
