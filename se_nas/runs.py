"""A run: everything from a YAML file to a certified, retrained architecture with a report, resumable at every point."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from se_nas.cost.budget import Budget, format_cost, parse_budgets
from se_nas.cost.latency_measure import LatencyKey, latency_key
from se_nas.cost.latency_table import LatencyTable, build_latency_table, latency_report_lines
from se_nas.cost.table import CostTable, count_tables
from se_nas.data.images import DataInfo, ImageSet
from se_nas.data.options import DataOptions
from se_nas.data.parts import load_parts, save_parts, split_parts
from se_nas.data.sources import load_test, load_train
from se_nas.errors import ConfigError, OutputError
from se_nas.evidence.report import write_report
from se_nas.files import write_atomic, write_json
from se_nas.search.certificate import Answer, answer
from se_nas.search.decode import check_feasible
from se_nas.search.differentiable import (
    DifferentiableConfig,
    SearchResult,
    search_differentiable,
    validation_accuracy,
)
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import ArchitectureFile, load_architecture, save_architecture
from se_nas.space.files import dump_space, load_space, read_yaml, validation_problems
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec
from se_nas.training.checkpoint import save_checkpoint
from se_nas.training.device import pick_device
from se_nas.training.environment import describe_environment
from se_nas.training.stand_alone import Trained, TrainingRecipe, train_network

Say = Callable[[str], None]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Model):
    """Which images; see `data.options.DataOptions`."""

    name: str = "digits"
    dir: str | None = None
    download: bool = False
    size: int = Field(2000, ge=1)


class LatencyConfig(_Model):
    """Under which conditions latency is measured; see `cost.latency_measure.LatencyKey`. `device` null is the run's."""

    device: str | None = None
    backend: str = "eager"
    dtype: str = "float32"
    batch_size: int = Field(1, ge=1)
    threads: int = Field(1, ge=1)

    def key(self, device: str) -> LatencyKey:
        """The key for this machine, on `device` where none is set; DeviceError when it is not there."""
        return latency_key(
            pick_device(self.device or device).type, self.backend, self.dtype, self.batch_size, self.threads
        )


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[\w\-]+", name):
        raise ValueError("must be letters, digits, - and _ only")
    return name


class RunConfig(_Model):
    """A run file.

    Attributes:
        space: path of the search space, relative to the run file.
        parts: shares of the training images for weight steps, choice steps and validation.
        budgets: limits by metric, such as `macs: 20M`.
        retrain: the recipe of the winner's training from scratch; null for none.
    """

    name: Annotated[str, AfterValidator(_folder_name)]
    seed: int = Field(0, ge=0)
    device: str = "auto"
    space: str
    data: DataConfig = DataConfig()
    parts: dict[str, float] = {"weights": 0.5, "choices": 0.4, "validation": 0.1}
    budgets: dict[str, Any] = {}
    latency: LatencyConfig = LatencyConfig()
    search: DifferentiableConfig = DifferentiableConfig()
    retrain: TrainingRecipe | None = TrainingRecipe()


def load_run(path: str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> RunConfig:
    """Read a run file.

    Args:
        changes: values by dotted path, such as `{"search.epochs": 3}`, that replace the file's.

    Raises:
        ConfigError: with every fault found.
    """
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise ConfigError(str(path), [f"file: must be a mapping, but got {type(value).__name__}"])
    for dotted, new in (changes or {}).items():
        *parents, last = dotted.split(".")
        at = value
        for parent in parents:
            at = at.setdefault(parent, {})
            if not isinstance(at, dict):
                raise ConfigError(str(path), [f"{dotted}: `{parent}` must be a mapping to set a value in it"])
        at[last] = new
    try:
        config = RunConfig.model_validate(value)
    except ValidationError as error:
        raise ConfigError(str(path), validation_problems(error)) from error
    if set(config.parts) != {"weights", "choices", "validation"}:
        raise ConfigError(str(path), [f"parts: must be weights, choices and validation, but got {list(config.parts)}"])
    parse_budgets(config.budgets, str(path))
    return config


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def read(self, name: str) -> Any:
        """A JSON file of the run; ConfigError when it is damaged or missing."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(str(self.path / name), [f"file: must be readable, but got: {error.strerror}"]) from error
        except ValueError as error:
            raise ConfigError(str(self.path / name), [f"file: must be JSON, but got: {error}"]) from error

    @property
    def space(self) -> SearchSpace:
        """The space that was searched."""
        return load_space(self.path / "space.yaml")


def run_search(run_file: Path, config: RunConfig, folder: Path, *, resume: bool, progress: bool, say: Say) -> RunFolder:
    """Do a whole run, or what is left of one.

    Raises:
        ConfigError: a fault in the configuration, or `resume` with another one.
        OutputError: the folder holds a run and `resume` is not given, or cannot be written to.
        InfeasibleBudgetError: no architecture keeps the budgets; before any training.
        SeNasError: the other faults a user can cause.
    """
    run = RunFolder(folder)
    _pin_threads()
    # the space lies beside the configuration, so that `se-nas search FOLDER/config.yaml` does the same again
    resolved = config.model_dump(mode="json") | {"space": "space.yaml"}
    begun = _has_begun(folder, resolved, resume)
    device = pick_device(config.device)
    key = config.latency.key(config.device)
    budgets = parse_budgets(config.budgets, str(run_file))
    space_file = run_file.parent / config.space
    space = load_space(space_file)
    options = DataOptions(
        config.data.name,
        Path(config.data.dir) if config.data.dir else None,
        space.resolution,
        config.data.download,
        config.seed,
        config.data.size,
    )
    info, train = load_train(options)
    space = replace(space, classes=info.classes, channels=info.channels)
    if begun and run.space.digest != space.digest:
        raise ConfigError(
            str(space_file), [f"must be the space of the run that --resume continues, {run / 'space.yaml'}"]
        )
    parts = (
        load_parts(run / "parts.json", train.labels) if begun else split_parts(train.labels, config.parts, config.seed)
    )
    sizes = ", ".join(f"{len(indices)} for {name}" for name, indices in parts.items())
    say(f"{config.name}: space {space.name} of {space.size:.3g} networks, {info.name} ({sizes}), device {device}")

    count_only = count_tables(space)
    # an infeasible count budget ends here, before minutes of timing
    check_feasible(space, count_only, [b for b in budgets if b.metric in count_only])
    latency = _latency(run, begun, space, key, config.seed, progress)
    for line in latency_report_lines(latency):
        say(line)
    tables = {**count_only, "latency_ms": latency.table}
    check_feasible(space, tables, budgets)
    if not begun:
        write_atomic(run / "space.yaml", dump_space(space))
        write_json(run / "choices.json", {choice.name: list(choice.options) for choice in space.choices})
        save_parts(run / "parts.json", parts, train.labels, config.seed)
        write_json(run / "latency.json", latency.to_dict())
        _begin(folder, resolved)

    problem = SearchProblem(
        space, budgets, tables, info, train, parts, device, config.seed, run / "search", resume, progress
    )
    result = search_differentiable(problem, config.search)
    _save_search(run, result)
    found = _answer(run, space, tables, latency, budgets, result)
    for entry in found.certificate["budgets"]:
        value, limit = (format_cost(entry["metric"], entry[name]) for name in ("value", "limit"))
        say(f"budget {entry['metric']}: {value} of {limit} ({entry['how']})")
    inherited = validation_accuracy(problem, result, found.architecture, config.search.calibration_images)
    say(f"with the supernet's weights: {inherited:.2%} on {len(parts['validation'])} validation images")

    trained = None
    if config.retrain is not None:
        trained = retrain(
            found.network, config.retrain, info, train, options, device, config.seed, run / "retrain", resume, progress
        )
        say(f"retrained: {trained.test_accuracy:.2%} on the test images")
    write_json(
        run / "result.json",
        _result(run, config, info, space, parts, budgets, result, found, inherited, trained, latency),
    )
    write_report(run.path)
    return run


def retrain(
    spec: NetworkSpec,
    recipe: TrainingRecipe,
    info: DataInfo,
    train: ImageSet,
    options: DataOptions,
    device: torch.device,
    seed: int,
    folder: Path,
    resume: bool,
    progress: bool,
) -> Trained:
    """Train a network from scratch; `folder` gets its history and, as `network.pt`, its weights."""
    test = load_test(options)
    trained = train_network(
        spec, recipe, info, train, test, device=device, seed=seed, folder=folder, resume=resume, progress=progress
    )
    write_json(folder / "history.json", trained.history)
    save_checkpoint(folder / "network.pt", {"network": trained.network.state_dict()})
    return trained


def decode_again(folder: Path, budgets: Sequence[Budget], out: Path) -> Answer:
    """Another answer of a finished search, under other budgets, in `out`.

    Raises:
        ConfigError: the folder holds no finished search.
        OutputError: `out` is the folder of a run, or cannot be written to.
        InfeasibleBudgetError: no architecture keeps the budgets.
    """
    run = RunFolder(folder)
    if (out / "config.yaml").exists():
        raise OutputError(
            f"{out}: the folder for the answer must not be that of a run, but it is; choose another --out"
        )
    if not (run / "search/scores.json").exists():
        raise ConfigError(
            str(folder), ["must be the folder of a run whose search is done, but it has no search/scores.json"]
        )
    scores = run.read("search/scores.json")
    space = run.space
    latency = LatencyTable.from_dict(space, run.read("latency.json"), str(run / "latency.json"))
    tables = {**count_tables(space), "latency_ms": latency.table}
    found = answer(space, tables, latency, budgets, scores)
    _save_answer(out, space, found)
    return found


def retrain_exported(
    architecture: Path,
    recipe: TrainingRecipe,
    data: DataOptions,
    device: torch.device,
    folder: Path,
    *,
    seed: int,
    resume: bool,
    progress: bool,
) -> Trained:
    """Train the network of an architecture file from scratch, its classifier made for the classes of `data`.

    Raises:
        ArchitectureError: the file holds no architecture that this version can read.
        OutputError: the folder holds a training and `resume` is not given, or cannot be written to.
        ConfigError: `resume` with other settings.
        DataError: the data are missing or damaged.
    """
    _pin_threads()
    spec = load_architecture(architecture).network
    data = replace(data, resolution=spec.resolution)
    info, train = load_train(data)
    spec = replace(spec, head=replace(spec.head, classes=info.classes))
    resolved = {
        "network": json.loads(json.dumps(spec.to_dict())),
        "data": {"name": data.name, "dir": str(data.data_dir) if data.data_dir else None, "size": data.size},
        "recipe": recipe.model_dump(mode="json"),
        "seed": seed,
    }
    if not _has_begun(folder, resolved, resume):
        write_json(folder / "environment.json", describe_environment())
        _begin(folder, resolved)
    trained = retrain(spec, recipe, info, train, data, device, seed, folder, resume, progress)
    write_json(
        folder / "result.json",
        {
            "data": data.name,
            "seed": seed,
            "retrain": _retrained(trained, recipe),
            "environment": RunFolder(folder).read("environment.json"),
        },
    )
    return trained


def parse_recipe(path: Path | None, changes: Mapping[str, Any]) -> TrainingRecipe:
    """A recipe from a YAML file, or the default one, with some values replaced; ConfigError with every fault."""
    value = {} if path is None else read_yaml(path)
    if not isinstance(value, dict):
        raise ConfigError(str(path), [f"file: must be a mapping, but got {type(value).__name__}"])
    try:
        return TrainingRecipe.model_validate({**value, **changes})
    except ValidationError as error:
        raise ConfigError(str(path or "recipe"), validation_problems(error)) from error


def _has_begun(folder: Path, resolved: Mapping[str, Any], resume: bool) -> bool:
    """Whether the folder holds this very run; an error when it holds another, or this one and `resume` is not given."""
    path = folder / "config.yaml"
    if not path.exists():
        return False
    if not resume:
        raise OutputError(f"{folder}: the folder must hold no run yet, but it does; add --resume or choose --out")
    before, now = dict(_flat(read_yaml(path))), dict(_flat(resolved))
    # where the data lie may change; that they are the same is seen by the parts
    differ = [n for n in {**before, **now} if before.get(n) != now.get(n) and n not in ("data.dir", "data.download")]
    if differ:
        must = "must be as in the run that --resume continues"
        raise ConfigError(str(path), [f"{n}: {must}, {before.get(n)!r}, but got {now.get(n)!r}" for n in differ])
    return True


def _pin_threads() -> None:
    """Fix the number of threads at what it is, as measuring latency does, so that a resumed process sums alike."""
    torch.set_num_threads(torch.get_num_threads())


def _begin(folder: Path, resolved: Mapping[str, Any]) -> None:
    """Mark the folder as holding a run; last of all that a run starts with, so that a refused run leaves no mark."""
    write_atomic(folder / "config.yaml", yaml.safe_dump(dict(resolved), sort_keys=False))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value in nested mappings, by its dotted path."""
    if not isinstance(value, dict) or not value:
        yield path or "file", value
        return
    for name, item in value.items():
        yield from _flat(item, f"{path}.{name}" if path else str(name))


def _latency(
    run: RunFolder, begun: bool, space: SearchSpace, key: LatencyKey, seed: int, progress: bool
) -> LatencyTable:
    """The table that the run began with, else the cached or a new one."""
    if begun:
        return LatencyTable.from_dict(space, run.read("latency.json"), str(run / "latency.json"))
    write_json(
        run / "environment.json", describe_environment()
    )  # a folder that cannot be written to fails before the timing
    return build_latency_table(space, key, seed=seed, progress=progress)


def _save_search(run: RunFolder, result: SearchResult) -> None:
    write_json(run / "search/history.json", result.history)
    write_json(run / "search/scores.json", result.scores)


def _answer(
    run: RunFolder,
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    latency: LatencyTable,
    budgets: Sequence[Budget],
    result: SearchResult,
) -> Answer:
    """The answer that a resumed run already gave, or a new one: a latency measured twice must not change it."""
    if (run / "certificate.json").exists() and (run / "decodes.json").exists():
        architecture = load_architecture(run / "architecture.json").architecture
        return Answer(architecture, space.resolve(architecture), run.read("certificate.json"), run.read("decodes.json"))
    found = answer(space, tables, latency, budgets, result.scores)
    _save_answer(run.path, space, found)
    return found


def _save_answer(folder: Path, space: SearchSpace, found: Answer) -> None:
    save_architecture(folder / "architecture.json", ArchitectureFile(found.architecture, space.name, found.network))
    write_json(folder / "decodes.json", found.decodes)
    write_json(folder / "certificate.json", found.certificate)


def _result(
    run: RunFolder,
    config: RunConfig,
    info: DataInfo,
    space: SearchSpace,
    parts: Mapping[str, torch.Tensor],
    budgets: Sequence[Budget],
    result: SearchResult,
    found: Answer,
    inherited: float,
    trained: Trained | None,
    latency: LatencyTable,
) -> dict[str, Any]:
    ledger = [
        {"part": "latency table", "seconds": latency.report.seconds},
        {"part": "search", "seconds": result.seconds, "images": result.images},
    ]
    retrained = None
    if trained is not None and config.retrain is not None:
        ledger.append({"part": "retraining", "seconds": trained.seconds, "images": trained.images})
        retrained = _retrained(trained, config.retrain)
    return {
        "name": config.name,
        "seed": config.seed,
        "data": {"name": info.name, "classes": info.classes, "parts": {name: len(p) for name, p in parts.items()}},
        "space": {"name": space.name, "digest": space.digest, "size": str(space.size), "choices": len(space.choices)},
        "budgets": {budget.metric: budget.limit for budget in budgets},
        "search": {
            "strategy": config.search.strategy,
            "epochs": config.search.epochs,
            "warmup_epochs": config.search.warmup_epochs,
            "seconds": result.seconds,
            "images": result.images,
            "validation_accuracy": inherited,
            "decodes": found.decodes,
        },
        "retrain": retrained,
        "environment": run.read("environment.json"),
        "cost_ledger": ledger,
    }


def _retrained(trained: Trained, recipe: TrainingRecipe) -> dict[str, Any]:
    return {
        "epochs": recipe.epochs,
        "seconds": trained.seconds,
        "images": trained.images,
        "test_accuracy": trained.test_accuracy,
        "ema_test_accuracy": trained.ema_test_accuracy,
        "train_accuracy": trained.history[-1]["accuracy"],
        "test_images": trained.test_images,
    }
