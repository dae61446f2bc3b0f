"""What the page of a run reads: the records in the run's folder, checked against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from se_nas.cost.latencies import read_latencies, read_latency_files
from se_nas.cost.latency.table import LatencyFile, tells_blocks
from se_nas.cost.metrics import device_of
from se_nas.errors import ConfigError
from se_nas.evidence.se_by_runtime import SEInBlock, se_by_runtime
from se_nas.records.fields import Number, Share
from se_nas.records.measure import Measure
from se_nas.records.models.certificate import SearchCertificate
from se_nas.records.models.finalists import FinalistsFile
from se_nas.records.models.history import Epoch
from se_nas.records.models.run_result import RunResult
from se_nas.records.record import read_record
from se_nas.report.pages.class_accuracy import ClassTable, class_table
from se_nas.report.pages.reading import Learned, read_history, read_if_there, read_learned
from se_nas.report.plots import study as study_plots
from se_nas.search.black_box.evaluation import Evaluation, EvaluationsFile, evaluations_in
from se_nas.search.black_box.pareto import front_in
from se_nas.search.zero_cost.screen import SCREEN, ScreenFile
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import ArchitectureFile, load_architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space


@dataclass(frozen=True)
class Study:
    """What a black-box search wrote down, in the space that it searched."""

    space: SearchSpace
    sampler: str
    objectives: list[str]
    measure: Measure
    limits: Mapping[str, float]
    evaluations: list[Evaluation]
    importance: Mapping[str, float]
    chosen: Architecture
    screen: ScreenFile | None

    @cached_property
    def hypervolume(self) -> np.ndarray | None:
        """Of the front within the budgets, after each evaluation; None where it has none."""
        return study_plots.hypervolume_shares(self.evaluations, self.objectives, self.limits)

    @property
    def front(self) -> list[Evaluation]:
        """The front in the objectives; of a search for accuracy alone, in accuracy and the costs with budgets."""
        return front_in(self.evaluations, self.objectives, list(self.limits))


@dataclass(frozen=True)
class RunFiles:
    """What a run's folder holds; what is missing is empty. Latency tables are there by metric."""

    result: RunResult
    architecture: ArchitectureFile
    certificate: SearchCertificate
    search: tuple[Epoch, ...]
    retrain: tuple[Epoch, ...]
    classes: ClassTable | None
    choices: Mapping[str, list[Option]]
    latencies: Mapping[str, LatencyFile]
    se_by_device: Sequence[SEInBlock]
    study: Study | None
    configuration: str
    learned: Learned | None
    finalists: FinalistsFile | None


def read_run(folder: Path, configuration: str) -> RunFiles:
    """The run in a folder; see `run.write_report`."""
    architecture = load_architecture(folder / "architecture.json")  # first: it names plugins that the rest speaks of
    result = read_record(RunResult, folder / "result.json")
    certificate = read_record(SearchCertificate, folder / "certificate.json")
    search = read_history(folder / "search" / "history.json")
    retrain = read_history(folder / "retrain" / "history.json")
    return RunFiles(
        result=result,
        architecture=architecture,
        choices=_choices(folder, architecture.architecture, search),
        certificate=certificate,
        search=search,
        retrain=retrain,
        classes=class_table(retrain, folder / "retrain"),
        latencies=read_latency_files(folder, certificate.latency_conditions),
        se_by_device=_se_by_device(folder, certificate),
        study=_study(folder, architecture.architecture),
        configuration=configuration,
        learned=read_learned(folder),
        finalists=_finalists(folder),
    )


def _finalists(folder: Path) -> FinalistsFile | None:
    """The networks among which the answer was chosen by trainings, if it was."""
    path = folder / "finalists" / "finalists.json"
    return read_record(FinalistsFile, path) if path.exists() else None


def _se_by_device(folder: Path, certificate: SearchCertificate) -> list[SEInBlock]:
    """What SE takes of each block's time on each device; nothing of a run with less than two tables that tell it."""
    if not (folder / "space.yaml").exists():
        return []
    tables = read_latencies(folder, certificate.latency_conditions, load_space(folder / "space.yaml"))
    told = {metric: table for metric, table in tables.items() if tells_blocks(table.fit, len(table.block_ms))}
    named = {device_of(metric) or metric: table for metric, table in told.items()}
    return se_by_runtime(named) if len(named) > 1 else []


def _choices(folder: Path, chosen: Architecture, search: Iterable[Epoch]) -> dict[str, list[Option]]:
    """The options of every choice, as the picks and the probabilities of the other files need them."""
    path = folder / "choices.json"
    found: dict[str, list[Option]] = read_if_there(dict[str, list[int | Number | str]], path, {})
    if found and (folder / "space.yaml").exists():
        space = load_space(folder / "space.yaml")
        if found != {choice.name: list(choice.options) for choice in space.choices}:
            raise ConfigError(str(path), [f"file: must hold the choices of {folder / 'space.yaml'}, but holds others"])
    picks = chosen.as_dict()
    for name, options in found.items():
        if picks.get(name) not in options:
            must = f"{name}: must have the option of architecture.json, {picks.get(name)!r:.40}, but has not"
            raise ConfigError(str(path), [must])
    for row in search:
        for name, shares in (row.probabilities or {}).items():
            if name in found and len(shares) != len(found[name]):
                got = f"{len(shares)} and {len(found[name])}"
                raise ConfigError(str(path), [f"{name}: options must be as many as probabilities, but are {got}"])
    return found


def _study(folder: Path, chosen: Architecture) -> Study | None:
    """The black-box search of a run, if it had one."""
    path = folder / "search" / "evaluations.json"
    if not path.exists():
        return None
    space = load_space(folder / "space.yaml")
    space.check(chosen)
    chosen = space.architecture(chosen.as_dict())  # its picks are options of the space
    file, screen = read_record(EvaluationsFile, path), folder / "search" / SCREEN
    shares = folder / "search" / "importance.json"
    importance: dict[str, float] = read_if_there(dict[str, Share], shares, {})
    for name in importance.keys() - space.choice_by_name.keys():
        must = f"must hold choices of {folder / 'space.yaml'} alone, but has {name!r:.60}"
        raise ConfigError(str(shares), [f"file: {must}"])
    return Study(
        space,
        sampler=file.sampler,
        objectives=list(file.objectives),
        measure=file.measure,
        limits={str(metric): limit for metric, limit in file.budgets.items()},
        evaluations=evaluations_in(file, space, str(path)),
        importance=importance,
        chosen=chosen,
        screen=read_record(ScreenFile, screen) if screen.exists() else None,
    )
