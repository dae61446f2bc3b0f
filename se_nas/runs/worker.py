"""Other processes on the search of a run: workers on a shared storage, and the tuner and the trials of NNI."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_nas.cost.budget import parse_budgets
from se_nas.errors import ConfigError
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.lines import Say
from se_nas.records.measure import ACCURACY
from se_nas.records.models.certificate import SearchCertificate
from se_nas.records.models.run_result import RunResult
from se_nas.records.record import read_record
from se_nas.records.run_log import read_log
from se_nas.runs.prepare import Setting, open_setting
from se_nas.runs.run_file import load_run
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import OnEpoch, evaluate_with, excess_of
from se_nas.search.result import STUDY_NAME
from se_nas.search.strategies import study_config

if TYPE_CHECKING:
    from se_nas.search.black_box.study import ArchitectureStudy


#: Seconds between two looks of `await_preparation`.
LOOK_SECONDS = 1.0


def _shared(setting: Setting) -> OptunaConfig:
    """How the run's search is driven as a study; ConfigError where it is not one that several processes share."""
    found = study_config(setting.config.search)
    if found is None:
        must = f"must be one that several processes share, such as optuna, but is {setting.config.search.strategy}"
        raise ConfigError(str(setting.run.path), [f"search.strategy: {must}"])
    return found


def work_on(
    folder: Path,
    storage: str,
    *,
    data_dir: Path | None = None,
    device: str | None = None,
    progress: bool,
    say: Say,
) -> int:
    """Join the search of a run that another process has begun, until it is done; how many were evaluated here.

    Args:
        folder: of the run, or a copy of it.
        storage: URL of the database that the run's search was given.
        data_dir, device: see `open_setting`.

    Raises:
        ConfigError: the folder holds no run, or one whose search has no study, or of another space than the storage.
        StorageError: the storage cannot be reached, or does not hold the run's study.
    """
    from se_nas.search.black_box.search import work
    from se_nas.search.black_box.storage import storage_faults_told
    from se_nas.search.black_box.strategy import await_prepared, open_evaluator, open_study

    setting = open_setting(folder, data_dir=data_dir, device=device)
    config = _shared(setting)
    problem = setting.problem(resume=True, progress=progress, storage=storage)
    if not (problem.folder / STUDY_NAME).exists():
        must = f"must be the folder of a run whose search has begun, but it has no search/{STUDY_NAME}"
        raise ConfigError(str(folder), [must])
    with storage_faults_told(storage):
        study = open_study(problem, config, join=True)
        if not await_prepared(problem, config, study, say):
            return 0
        return work(study, open_evaluator(problem, config), config.max_evaluations, progress).evaluated


def study_of(folder: Path) -> ArchitectureStudy:
    """The study of a run, for a tuner that asks for several candidates at a time."""
    from se_nas.search.black_box.strategy import open_study

    setting = open_setting(folder)
    return open_study(setting.problem(resume=True, progress=False), _shared(setting), parallel=True)


def await_preparation(folder: Path, on_epoch: Callable[[Mapping[str, Any]], None]) -> None:
    """Wait for what a run's own process makes for all evaluations, such as a trained supernet.

    Args:
        on_epoch: is told what is known after each epoch of that training, from its first.
    """
    config = study_config(load_run(folder / "config.yaml").search)
    name = None if config is None else prepared_name(config)
    if name is None or (folder / "search" / name).exists():
        return
    log, told, made = folder / "search" / "log.jsonl", 0, False
    while not made:
        time.sleep(LOOK_SECONDS)
        made = (folder / "search" / name).exists()  # before the log, so that its last epoch is told
        epochs = [entry for entry in read_log(log) if entry.get("event") == "epoch"] if log.exists() else []
        for entry in epochs[told:]:
            on_epoch(entry)
        told = max(told, len(epochs))


def prepared_name(config: OptunaConfig) -> str | None:
    """The name in a run's search folder of what has to be there before anything is evaluated; None for nothing."""
    from se_nas.search.black_box.evaluators.registry import EVALUATORS

    return EVALUATORS[config.evaluator].prepared


#: Accuracy, costs by metric, and excess by budgeted metric.
Worth = tuple[float, dict[str, float], dict[str, float]]


def evaluate_one(folder: Path, picks: Mapping[str, Any], on_epoch: OnEpoch) -> Worth:
    """What one architecture of a run's space is worth, by the run's evaluator."""
    from se_nas.search.black_box.strategy import open_evaluator

    tune_allocator()
    setting = open_setting(folder)
    architecture = setting.space.architecture(picks)
    config = _shared(setting)
    evaluator = open_evaluator(setting.problem(resume=True, progress=False), config)
    accuracy = evaluate_with(evaluator, architecture, on_epoch)
    costs = {metric: table.cost(architecture) for metric, table in setting.tables.items()}
    excess = excess_of(costs, setting.budgets)
    # a number of another name has that too, beside the one that NNI has for every experiment's
    named = {} if config.measure.name == ACCURACY.name else {config.measure.name: accuracy}
    return accuracy, {**named, **costs}, excess


def search_one(
    folder: Path, changes: Mapping[str, Any], out: Path, on_epoch: Callable[[Mapping[str, Any]], None]
) -> Worth:
    """A whole run like that of `folder`, with some values changed, in a folder of its own; resumes what is there.

    Args:
        changes: values of the configuration by dotted path.
        on_epoch: is told what is known after each epoch; see `SearchProblem`.

    Returns:
        What the answer is worth, its latencies as measured, where a clock can tell them.
    """
    from se_nas.runs.search import run_search  # imports Matplotlib, which no other trial needs

    tune_allocator()
    path = folder / "config.yaml"
    config = load_run(path, {**changes, "evidence": None})  # which is for the answer of the whole
    run = run_search(path, config, out, resume=True, progress=False, say=print, on_epoch=on_epoch)
    result = read_record(RunResult, run / "result.json")
    certificate = read_record(SearchCertificate, run / "certificate.json")
    costs = {metric: float(entry.value) for metric, entry in certificate.known.items()}
    budgets = parse_budgets(config.budgets, str(path))
    assert result.search.validation_accuracy is not None  # as of any run of today
    return result.search.validation_accuracy, costs, excess_of(costs, budgets)
