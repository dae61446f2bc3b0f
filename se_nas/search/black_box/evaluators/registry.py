"""What judges the architectures of a black-box search, by the name that `evaluator:` of a run file gives it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import torch

from se_nas.records.checkpoint import load_checkpoint, save_checkpoint
from se_nas.records.measure import ACCURACY, SUPERNET_ACCURACY, Measure
from se_nas.records.models.history import HISTORY, write_history
from se_nas.records.models.run_result import LedgerEntry
from se_nas.records.models.stopped import SUPERNET_EPOCHS, Stopped
from se_nas.records.record import Record, write_record
from se_nas.records.registry import Registry
from se_nas.search.black_box.evaluation import Evaluate, EvaluatorWithEpochs
from se_nas.search.black_box.evaluators.stand_alone import StandAloneEvaluator
from se_nas.search.black_box.evaluators.table import TableEvaluator
from se_nas.search.one_shot.config import OneShotConfig
from se_nas.search.one_shot.inheritance import SupernetEvaluator
from se_nas.search.one_shot.training import train_one_shot
from se_nas.search.problem import SearchProblem
from se_nas.search.result import SUPERNET, TABLE
from se_nas.search.zero_cost.evaluator import ZeroCostConfig, ZeroCostEvaluator
from se_nas.space.architecture import Architecture
from se_nas.supernet.supernet import SuperNet
from se_nas.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """One way to judge architectures.

    Attributes:
        build: makes it, in the search's own process or another, from the problem and its settings: those under its own
            name in `search:` of the run file, as `config` reads them, or None.
        measure: what it says of an architecture.
        config: the model of its settings, all of which must have defaults; None where it has none.
        epochs: how many epochs an evaluation reports; None where it reports none, and so cannot be pruned.
        has_supernet: whether `prepare` trains a supernet, from `problem.start` where there is one, and on all of
            `problem.ranks`, of which the first alone writes.
        known: the architectures that it can judge, which alone are proposed; None where it can judge all.
        prepare: done once, in the run's own process, before anything is evaluated; what it took. It keeps to the
            problem's `max_seconds`. What `build` needs of it lies in the problem's folder, the last of it under the
            name `prepared`.
    """

    build: Callable[[SearchProblem, Any], Evaluate | EvaluatorWithEpochs]
    measure: Measure = ACCURACY
    config: type[Record] | None = None
    epochs: Callable[[Any], int] | None = None
    has_supernet: bool = False
    known: Callable[[SearchProblem], Collection[Architecture]] | None = None
    prepare: Callable[[SearchProblem, Any], LedgerEntry] | None = None
    prepared: str | None = None


#: In the problem's folder: that `prepare` ended early, for want of time; it is then as done as it will be.
PREPARED_EARLY = "prepared_early.json"


def _train_supernet(problem: SearchProblem, settings: OneShotConfig) -> LedgerEntry:
    ranks, limit = problem.ranks, problem.max_seconds
    done = ranks.from_first((problem.folder / SUPERNET).exists())
    # what was evaluated with its weights must be comparable with what will be: it is not trained on
    result = train_one_shot(replace(problem, max_seconds=0.0) if done else problem, settings)
    spent = LedgerEntry(part="supernet", seconds=result.seconds, cpu_seconds=result.cpu_seconds, images=result.images)
    if not ranks.first:
        return spent
    write_history(problem.folder / HISTORY, result.history)
    if not done:
        epochs = len(result.history)
        if limit is not None and epochs < settings.epochs:
            ended = Stopped(
                rule="max_seconds",
                limit=limit,
                done=epochs,
                planned=settings.epochs,
                unit=SUPERNET_EPOCHS,
                seconds=result.seconds,
            )
            write_record(problem.folder / PREPARED_EARLY, ended)
        save_checkpoint(problem.folder / SUPERNET, {"supernet": result.supernet.state_dict()})
    return spent


def _supernet(problem: SearchProblem, settings: OneShotConfig) -> SupernetEvaluator:
    supernet = SuperNet(problem.space)
    supernet.load_state_dict(load_checkpoint(problem.folder / SUPERNET)["supernet"])
    supernet.to(problem.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return SupernetEvaluator(problem, supernet, settings.calibration_images)


EVALUATORS: Registry[Evaluator] = Registry(
    "evaluator",
    {
        "supernet": Evaluator(
            build=_supernet,
            measure=SUPERNET_ACCURACY,
            config=OneShotConfig,
            has_supernet=True,
            prepare=_train_supernet,
            prepared=SUPERNET,
        ),
        "stand_alone": Evaluator(
            build=lambda problem, settings: StandAloneEvaluator(problem, settings, problem.folder / "stand_alone"),
            measure=Measure(source="after a short training", on_images=True),
            config=Recipe,
            epochs=lambda settings: int(settings.epochs),
        ),
        "table": Evaluator(
            build=lambda problem, settings: TableEvaluator.load(problem.folder / TABLE, problem.space),
            measure=Measure(source="in the table of known architectures"),
            known=lambda problem: TableEvaluator.load(problem.folder / TABLE, problem.space).metrics.keys(),
        ),
        "zero_cost": Evaluator(
            build=ZeroCostEvaluator,
            measure=Measure(name="naswot", source="before any training", lowest=None, highest=None, share=False),
            config=ZeroCostConfig,
        ),
    },
)
