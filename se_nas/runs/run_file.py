"""The run file: what a run is to do, read from YAML with every fault found at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    SerializeAsAny,
    ValidationError,
    create_model,
)

from se_nas.cost.budget import Budget, parse_budgets
from se_nas.cost.latencies import latency_problems
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency_config import LatencyConfig, parse_latency
from se_nas.cost.metrics import device_of, latency_on
from se_nas.data.file_options import FileOptions
from se_nas.data.image_file import MAX_DAMAGED
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import data_name, stays_on_disk
from se_nas.errors import ConfigError, short
from se_nas.plugins import load_plugins
from se_nas.records.bounds import MOST_COUNT, MOST_WORKERS
from se_nas.records.fields import PathText
from se_nas.records.models.plan import Primary
from se_nas.records.numbers import Count, CountFromZero, Seed, Workers
from se_nas.records.record import Record
from se_nas.records.run_log import LOGGERS
from se_nas.records.yaml_input import read_yaml, unknown_keys, validation_problems
from se_nas.runs.secret_references import literal_secrets
from se_nas.search.differentiable.search import DifferentiableConfig
from se_nas.search.finalists import FinalistsConfig, check_finalists, with_recipe
from se_nas.search.strategies import DEFAULT, STRATEGIES, parse_search, strategy_of, study_config
from se_nas.search.strategy_config import StrategyConfig
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import not_empty
from se_nas.training.images import check_for_disk
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import default_recipe, recipe_faults, whole_recipe


class DataConfig(Record):
    """Which images a run learns from; see `data.in_memory.options.DataOptions`.

    Attributes:
        name: "digits", "cifar10", "cifar100", "folder" or "synthetic", whose images are held in memory; those of
            "imagenet" (any in its layout), "shards" and "folder_on_disk" stay on disk and are decoded when needed.
        dir: the folder that holds them, relative to the run file; --data-dir replaces it, relative to the shell.
        download: fetch a CIFAR data set into `dir` if it is not there.
        size: how many images "synthetic" makes.
        orient: whether the orientation that cameras note in EXIF is applied.
        value_range: the values that become black and white in images of more than 8 bits; null is the range of 16.
        max_damaged: so many images of a folder may be damaged; each is named and left out.
        val_labels: a file with the classes of a folder's test images, where these lie unsorted.
        workers: processes that decode the images of one part, where these stay on disk; 0 decodes in the search's own.
    """

    name: Annotated[str, AfterValidator(data_name)] = "digits"
    dir: PathText | None = None
    download: bool = False
    size: Count = 2000
    orient: bool = True
    value_range: tuple[FiniteFloat, FiniteFloat] | None = None
    max_damaged: CountFromZero = MAX_DAMAGED
    val_labels: PathText | None = None
    workers: int = Field(4, ge=0, le=MOST_WORKERS)

    def options(self, space: SearchSpace, seed: int) -> DataOptions:
        """What to load, for a space's resolution and channels.

        Networks of several resolutions see images that are resized once, from the data set's own size.
        """
        one, *more = space.resolutions
        place = Path(self.dir) if self.dir else None
        files = FileOptions(
            orient=self.orient,
            value_range=self.value_range,
            max_damaged=self.max_damaged,
            val_labels=Path(self.val_labels) if self.val_labels else None,
        )
        return DataOptions(
            self.name,
            place,
            None if more else one,
            self.download,
            seed,
            self.size,
            channels=space.channels,
            files=files,
            largest=max(space.resolutions),
        )


class NNIConfig(Record):
    """How `se-nas launch` runs the search under NNI.

    Attributes:
        concurrency: trials at a time.
        seeds, budgets: a trial of a differentiable search is one search; there is one for each seed and each entry of
            budgets, which replaces the run's own limits. A black-box search does not read them.
        training_service: passed on to NNI as it is, such as `{platform: remote, machine_list: [...]}`; a password is
            a reference (see `secret_references`).
        experiment: other fields of NNI's experiment configuration, passed on as they are.
    """

    concurrency: Workers = 1
    seeds: tuple[Seed, ...] = ()
    budgets: tuple[dict[str, object], ...] = ()
    training_service: dict[str, object] = Field({"platform": "local"})
    experiment: dict[str, object] = Field({})


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[\w\-]+", name):
        raise ValueError("must be letters, digits, - and _ only")
    return name


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must hold no value twice")
    return values


def _all_parts(parts: dict[str, float]) -> dict[str, float]:
    if set(parts) != {"weights", "choices", "validation"}:
        raise ValueError("must be weights, choices and validation")
    return parts


Parts = Annotated[dict[str, float], AfterValidator(_all_parts)]
LoggerName = Annotated[str, AfterValidator(lambda name: LOGGERS.checked(name))]
Seeds = Annotated[tuple[Seed, ...], AfterValidator(_distinct)]


#: Of every comparison where there is no plan, and none are given.
SEEDS = (0, 1, 2)


class EvidenceConfig(Record):
    """What `se-nas evidence` compares a run's answer with, and how often.

    Attributes:
        primary: the one comparison that is the claim, planned before anything is trained; null for none, so that all
            comparisons share Holm's correction.
        seeds: every network of a comparison is trained with each of these, so that differences are paired; null for as
            many as the plan of `primary` needs, and 0, 1 and 2 without one.
        random: random networks at the same budgets; null for as many as could be trained in the time that the search
            took, and 5 at least.
        of_size: random networks whose costs in the budgets are within 10 % of the answer's, so that its size explains
            nothing.
        best_of: random networks at the same budgets among which the supernet picks one.
        ratios: SE everywhere at each of these ratios, as large as the budgets allow.
        published: space files of one network each, made to fit the images and the budgets.
        others: folders of other finished runs of the same space, data and budgets, whose answers join; what their
            evidence has trained with the same settings is taken over.
        searches: seeds of further searches, which tell how stable the answer is.
        within, space: random networks at the budgets, and of the whole space, for the rank correlation; they are
            trained with the first seed, but those that are controls too with all.
        contexts: networks, the answer among them, in which each block's SE is switched.
        stand_alone_se: also train the answer without each of its SE units, one at a time.
        timed: how many of the best networks by the supernet are timed, and how many random ones.
    """

    primary: Primary | None = None
    seeds: Annotated[Seeds, AfterValidator(not_empty)] | None = None
    random: Count | None = None
    of_size: CountFromZero = 0
    best_of: Count = 50
    ratios: Annotated[tuple[Annotated[float, Field(ge=1)], ...], AfterValidator(_distinct)] = (4, 16)
    published: tuple[PathText, ...] = ()
    others: tuple[PathText, ...] = ()
    searches: Seeds = ()
    within: CountFromZero = 30
    space: CountFromZero = 30
    contexts: Count = 4
    stand_alone_se: bool = False
    timed: int = Field(10, ge=2, le=MOST_COUNT)


#: Of whichever model the strategy's entry in the registry has.
SearchConfig = Annotated[SerializeAsAny[StrategyConfig], BeforeValidator(parse_search)]
RetrainConfig = Annotated[Recipe, BeforeValidator(whole_recipe)]


class RunConfig(Record):
    """What a run is to do, from the images to the evidence.

    Attributes:
        name: what the run is called; its folder has this name unless --out says otherwise.
        seed: everything that is random in the run follows from it.
        device: "auto", "cpu", "cuda", "mps" or "xpu"; "auto" takes the fastest there is, and "cuda:1" the second of
            several.
        data: the images.
        latency: the conditions under which latency is measured; of several devices a mapping of those of each by its
            name, such as `{server: {runtime: onnxruntime}, phone: {...}}`, each a metric: `latency_ms.phone`.
        search: how the run searches.
        nni: how `se-nas launch` runs the search.
        plugins: modules of your own that are imported before the rest is read, or .py files relative to the run file.
        loggers: what takes the numbers of the search and the retraining: names in `LOGGERS`, such as "wandb" or
            "mlflow"; null for TensorBoard and those of plugins.
        space: path of the search space, relative to the run file, or the name of a shipped one.
        parts: shares of the training images for weight steps, choice steps and validation.
        budgets: limits by metric, such as `macs: 20M`.
        retrain: the recipe by which the winner is trained from scratch, as the values that differ from those of a
            shipped recipe, `base`; null for no training.
        finalists: the networks that are trained at the end of the search, of which the best is its answer; null for the
            search's own answer.
        evidence: what the answer is compared with once it is trained; null for nothing.
    """

    plugins: tuple[str, ...] = ()
    name: Annotated[str, AfterValidator(_folder_name)]
    seed: Seed = 0
    device: str = "auto"
    space: PathText
    data: DataConfig = DataConfig()
    parts: Parts = Field({"weights": 0.5, "choices": 0.4, "validation": 0.1})
    budgets: dict[str, object] = Field({})
    latency: Annotated[LatencyConfig | dict[str, LatencyConfig], BeforeValidator(parse_latency)] = LatencyConfig()
    search: SearchConfig = DifferentiableConfig()
    retrain: RetrainConfig | None = Field(default_factory=default_recipe)
    nni: NNIConfig = NNIConfig()
    finalists: FinalistsConfig | None = None
    evidence: EvidenceConfig | None = None
    loggers: Annotated[tuple[LoggerName, ...], AfterValidator(_distinct)] | None = None

    @property
    def latencies(self) -> dict[str, LatencyConfig]:
        """The conditions of each latency, by metric."""
        devices = {None: self.latency} if isinstance(self.latency, LatencyConfig) else self.latency
        return {latency_on(name): conditions for name, conditions in devices.items()}

    def with_latencies(self, change: Callable[[LatencyConfig], LatencyConfig]) -> RunConfig:
        """The same with other conditions of each latency."""
        if isinstance(self.latency, LatencyConfig):
            return self.model_copy(update={"latency": change(self.latency)})
        return self.model_copy(update={"latency": {name: change(found) for name, found in self.latency.items()}})

    def latency_key(self, metric: str) -> LatencyKey:
        """The key of one of `latencies` for this machine; DeviceError when it has not what the conditions name."""
        return self.latencies[metric].key(self.device, device_of(metric))

    def latency_faults(self, used: Iterable[tuple[str, str]]) -> Iterator[str]:
        """A line for each latency that is asked for and cannot be had, of pairs of a place and the metric there."""
        used = list(used)
        yield from latency_problems(used, self.latencies)
        for where, metric in used:
            if metric in self.latencies and not self.latencies[metric].table:
                yield f"{where}: {metric} needs {self.latency_place(metric)}.table, but it is off"

    @staticmethod
    def latency_place(metric: str) -> str:
        """Where the conditions of a latency stand."""
        device = device_of(metric)
        return "latency" if device is None else f"latency.{device}"


def load_plugins_of(path: str | os.PathLike[str]) -> None:
    """Import what a run file, where there is one, names: for who reads before it what it is changed by."""
    value = read_yaml(path) if Path(path).is_file() else None
    load_plugins(value.get("plugins") if isinstance(value, dict) else None, str(path))


def model_with_strategies() -> type[RunConfig]:
    """The model with those of all strategies under `search`: its JSON schema has every key that a run file may have."""
    any_of_them: Any = reduce(or_, (strategy.model() for strategy in STRATEGIES.values()))
    return create_model("RunConfig", __base__=RunConfig, search=(any_of_them, DifferentiableConfig()))


def load_run(
    path: str | os.PathLike[str], changes: Mapping[str, Any] | None = None, plugins: Sequence[str] = ()
) -> RunConfig:
    """Read a run file, its plugins imported first.

    Args:
        changes: values by dotted path, such as `{"search.epochs": 3}`, that replace the file's.
        plugins: modules and whole paths of .py files, beside those that the file names.

    Raises:
        ConfigError: with every fault found, or with a plugin's.
    """
    return parse_run(read_yaml(path), str(path), changes, plugins)


def parse_run(
    value: Any, source: str, changes: Mapping[str, Any] | None = None, plugins: Sequence[str] = ()
) -> RunConfig:
    """A run file from plain data; `source` names it in errors. See `load_run`."""
    if not isinstance(value, dict):
        raise ConfigError(source, [f"file: must be a mapping, but got {type(value).__name__}"])
    if isinstance(value.get("search"), str):
        value["search"] = {"strategy": value["search"]}  # so that changes find a mapping
    changed: list[list[str]] = []
    for dotted, new in (changes or {}).items():
        *parents, last = steps = _steps(dotted)
        at = value
        for parent in parents:
            at = at.setdefault(parent, {})
            if not isinstance(at, dict):
                raise ConfigError(source, [f"{dotted}: `{parent}` must be a mapping to set a value in it"])
        for other in changed:  # of a mapping and of a value in it, one would win in silence
            if other[: len(steps)] == steps or (steps[: len(other)] == other and last in at):
                raise ConfigError(source, [f"{dotted}: must be given once, but {'.'.join(other)} gives it too"])
        at[last] = new
        changed.append(steps)
    load_plugins(value.get("plugins"), source)
    if isinstance(named := value.get("plugins", []), list):  # else the model says so
        value["plugins"] = list(dict.fromkeys([*named, *plugins]))
        load_plugins(value["plugins"], source)
    problems: list[str] = []
    config = None
    try:
        config = RunConfig.model_validate(value)
    except ValidationError as error:
        problems += validation_problems(error, _model_of(value))
    budgets: tuple[Budget, ...] = ()
    if isinstance(value.get("budgets"), dict):
        try:
            budgets = parse_budgets(value["budgets"], source)
        except ConfigError as error:
            problems += error.problems
    if config is not None:
        problems += _problems_between_keys(config, budgets)
    if config is None or problems:
        raise ConfigError(source, problems)
    return config


def _steps(dotted: str) -> list[str]:
    """The keys that a dotted path leads through; the name of a metric may have a dot of its own."""
    first, _, rest = dotted.partition(".")
    return [first, rest] if first == "budgets" and rest else dotted.split(".")


def _model_of(value: dict[str, Any]) -> type[RunConfig]:
    """The model with that of the strategy that a run file names."""
    search = value.get("search")
    name = search.get("strategy", DEFAULT) if isinstance(search, dict) else DEFAULT
    if not isinstance(name, str) or name not in STRATEGIES:
        return RunConfig
    return create_model("RunConfig", __base__=RunConfig, search=(STRATEGIES[name].model(), ...))


def _problems_between_keys(config: RunConfig, budgets: Sequence[Budget]) -> Iterator[str]:
    """Faults of a run file that no single key shows."""
    if config.retrain is not None:
        yield from (f"retrain.{fault}" for fault in recipe_faults(config.retrain))
        if config.retrain.freeze:
            must = "must be left out, as the winner is trained from random weights"
            yield f"retrain.freeze: {must}, but got {short(', '.join(config.retrain.freeze))}"
    yield from _problems_on_disk(config)
    yield from _problems_of_finalists(config)
    yield from literal_secrets(config.nni.training_service, "nni.training_service")
    yield from literal_secrets(config.nni.experiment, "nni.experiment")
    yield from config.latency_faults(used_metrics(config, budgets))


def _problems_of_finalists(config: RunConfig) -> Iterator[str]:
    if config.finalists is not None:
        yield from check_finalists(with_recipe(config.finalists, config.retrain))


def _problems_on_disk(config: RunConfig) -> Iterator[str]:
    """What is asked for and cannot be had of images that stay on disk."""
    if not stays_on_disk(config.data.name):
        return
    own = config.finalists.recipe if config.finalists is not None else None
    for name, recipe in (("retrain", config.retrain), ("finalists.recipe", own)):
        try:
            if recipe is not None:
                check_for_disk(recipe)
        except ConfigError as error:
            yield from (f"{name}.{problem}" for problem in error.problems)
    if config.evidence is not None:
        yield f"evidence: must be null for images that stay on disk, as those of {config.data.name} do"


def used_metrics(config: RunConfig, budgets: Sequence[Budget]) -> list[tuple[str, str]]:
    """Where each metric stands that a budget or the search is on, and the metric."""
    found = [(f"budgets.{budget.metric}", budget.metric) for budget in budgets]
    return found + [(at, metric) for metric, at in strategy_of(config.search).metrics(config.search).items()]


def unread_values(config: RunConfig) -> list[str]:
    """Faults of values that the search does not read, which only a run that is begun anew is refused for."""
    study = study_config(config.search)
    return [] if study is None else [f"search.supernet.{fault}" for fault in study.supernet.unread()]


def completed(model: type[Record], stored: Any, source: str) -> Any:
    """What was written of a model when a run began, with the defaults of values that were not known of then.

    What was allowed then, but is not now, is left as it is.

    Raises:
        ConfigError: it has a key that is not known of any more.
    """
    try:
        return model.model_validate(stored).model_dump(mode="json")
    except ValidationError as error:
        if problems := unknown_keys(error, model):
            raise ConfigError(source, problems) from error
        return stored
