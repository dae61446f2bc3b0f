"""The commands as functions of a program: a run, a training, an evaluation, an export, a report, a certificate.

What a run file says is given as arguments, and paths are relative to the working folder.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from se_nas.cost.budget import Budget, parse_budgets
from se_nas.cost.latency.timing import latency_key, measure_network
from se_nas.cost.metrics import LATENCY
from se_nas.data.in_memory.options import DataOptions
from se_nas.errors import ConfigError
from se_nas.export.record import ExportReport
from se_nas.hardware.device import pick_device
from se_nas.hardware.lines import silent
from se_nas.hardware.rank import check_processes
from se_nas.records.models.certificate import SearchCertificate
from se_nas.records.models.run_result import RunResult
from se_nas.records.record import read_record
from se_nas.report.pages.retraining import is_retraining, write_retrain_report
from se_nas.report.pages.run import write_report
from se_nas.runs.export import Int8Options, export_retrained
from se_nas.runs.retraining.in_memory import retrain_exported
from se_nas.runs.retraining.job import Job
from se_nas.runs.run_file import parse_run
from se_nas.runs.run_folder import alone_in
from se_nas.runs.search import decode_again, run_search
from se_nas.runs.shown import shown_configuration
from se_nas.runs.shown_images import ImageRequest, evaluate_shown
from se_nas.search.certificate import certify as certificate_of
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, save_architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import dump_space
from se_nas.training.evaluate import TopAccuracies
from se_nas.training.in_memory import Retrained
from se_nas.training.recipe_files import DEFAULT

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class RunAnswer:
    """An answer of a search, as it lies in a folder.

    Attributes:
        folder: where it is.
        architecture: the answer, with the network that it stands for.
        certificate: what is known of its costs, as `certificate.json` has it.
    """

    folder: Path
    architecture: ArchitectureFile
    certificate: SearchCertificate


@dataclass(frozen=True, kw_only=True)
class FinishedRun(RunAnswer):
    """What a search has left in its folder, which every command takes.

    Attributes:
        result: what `result.json` has: budgets, data, the search's accuracy, the retraining's.
    """

    result: RunResult


def run(
    space: SearchSpace | PathLike,
    folder: PathLike,
    *,
    budgets: Mapping[str, float | str],
    data: str | Mapping[str, Any] = "digits",
    strategy: Mapping[str, Any] | None = None,
    retrain: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    progress: bool = False,
) -> FinishedRun:
    """Do a whole run, as `se-nas search` does: supernet, search, decode, certificate, retraining, report.

    Args:
        space: a space, its file, or the name of a shipped one.
        folder: the run's, which must hold no run yet unless `resume` is given.
        budgets: limits by metric, such as `{"macs": "6M", "latency_ms": 2.0}`.
        data: a name in `DATASETS`, or what a run file says under `data:`, such as `{"name": "cifar10", "dir": "data"}`.
        strategy: what a run file says under `search:`, such as `{"strategy": "optuna", "max_evaluations": 200}`.
        retrain: what it says under `retrain:`; None for no retraining.
        settings: its other keys, such as `{"latency": {"threads": 2}}`.

    Raises:
        ConfigError: a fault in the arguments; those of a run file are named by their paths in it.
        InfeasibleBudgetError: no architecture keeps the budgets; before any training.
        OutputError: the folder holds a run already, or cannot be written to.
        SeNasError: the other faults a user can cause.
    """
    check_processes("run()", "one")
    place = Path(folder)
    with _as_file(space) as space_file:
        values = {
            **(settings or {}),
            "name": place.resolve().name,
            "seed": seed,
            "device": device,
            "space": str(space_file),
            "data": {"name": data} if isinstance(data, str) else dict(data),
            "budgets": dict(budgets),
            "search": dict(strategy or {"strategy": "differentiable"}),
            "retrain": None if retrain is None else dict(retrain),
        }
        config = parse_run(values, "run()")
        run_search(Path("run()"), config, place, resume=resume, progress=progress, say=silent)
    return FinishedRun(
        folder=place,
        architecture=load_architecture(place / "architecture.json"),
        certificate=read_record(SearchCertificate, place / "certificate.json"),
        result=read_record(RunResult, place / "result.json"),
    )


def decode_run(folder: PathLike, out: PathLike, budgets: Mapping[str, float | str]) -> RunAnswer:
    """Answer other budgets from a finished run, as `se-nas decode` does: in seconds, without a new search.

    Args:
        folder: the run's.
        out: where the answer goes.
        budgets: limits by metric, such as `{"macs": "4M"}`.

    Raises:
        InfeasibleBudgetError: no architecture keeps the budgets.
        SeNasError: the folder holds no finished search, or `out` cannot be written to.
    """
    place = Path(out)
    decode_again(Path(folder), parse_budgets(dict(budgets), "decode_run()"), place)
    return RunAnswer(
        folder=place,
        architecture=load_architecture(place / "architecture.json"),
        certificate=read_record(SearchCertificate, place / "certificate.json"),
    )


@contextmanager
def _as_file(space: SearchSpace | PathLike) -> Iterator[PathLike]:
    if not isinstance(space, SearchSpace):
        yield space
        return
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / f"{space.name}.yaml"
        file.write_text(dump_space(space), encoding="utf-8")
        yield file


def train(
    architecture: ArchitectureFile | PathLike,
    folder: PathLike,
    *,
    data: str,
    data_dir: PathLike | None = None,
    recipe: str = DEFAULT,
    changes: Mapping[str, Any] | None = None,
    weights: PathLike | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    progress: bool = False,
) -> Retrained:
    """Train a network from scratch, or from given weights, on images that fit the memory, as `se-nas retrain` does.

    Args:
        architecture: an architecture, its file, a published network's file, or the name of a shipped one.
        folder: where weights and history go.
        recipe: a name in `RECIPES` or a YAML file.
        changes: values that replace the recipe's, such as `{"epochs": 30}`.
        weights: a file to start from.

    Raises:
        SeNasError: the architecture, the recipe, the data or the folder cannot be used.
    """
    with tempfile.TemporaryDirectory() as place:
        if isinstance(architecture, ArchitectureFile):
            save_architecture(Path(place) / "architecture.json", architecture)
            architecture = Path(place) / "architecture.json"
        job = Job(
            architecture=Path(architecture),
            data=DataOptions(data, Path(data_dir) if data_dir else None, seed=seed),
            folder=Path(folder),
            recipe=recipe,
            changes=changes or {},
            seed=seed,
            weights=Path(weights) if weights else None,
        )
        trained = retrain_exported(job, pick_device(device), resume=resume, progress=progress, say=silent)
    if trained is None:
        raise ConfigError("train()", ["must be called by one process alone; for several there is `se-nas retrain`"])
    return trained


def evaluate(
    source: PathLike,
    *,
    weights: PathLike | None = None,
    average: bool | None = None,
    data: str | None = None,
    data_dir: PathLike | None = None,
    device: str = "auto",
) -> TopAccuracies:
    """How many of the test images a trained network gets right.

    Args:
        source: a run's folder, a retraining's, or an architecture.json and `weights`.
        average: whether the averaged weights are wanted; None takes those that did better when they were trained.
        data: a name in `DATASETS`; by default what the network was trained on.
        data_dir: its folder; by default where it lay then.

    Raises:
        SeNasError: the network or the images cannot be read, or do not fit each other.
    """
    request = ImageRequest(
        source=Path(source),
        weights=Path(weights) if weights else None,
        average=average,
        data=data,
        data_dir=Path(data_dir) if data_dir else None,
    )
    return evaluate_shown(request, pick_device(device), progress=False, say=silent)


def export_trained(
    source: PathLike,
    folder: PathLike,
    forms: Sequence[str] | None = None,
    *,
    weights: PathLike | None = None,
    average: bool | None = None,
    opset: int | None = None,
    int8: bool = False,
    int8_float_se: str | None = None,
    data_dir: PathLike | None = None,
) -> ExportReport:
    """Write a trained network as ONNX, torch.export, a plain module or a timm model, as `se-nas export` does.

    Args:
        source: a retraining's folder, such as RUN/retrain, or an architecture.json and `weights`.
        forms: names in `FORMS`; by default all whose packages are installed.
        opset: of ONNX, from 13 to 25; by default 18.
        int8: whether ONNX is written in INT8 too, quantised on training images.
        int8_float_se: blocks whose SE stays in float there: "all", or their numbers from 1, such as "3,5".
        data_dir: the folder of the images; by default where they lay for the training.

    Returns:
        What `export.json` holds: how well each form agrees with the network, and how fast it is.

    Raises:
        ExportError: a form is unknown, needs an extra that is not installed, or differs from the network.
        SeNasError: the network cannot be read.
    """
    start = Path(weights) if weights else None
    if not int8 and (int8_float_se is not None or data_dir is not None):
        raise ConfigError("int8", ["must be true where int8_float_se or data_dir is given, but got false"])
    quantise = Int8Options(float_se=int8_float_se, data_dir=Path(data_dir) if data_dir else None) if int8 else None
    return export_retrained(
        Path(source), Path(folder), forms, weights=start, average=average, opset=opset, int8=quantise, say=silent
    )


def render_report(folder: PathLike) -> Path:
    """Write report.html of a finished run, or of a retraining on images that stay on disk, again; its path.

    Raises:
        SeNasError: the folder lacks files of a run, or they are damaged.
    """
    place = Path(folder)
    retraining = is_retraining(place)
    with alone_in(place):
        if retraining:
            return write_retrain_report(place)
        return write_report(place, shown_configuration(place / "config.yaml"))


def certify(
    network: NetworkSpec,
    budgets: Sequence[Budget] = (),
    *,
    device: str = "cpu",
    runtime: str | None = None,
    dtype: str = "float32",
    batch_size: int = 1,
    threads: int = 1,
) -> SearchCertificate:
    """The certificate of any network: MACs and parameters counted, latency measured on this machine, budgets held.

    Raises:
        SeNasError: the network does not keep a budget.
        DeviceError: this machine has not what the conditions name.
    """
    key = latency_key(device, runtime, dtype, batch_size, threads)
    return certificate_of(network, budgets, {LATENCY: key}, None, {LATENCY: measure_network(network, key)})
