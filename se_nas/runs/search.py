"""A whole run: search, certified answer, retraining of the winner, report; resumable at every point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from se_nas.cost.budget import Budget, format_cost
from se_nas.cost.latencies import Latencies, cost_tables, read_latencies
from se_nas.cost.latency.table import LatencyTable
from se_nas.cost.metrics import ENERGY, device_of
from se_nas.cost.table import CostTable, count_tables
from se_nas.errors import ConfigError, OutputError
from se_nas.hardware.distributed import Ranks
from se_nas.hardware.lines import Say
from se_nas.records.files import write_json
from se_nas.records.models.certificate import DecodeTry, SearchCertificate
from se_nas.records.models.environment import Environment
from se_nas.records.models.run_result import LedgerEntry, ResultData, ResultSpace, RunResult, SearchSummary
from se_nas.records.models.stopped import Stopped, parse_stopped
from se_nas.records.record import parse_record, read_record, read_value, write_record
from se_nas.records.run_log import logging_to
from se_nas.report.pages.run import write_report
from se_nas.runs.prepare import Setting, make_setting, open_setting
from se_nas.runs.retraining.of_answer import Training, retrain_answer
from se_nas.runs.run_file import RunConfig, load_run
from se_nas.runs.run_folder import SEARCH, RunFolder, alone_in
from se_nas.runs.shown import shown_configuration
from se_nas.search.answer import Answer
from se_nas.search.finalists import with_finalists, with_recipe
from se_nas.search.result import STOPPED, SearchResult
from se_nas.search.starting import start_record
from se_nas.search.strategies import answer_again, answer_picked, strategy_of, study_config
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, save_architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.size import stored_size


def run_search(
    run_file: Path,
    config: RunConfig,
    folder: Path,
    *,
    resume: bool,
    progress: bool,
    say: Say,
    storage: str | None = None,
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
    ranks: Ranks | None = None,
    device: torch.device | None = None,
) -> RunFolder:
    """Do a whole run, or what is left of one.

    Several ranks share the training of the supernet and the retraining; the first one does the rest. A job that
    torchrun starts again, once begun, resumes.

    Args:
        storage, on_epoch: see `SearchProblem`.
        ranks, device: those who do it, and the device of this one, which is the configuration's by default.

    Raises:
        ConfigError: a fault in the configuration, or `resume` with another one.
        OutputError: the folder holds a run and `resume` is not given, or cannot be written to.
        InfeasibleBudgetError: no architecture keeps the budgets; before any training.
        SeNasError: the other faults a user can cause.
    """
    if storage is not None and study_config(config.search) is None:
        must = f"must be of a search that workers share, such as optuna, but this one is {config.search.strategy}"
        raise ConfigError("--storage (or SE_NAS_STORAGE)", [must])
    if storage is not None:
        from se_nas.search.black_box.storage import check_storage  # needs Optuna

        check_storage(storage)
    ranks = ranks or Ranks()
    resume = ranks.from_first(resume or ranks.was_begun())
    with ExitStack() as work, logging_to(config.loggers):

        def make() -> Setting:
            work.enter_context(alone_in(folder))
            made = make_setting(run_file, config, folder, resume=resume, progress=progress, say=say, ranks=ranks.size)
            ranks.mark_begun()
            return made

        made = ranks.by_first(make)
        with ranks.together():
            setting = made or open_setting(folder)
        setting = replace(setting, device=device or setting.device)
        problem = setting.problem(resume=resume, progress=progress, storage=storage, on_epoch=on_epoch, ranks=ranks)
        strategy, found = strategy_of(setting.config.search), None
        if ranks.first:
            found = strategy.search(problem, setting.config.search)
        else:
            strategy.help(problem, setting.config.search)
        finish_run(setting, found, resume=resume, progress=progress, say=say, ranks=ranks)
        return setting.run


@dataclass(frozen=True)
class _Conclusion:
    found: SearchResult
    answer: Answer
    accuracy: float


def finish_run(
    setting: Setting,
    found: SearchResult | None,
    *,
    resume: bool,
    progress: bool,
    say: Say,
    ranks: Ranks | None = None,
) -> None:
    """What follows a search: the certified answer, its retraining, `result.json` and the report.

    Args:
        found: None on ranks other than the first, which take part in the retraining alone.
    """
    config, run, ranks = setting.config, setting.run, ranks or Ranks()
    conclusion = ranks.by_first(lambda: _concluded(setting, found, progress, say))
    trained = None
    if config.retrain is not None:
        architecture = ranks.from_first(conclusion and conclusion.answer.architecture)
        trained = retrain_answer(
            setting, config.retrain, architecture, ranks=ranks, resume=resume, progress=progress, say=say
        )
        if trained is not None:
            say(f"retrained: {trained[0].test_accuracy:.2%} on the test images")
    if conclusion is not None:
        write_record(run / "result.json", _result(setting, conclusion, trained))
        write_report(run.path, shown_configuration(run / "config.yaml"))


def _concluded(setting: Setting, found: SearchResult | None, progress: bool, say: Say) -> _Conclusion:
    """The answer of a search, certified and told."""
    assert found is not None  # as of the first rank
    stopped = parse_stopped(found.summary)
    for part in stopped:
        then = "--resume with another limit goes on with it" if part.goes_on else "its weights stay as they are"
        say(f"the search was ended by search.{part.words}; {then}")
    _keep_former_answer(setting.run, stopped, say)
    if (finalists := setting.config.finalists) is not None:
        problem, config = (
            setting.problem(resume=True, progress=progress),
            with_recipe(finalists, setting.config.retrain),
        )
        found = with_finalists(problem, found, setting.latencies, config, setting.run / "finalists", say)
    answer = _answer(setting, found)
    for entry in answer.certificate.budgets:
        value, limit = (format_cost(entry.metric, number) for number in (entry.value, entry.limit))
        say(f"budget {entry.metric}: {value} of {limit} ({entry.how})")
    accuracy = found.accuracy(answer.architecture)
    images = f" on {len(setting.parts['validation'])} validation images" if found.measure.on_images else ""
    say(f"{found.measure.name} {found.measure.source}: {found.measure.show(accuracy)}{images}")
    return _Conclusion(found, answer, accuracy)


def decode_again(folder: Path, budgets: Sequence[Budget], out: Path) -> Answer:
    """Another answer of a finished search, under other budgets, in `out`.

    Raises:
        ConfigError: the folder holds no finished search, or it was made without a latency table and one is needed.
        OutputError: `out` is the folder of a run, or cannot be written to.
        InfeasibleBudgetError: no architecture keeps the budgets.
    """
    return _answered_again(
        folder, out, lambda space, tables, latencies: answer_again(folder / "search", space, tables, latencies, budgets)
    )


def answer_of(folder: Path, out: Path) -> ArchitectureFile:
    """The answer that a finished run gave, with its certificate, in `out` too.

    Raises:
        ConfigError, ArchitectureError: the folder holds no finished search.
    """
    if not (folder / "certificate.json").exists():
        raise ConfigError(str(folder), ["must be the folder of a run that has its answer, but it has none yet"])
    file = load_architecture(folder / "architecture.json")
    save_architecture(out / "architecture.json", file)
    write_record(out / "certificate.json", read_record(SearchCertificate, folder / "certificate.json"))
    return file


def pick_from_front(folder: Path, number: int, out: Path) -> Answer:
    """The architecture of a finished search's front that has this number, certified, in `out`.

    Raises:
        ConfigError: the search has no front, or the number is none of it.
        OutputError: `out` is the folder of a run, or cannot be written to.
        InfeasibleBudgetError: its network was measured to be too slow for the run's budgets.
    """
    return _answered_again(
        folder, out, lambda space, tables, latencies: answer_picked(folder / "search", space, tables, latencies, number)
    )


def _answered_again(
    folder: Path, out: Path, answered: Callable[[SearchSpace, Mapping[str, CostTable], Latencies], Answer]
) -> Answer:
    """What a function answers of a finished search, written into `out`."""
    with alone_in(out):
        run = RunFolder(folder)
        if (out / "config.yaml").exists():
            raise OutputError(
                f"{out}: the folder for the answer must not be that of a run, but it is; choose another --out"
            )
        if not (folder / "space.yaml").exists():
            raise ConfigError(
                str(folder), ["must be the folder of a run whose search is done, but it has no space.yaml"]
            )
        space = run.space
        config = load_run(folder / "config.yaml").model_copy(update={"device": "auto"})
        timed = read_latencies(folder, [*config.latencies, ENERGY], space)
        latencies: Latencies = {**{metric: config.latency_key(metric) for metric in config.latencies}, **timed}
        found = answered(space, {**count_tables(space), **cost_tables(latencies)}, latencies)
        return _save_answer(out, space, found, run / SEARCH)


def _keep_former_answer(run: RunFolder, stopped: Sequence[Stopped], say: Say) -> None:
    """Set aside the answer that a stopped search gave, where the search has gone on since."""
    path = run / "search" / STOPPED
    former: tuple[Stopped, ...] = read_value(tuple[Stopped, ...], path) if path.exists() else ()
    if former and [part.done for part in former] != [part.done for part in stopped]:
        last = former[-1]
        name = f"stopped_after_{last.done}_{last.unit.replace(' ', '_')}"
        run.set_aside(name)
        say(f"the search has gone on since {last.words}; its answer of then is in {run / name}")
        path.unlink()
    if stopped:
        write_json(path, [part.plain() for part in stopped])


def _answer(setting: Setting, found: SearchResult) -> Answer:
    """The answer that a resumed run already gave, or a new one: a latency measured twice must not change it."""
    run, space = setting.run, setting.space
    if (run / "certificate.json").exists() and (run / "decodes.json").exists():
        stored = load_architecture(run / "architecture.json").architecture
        space.check(stored)
        architecture = space.architecture(stored.as_dict())
        certificate = read_record(SearchCertificate, run / "certificate.json")
        decodes: tuple[DecodeTry, ...] = read_value(tuple[DecodeTry, ...], run / "decodes.json")
        return Answer(architecture, space.resolve(architecture), certificate, decodes)
    return _save_answer(run.path, space, found.answer(setting.latencies), run / SEARCH)


def _save_answer(folder: Path, space: SearchSpace, found: Answer, search: Path) -> Answer:
    """Write an answer into a folder, with what the folder of its search says of the weights that this started from."""
    if (start := start_record(search)) is not None:
        certificate = found.certificate.model_copy(update={"started_from": start.weights})
        found = replace(found, certificate=certificate)
    save_architecture(folder / "architecture.json", ArchitectureFile.of(space, found.architecture))
    write_json(folder / "decodes.json", [entry.plain() for entry in found.decodes])
    write_record(folder / "certificate.json", found.certificate)
    return found


def _table_words(metric: str) -> str:
    if metric == ENERGY:
        return "energy table"
    return f"{device}: latency table" if (device := device_of(metric)) else "latency table"


def _result(setting: Setting, conclusion: _Conclusion, trained: Training | None) -> RunResult:
    found = conclusion.found
    config, info, space = setting.config, setting.info, setting.space
    ledger = list(found.ledger)
    ledger[:0] = [
        LedgerEntry(part=_table_words(metric), seconds=found.fit.seconds)
        for metric, found in setting.latencies.items()
        if isinstance(found, LatencyTable)
    ]
    if trained is not None:
        ledger.append(trained[1])
    summary = {
        **{name: value for name, value in found.summary.items() if name in SearchSummary.model_fields},
        "own": {name: value for name, value in found.summary.items() if name not in SearchSummary.model_fields},
        "strategy": config.search.strategy,
        "seconds": found.seconds,
        "images": found.images,
        "validation_accuracy": conclusion.accuracy,
        "measure": found.measure,
        "decodes": conclusion.answer.decodes,
    }
    return RunResult(
        name=config.name,
        seed=config.seed,
        data=ResultData(
            name=info.name,
            classes=info.classes,
            parts={name: len(indices) for name, indices in setting.parts.items()},
        ),
        space=ResultSpace(
            name=space.name, digest=space.digest, size=stored_size(space.size), choices=len(space.choices)
        ),
        budgets={budget.metric: budget.limit for budget in setting.budgets},
        search=parse_record(SearchSummary, summary, f"summary of the search by {config.search.strategy}"),
        retrain=trained and trained[0],
        environment=read_record(Environment, setting.run / "environment.json"),
        cost_ledger=tuple(ledger),
    )
