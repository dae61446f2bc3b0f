"""Optuna-driven search of a run: the evaluator that its configuration names, its study, and what it leaves behind."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from typing import Literal

from se_nas.errors import ConfigError
from se_nas.hardware.lines import Say
from se_nas.records.files import write_json
from se_nas.records.models.run_result import LedgerEntry
from se_nas.records.models.stopped import Stopped
from se_nas.records.record import Record, read_record, write_record
from se_nas.search.answer import answer_among
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import (
    Evaluate,
    EvaluatorWithEpochs,
    best_first,
    evaluate_with,
    save_evaluations,
)
from se_nas.search.black_box.evaluators.registry import EVALUATORS, PREPARED_EARLY
from se_nas.search.black_box.importance import importances
from se_nas.search.black_box.search import BlackBoxResult, Worked, result_of, stoppable, work
from se_nas.search.black_box.storage import storage_faults_told
from se_nas.search.black_box.study import ArchitectureStudy
from se_nas.search.budgets.baselines import baseline, known_baselines
from se_nas.search.problem import SearchProblem
from se_nas.search.result import EVALUATIONS, STUDY, STUDY_NAME, SearchResult
from se_nas.search.zero_cost.screen import SCREEN, ScreenFile, screen
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import load_architecture

#: Seconds between two looks for a supernet that another machine is training, and between two words on it.
PATIENCE = 2.0
REMIND = 60.0


class StudyName(Record):
    """Which study is a run's: its name, and whether it is in a storage that others share. Written once it is made."""

    format: Literal["se_nas study"] = "se_nas study"
    version: Literal[1] = 1
    study: str
    shared: bool


def search_optuna(problem: SearchProblem, config: OptunaConfig) -> SearchResult:
    """Do, or finish, the whole search.

    Raises:
        ConfigError, InfeasibleBudgetError, StorageError: see `ArchitectureStudy`.
        CheckpointError, TrainingError: see `training.loop.Loop.run`.
    """
    # the study before the supernet, which a storage out of reach must not cost
    begun = begin_study_together(problem, config)
    assert begun is not None  # as of the first rank
    with storage_faults_told(problem.storage), closing(begun) as study:
        prepared = prepare(problem, config)
        evaluator = open_evaluator(problem, config)
        spent = prepared.seconds + sum(entry.seconds for entry in _screening(problem, config))
        worked = work(study, evaluator, config.max_evaluations, problem.progress, spent)
        return finish(problem, config, study, evaluator, prepared, worked)


def begin_study_together(problem: SearchProblem, config: OptunaConfig) -> ArchitectureStudy | None:
    """The study of the first rank, for which the others wait; they get None."""
    with problem.ranks.together(), storage_faults_told(problem.storage):
        return begin_study(problem, config) if problem.ranks.first else None


def begin_study(problem: SearchProblem, config: OptunaConfig, *, parallel: bool = False) -> ArchitectureStudy:
    """The study, made or opened again by the process that answers for it, with what is to be evaluated first."""
    words = [named_architecture(problem, word) for word in config.enqueue]
    study = open_study(problem, config, parallel=parallel, take_over=not parallel)
    for architecture in words:
        study.enqueue(architecture)
    if config.screen is not None:
        with stoppable(study):
            found = screen(problem, config.screen, _known(problem, config))
        for one in found.kept:
            study.enqueue(problem.space.architecture(one.picks))
    return study


def _known(problem: SearchProblem, config: OptunaConfig) -> Collection[Architecture] | None:
    """What the evaluator can judge; None for all."""
    known = EVALUATORS[config.evaluator].known
    return None if known is None else known(problem)


def _screening(problem: SearchProblem, config: OptunaConfig) -> tuple[LedgerEntry, ...]:
    """What the screen took, where there was one."""
    if config.screen is None:
        return ()
    file = read_record(ScreenFile, problem.folder / SCREEN)
    return (LedgerEntry(part="screen", seconds=file.seconds, cpu_seconds=file.cpu_seconds),)


def prepare(problem: SearchProblem, config: OptunaConfig) -> LedgerEntry:
    """Do once what the evaluator needs, such as its supernet's training; what it took."""
    do = EVALUATORS[config.evaluator].prepare
    if do is None:
        return LedgerEntry(part=config.evaluator, seconds=0.0, cpu_seconds=0.0, images=0)
    return do(replace(problem, max_seconds=config.max_seconds), config.settings)


def await_prepared(problem: SearchProblem, config: OptunaConfig, study: ArchitectureStudy, say: Say) -> bool:
    """Wait for what the run's own process prepares; False where the study has all its evaluations first.

    Raises:
        TrainingInterrupted: SIGINT or SIGTERM.
    """
    name = EVALUATORS[config.evaluator].prepared
    if name is None:
        return True
    path, said = problem.folder / name, -math.inf
    with stoppable(study):
        while not path.exists():
            if study.count() >= config.max_evaluations:
                return False
            if time.monotonic() - said >= REMIND:
                said = time.monotonic()
                say(f"waiting for {path}: the run makes it, and a copy of its folder must be given it")
            time.sleep(PATIENCE)
    return True


def open_evaluator(problem: SearchProblem, config: OptunaConfig) -> Evaluate | EvaluatorWithEpochs:
    """The evaluator of a run that is prepared, in this process or in another.

    Raises:
        CheckpointError: the folder holds no supernet.
        ConfigError: the table is damaged or of another space.
    """
    return EVALUATORS[config.evaluator].build(problem, config.settings)


def open_study(
    problem: SearchProblem,
    config: OptunaConfig,
    *,
    parallel: bool = False,
    take_over: bool = False,
    join: bool = False,
) -> ArchitectureStudy:
    """The study of a run: in its folder, or in the problem's storage.

    Its name is unique to the run, so that runs of one name may share a storage. The folder keeps it, once there is a
    study, for those who join; not the storage's URL, which may hold a password.

    Raises:
        ConfigError: the search began in its folder and goes on with a storage, or the other way round; or a file of it
            is damaged or gone.
    """
    path = problem.folder / STUDY_NAME
    shared = problem.storage is not None
    begun = read_record(StudyName, path) if path.exists() else None
    if begun is None and (problem.folder / EVALUATIONS).exists():
        raise ConfigError(str(path), [f"file: must be there, as {EVALUATIONS} of the same study is, but is not"])
    if begun is not None and begun.shared != shared:
        must = "began on a shared storage, so --storage must be given again, but it is not"
        if shared:
            must = "began without a shared storage, so --storage must not be given, but it is"
        raise ConfigError(str(problem.folder.parent), [f"its search {must}"])
    name = begun.study if begun else f"{problem.folder.parent.resolve().name}-{uuid.uuid4().hex[:8]}"
    study = ArchitectureStudy(
        name,
        problem.space,
        problem.budgets,
        problem.tables,
        config,
        problem.seed,
        file=problem.folder / STUDY,
        url=problem.storage,
        parallel=parallel,
        take_over=take_over and not shared,
        join=join or begun is not None,
        among=_known(problem, config),
    )
    if begun is None:
        write_record(path, StudyName(study=name, shared=shared))
    return study


def named_architecture(problem: SearchProblem, word: str) -> Architecture:
    """The architecture that a word of `enqueue` names: a baseline, or an architecture file in the run's folder.

    Raises:
        ArchitectureError: the file cannot be read, or is of another space.
    """
    if word in known_baselines(problem.space):
        return baseline(word, problem.space, problem.tables, problem.budgets)
    architecture = load_architecture(problem.folder.parent / word).architecture
    problem.space.check(architecture)
    return problem.space.architecture(architecture.as_dict())


def finish(
    problem: SearchProblem,
    config: OptunaConfig,
    study: ArchitectureStudy,
    evaluator: Evaluate | EvaluatorWithEpochs,
    prepared: LedgerEntry,
    worked: Worked,
) -> SearchResult:
    """Write down what the study found, and hand it back."""
    result = result_of(study, worked)
    save_evaluations(
        problem.folder / EVALUATIONS,
        result.evaluations,
        objectives=config.objectives,
        measure=config.measure,
        sampler=config.chosen_sampler,
        budgets=problem.budgets,
    )
    write_json(problem.folder / "importance.json", importances(result.evaluations, problem.space, problem.seed))
    known = {e.architecture: e.accuracy for e in result.evaluations if e.complete}

    def value(architecture: Architecture) -> float:
        found = known.get(architecture)
        if found is not None:
            return config.measure.worth(found)
        return evaluate_with(evaluator, architecture, lambda epoch, value: None)

    ranked = best_first(result.evaluations, problem.budgets)
    seconds = sum(e.seconds for e in result.evaluations)
    screening = _screening(problem, config)
    return SearchResult(
        answer=lambda latencies: answer_among(
            problem.space,
            problem.tables,
            latencies,
            problem.budgets,
            ((e.architecture, e.accuracy or 0.0) for e in ranked),
        ),
        accuracy=value,
        summary=_summary(config, result, prepared, seconds) | _ended_early(problem, config, result),
        seconds=prepared.seconds + seconds + sum(entry.seconds for entry in screening),
        images=prepared.images or 0,
        ledger=(
            *((prepared,) if EVALUATORS[config.evaluator].prepare else ()),
            *screening,
            LedgerEntry(part="evaluations", seconds=seconds),
        ),
        measure=config.measure,
        others=lambda: [e.architecture for e in ranked[1:]],
    )


def _ended_early(problem: SearchProblem, config: OptunaConfig, result: BlackBoxResult) -> dict[str, object]:
    """What rules ended: the training of a supernet, which then stays as it is, and the evaluations."""
    path = problem.folder / PREPARED_EARLY
    parts = [read_record(Stopped, path)] if path.exists() else []
    parts += [result.stopped] if result.stopped is not None else []
    return {"stopped": [part.plain() for part in parts]} if parts else {}


def _summary(config: OptunaConfig, result: BlackBoxResult, prepared: LedgerEntry, seconds: float) -> dict[str, object]:
    entries = result.evaluations
    return {
        "sampler": config.chosen_sampler,
        "objectives": list(config.objectives),
        "evaluator": config.evaluator,
        "evaluations": sum(e.state in ("complete", "pruned") for e in entries),
        "distinct": sum(e.state in ("complete", "pruned") and e.same_as is None for e in entries),
        "infeasible": sum(e.complete and not e.feasible for e in entries),
        "pruned": sum(e.state == "pruned" for e in entries),
        "failed": sum(e.state == "failed" and e.same_as is None for e in entries),
        "front": len(result.front),
        "exhausted": result.exhausted,
        "supernet_seconds": prepared.seconds,
        "evaluation_seconds": seconds,
    }
