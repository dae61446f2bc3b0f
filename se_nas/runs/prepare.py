"""What a run works with: its space, its images in parts, its budgets and cost tables; made once, opened again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from se_nas.cost.budget import Budget, parse_budgets
from se_nas.cost.energy import build_energy_table, energy_key, no_counter
from se_nas.cost.latencies import Latencies, Latency, cost_tables, latency_file
from se_nas.cost.latency.cache import build_latency_table
from se_nas.cost.latency.elsewhere.importing import verdict
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES, default_line
from se_nas.cost.latency.table import LatencyTable, latency_lines, read_latency_table
from se_nas.cost.latency.timing import check_memory
from se_nas.cost.latency_config import LatencyConfig
from se_nas.cost.memory import least_supernet_bytes
from se_nas.cost.metrics import ENERGY, device_of
from se_nas.cost.table import CostTable, count_tables
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.in_memory.parts import load_parts, save_parts, split_parts
from se_nas.data.on_disk.training_set import TrainingSet
from se_nas.data.sources import check_test, load_searched, load_train, stays_on_disk
from se_nas.errors import ConfigError
from se_nas.hardware.contention import crowd_warning
from se_nas.hardware.device import pick_device, pin_threads
from se_nas.hardware.distributed import Ranks
from se_nas.hardware.environment import describe_environment, resumed_elsewhere
from se_nas.hardware.lines import Say, silent
from se_nas.hardware.memory import check_fits
from se_nas.plugins import Plugin, check_plugins, load_plugins, plugin_records, write_plugins
from se_nas.records.files import beside, write_atomic, write_json
from se_nas.records.record import write_record
from se_nas.records.shipped import find_space
from se_nas.records.yaml_input import read_yaml
from se_nas.runs.evidence_config import Problem, check_evidence, check_recipe, check_unchanged
from se_nas.runs.named_files import with_copies
from se_nas.runs.networks.starting_weights import check_same_file, other_images, trained_point
from se_nas.runs.networks.teacher import teacher_of_supernet
from se_nas.runs.run_file import RunConfig, completed, load_run, used_metrics
from se_nas.runs.run_folder import SEARCH, RunFolder
from se_nas.search.budgets.decode import Decoder, check_feasible, greatest_cost
from se_nas.search.budgets.resolutions import resolutions_within
from se_nas.search.problem import SearchProblem
from se_nas.search.result import EVALUATIONS, SCORES, STUDY_NAME
from se_nas.search.starting import Start, StartingConfig, start_lines, start_record
from se_nas.search.stopping import StoppingConfig
from se_nas.search.strategies import strategy_of
from se_nas.space.search_space import SearchSpace
from se_nas.space.size import rounded_size
from se_nas.space.yaml.file import dump_space, load_space
from se_nas.training.train import captures_steps
from se_nas.training.trained_network import WEIGHTS


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that a run works with.

    Attributes:
        latencies: of each device the table of the space, or the conditions alone where the run makes none; and the
            table of energy where a budget or an objective is on it.
        train: in memory, or on disk to be decoded as they are needed.
        start: the weights that the search's supernet starts from; None for random ones, and where it joins a run.
        options: how the images are loaded, the test images by the retraining alone.
    """

    config: RunConfig
    run: RunFolder
    space: SearchSpace
    budgets: tuple[Budget, ...]
    tables: Mapping[str, CostTable]
    latencies: Latencies
    info: DataInfo
    train: ImageSet | TrainingSet
    parts: Mapping[str, torch.Tensor]
    options: DataOptions
    device: torch.device
    start: Start | None

    def images_at(self, resolution: int) -> tuple[DataInfo, ImageSet, DataOptions]:
        """The training images at the resolution of a network of the space, and how the test images are loaded.

        They are in memory, or DataError is raised.
        """
        options = replace(self.options, resolution=resolution)
        if resolution == self.info.resolution and isinstance(self.train, ImageSet):
            return self.info, self.train, options
        return (*load_train(options), options)

    def problem(
        self,
        *,
        resume: bool,
        progress: bool,
        storage: str | None = None,
        on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
        ranks: Ranks | None = None,
    ) -> SearchProblem:
        """The problem that the run's search is given."""
        return SearchProblem(
            space=self.space,
            budgets=self.budgets,
            tables=self.tables,
            info=self.info,
            train=self.train,
            parts=self.parts,
            device=self.device,
            seed=self.config.seed,
            folder=self.run / SEARCH,
            resume=resume,
            progress=progress,
            storage=storage,
            start=self.start,
            teacher=teacher_of_supernet(self.config.search, self.info, self.device),
            ranks=ranks or Ranks(),
            on_epoch=on_epoch,
        )


def make_setting(
    run_file: Path,
    config: RunConfig,
    folder: Path,
    *,
    resume: bool,
    progress: bool,
    say: Say,
    joins: bool = False,
    device: str | None = None,
    ranks: int = 1,
) -> Setting:
    """Load or make all that a run needs, and mark its folder; nothing is trained yet.

    Args:
        joins: whether this process works on a run of another one, which may have no test images.
        device: of this process, where it joins a run that may have another; it times no network then.
        ranks: how many processes share the training of a supernet, and the retraining.

    Raises:
        ConfigError: a fault in the configuration, or `resume` with another one.
        OutputError: the folder holds a run and `resume` is not given, or cannot be written to.
        InfeasibleBudgetError: no architecture keeps the budgets.
        SeNasError: the other faults a user can cause.
    """
    run = RunFolder(folder)
    pin_threads()
    if ranks > 1 or strategy_of(config.search).supernet_batch(config.search) is not None:
        strategy_of(config.search).check_ranks(config.search, ranks)
    if ranks > 1 and config.retrain is not None:
        config.retrain.micro_batch(ranks, "retrain")
    plugins = _plugins(run_file, config)
    config, copies = with_copies(run_file, config, folder)
    words = [record.name for record in plugin_records(plugins)]
    config = config.model_copy(update={"plugins": tuple(words)})
    # the space lies beside the configuration, so that `se-nas search FOLDER/config.yaml` does the same again
    resolved = config.model_dump(mode="json") | {"space": "space.yaml"}
    begun = run.has_begun(resume)
    corrections: list[str] = []
    if begun:
        if isinstance(config.search, StartingConfig) and not joins:
            check_same_file(config.search, start_record(run / SEARCH))
        check_plugins(folder, plugins)
        check_unchanged(run, config)
        corrections = run.corrections(
            resolved,
            lambda stored: completed(RunConfig, stored, str(run / "config.yaml")),
            _unused(run, config),
            r"search\.(max_seconds|patience)" if isinstance(config.search, StoppingConfig) else None,
        )
    found_device = pick_device(device or config.device)
    if not joins:
        _check_graphs(config, found_device, ranks)
    keys = {m: LatencyConfig().key(device) if device else config.latency_key(m) for m in config.latencies}
    budgets = parse_budgets(config.budgets, str(run_file))
    for where, metric in used_metrics(config, budgets):
        if metric == ENERGY:  # who joins reads the table that there is
            keys[ENERGY] = next(iter(keys.values())) if joins else counted_key(run_file, where, config)
    space_file = find_space(config.space, run_file.parent)
    space = load_space(space_file)
    options = config.data.options(space, config.seed)
    info, train = load_searched(options, config.data.workers, say)
    digest = train.digest() if isinstance(train, TrainingSet) else None
    check_space_channels(space_file, space, info)
    for line in train.notes:
        say(line)
    if digest is not None and config.retrain is not None and config.retrain.batch_size > len(train):
        must = f"must be at most the number of training images, {len(train)}"
        raise ConfigError(str(run_file), [f"retrain.batch_size: {must}, but got {config.retrain.batch_size}"])
    if config.retrain is not None and not joins and not stays_on_disk(options.name):
        check_test(options)  # of images on disk both halves have been found
    space = replace(space, classes=info.classes)
    if begun and run.space.digest != space.digest:
        raise ConfigError(
            str(space_file), [f"must be the space of the run that --resume continues, {run / 'space.yaml'}"]
        )
    parts = (
        load_parts(run / "parts.json", train.labels, digest)
        if begun
        else split_parts(train.labels, config.parts, config.seed)
    )
    sizes = ", ".join(f"{len(indices)} for {name}" for name, indices in parts.items())
    size = rounded_size(space.size)
    say(f"{config.name}: space {space.name} of {size} networks, {info.name} ({sizes}), device {found_device}")
    for line in (*crowd_warning(), *(resumed_elsewhere(run / "environment.json", found_device.type) if begun else [])):
        say(line)

    tables = count_tables(space)
    # an infeasible count budget ends here, before minutes of timing
    check_feasible(space, tables, [b for b in budgets if b.metric in tables])
    check_recipe(run_file, config)
    if not begun and (teacher := teacher_of_supernet(config.search, info, found_device)) is not None:
        teacher()
    greatest = space.resolve(greatest_cost(space, tables, "macs").architecture)
    for key in keys.values():
        if RUNTIMES[key.runtime].timed:
            check_memory(greatest, key)
    batch = strategy_of(config.search).supernet_batch(config.search)
    if batch is not None and not begun:
        what = f"search: the supernet of {space.name} with batches of {batch:,} images takes"
        check_fits(least_supernet_bytes(space, greatest, batch // ranks), found_device, what)
    if not begun:
        strategy_of(config.search).check(config.search, space, copies, say)
        check_evidence(run_file, config, Problem.of(space.digest, budgets, info.name))
        # a folder that cannot be written to fails before the timing
        write_record(run / "environment.json", describe_environment(found_device.type))
    if not joins:
        unnamed = [keys[metric] for metric, conditions in config.latencies.items() if conditions.runtime is None]
        for instead in dict.fromkeys(default_line(key.torch_device.type, key.dtype) for key in unnamed):
            if instead is not None:
                say(instead)
    start = record = None
    if isinstance(config.search, StartingConfig) and not joins:
        if begun:
            start = Start.load(run / SEARCH, space)
        elif (point := trained_point(config.search, space)) is not None:
            start, record = point.prepare(space, info, train, parts, found_device)
            for line in (*start_lines(record, config.search.weight_rate), *other_images(config.search, info)):
                say(line)
    latencies: dict[str, Latency] = {}
    for metric, key in keys.items():
        latencies[metric] = latency = _latency(run_file, run, begun, space, metric, key, config, progress, say)
        if isinstance(latency, LatencyTable):
            first, *rest = latency_lines(latency)
            device_words = "energy" if metric == ENERGY else device_of(metric)
            for line in (f"{device_words}: {first}" if device_words else first, *rest):
                say(line)
            tables |= cost_tables({metric: latency})
            # one that cannot be kept ends here, before the next device is timed
            check_feasible(space, tables, [budget for budget in budgets if budget.metric in tables])
    decoder = Decoder(space, tables, budgets)
    for resolution in sorted(set(space.side.axis.options).difference(resolutions_within(decoder))):
        say(f"resolution {resolution}: no network of it keeps every budget, so that it is left out")
    if not begun:
        write_atomic(run / "space.yaml", dump_space(space, words))
        write_json(run / "choices.json", {choice.name: list(choice.options) for choice in space.choices})
        save_parts(run / "parts.json", parts, train.labels, config.seed, digest)
        for metric, latency in latencies.items():
            if isinstance(latency, LatencyTable):
                write_record(run / latency_file(metric), latency.record())
        for name, source in copies.items():
            write_atomic(run / name, source.read_bytes())
        write_plugins(folder, plugins)
        if start is not None and record is not None:
            start.save(run / SEARCH, record)
    for line in corrections:
        say(line)
    if not begun or corrections:
        run.begin(resolved)
    return Setting(
        config=config,
        run=run,
        space=space,
        budgets=budgets,
        tables=tables,
        latencies=latencies,
        info=info,
        train=train,
        parts=parts,
        options=options,
        device=found_device,
        start=start,
    )


def open_setting(folder: Path, *, data_dir: Path | None = None, device: str | None = None) -> Setting:
    """The setting of a run that has begun, for another process that works on it.

    Args:
        data_dir, device: of this process, where they are not those of the run.

    Raises:
        ConfigError: the folder holds no run.
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise ConfigError(str(folder), ["must be the folder of a run, but it has no config.yaml"])
    config = load_run(path, {"data.dir": str(data_dir.resolve())} if data_dir else None)
    return make_setting(path, config, folder, resume=True, progress=False, say=silent, joins=True, device=device)


def _unused(run: RunFolder, config: RunConfig) -> str | None:
    """Matches the paths of the values that a run has not used yet, as no stage that reads them has saved anything."""
    search, retraining = run / "search", run / "retrain"
    # the strategy says how the files that were copied are read
    read = "|".join(["strategy", *strategy_of(config.search).file_keys])
    left = any((search / name).exists() for name in (STUDY_NAME, SCORES, EVALUATIONS))
    used = {
        r"data\.workers": False,  # decide no image
        rf"search\.(?!{read}).*": left or any(search.rglob("checkpoint*")),
        r"retrain(\..*)?": any(retraining.glob("checkpoint*")) or (retraining / WEIGHTS).exists(),
        # tables are timed before the run begins; without them the answer alone is
        r"latency\.(.*\.)?(?!table)[^.]*": any(
            place.exists()
            for place in (*run.path.glob("latency.*json"), run / latency_file(ENERGY), run / "certificate.json")
        ),
    }
    return "|".join(paths for paths, is_used in used.items() if not is_used) or None


def check_space_channels(space_file: Path, space: SearchSpace, info: DataInfo) -> None:
    """Raise ConfigError unless a data set has the channels that the space has."""
    if space.channels != info.channels:
        must = f"must be {info.channels}, as the images of {info.name} have"
        raise ConfigError(str(space_file), [f"channels: {must}, but got {space.channels}"])


def _plugins(run_file: Path, config: RunConfig) -> list[Plugin]:
    """What the run file names, and what the space file does."""
    space_file = find_space(config.space, run_file.parent)
    value = read_yaml(space_file)
    of_space = load_plugins(value.get("plugins") if isinstance(value, dict) else None, str(space_file))
    return list(dict.fromkeys([*load_plugins(config.plugins, str(run_file)), *of_space]))


def _latency(
    run_file: Path,
    run: RunFolder,
    begun: bool,
    space: SearchSpace,
    metric: str,
    key: LatencyKey,
    config: RunConfig,
    progress: bool,
    say: Say,
) -> Latency:
    """The table that the run began with, else the cached or a new one; the key alone where the run makes none."""
    if metric != ENERGY and not config.latencies[metric].table:
        return key
    if begun:
        return read_latency_table(run / latency_file(metric), space, metric)
    return latency_table_of(run_file, config, metric, space, key, progress, say)


def counted_key(run_file: Path, where: str, config: RunConfig) -> LatencyKey:
    """The conditions of a run's energy: of its latencies' the first whose device is here and keeps a counter.

    Args:
        where: what asks for energy in the run file, named in the error.

    Raises:
        ConfigError: there is none.
    """
    key = energy_key(config.latency_key(metric) for metric in config.latencies)
    if key is None:
        raise ConfigError(str(run_file), [f"{where}: {no_counter()}"])
    return key


def latency_table_of(
    run_file: Path, config: RunConfig, metric: str, space: SearchSpace, key: LatencyKey, progress: bool, say: Say
) -> LatencyTable:
    """The table of a latency, or of energy, under the run file's conditions.

    Raises:
        ConfigError: an imported one cannot be read, is of another space, was not imported, or predicts no better than
            MACs do.
        DeviceError, ConfigError: see `build_latency_table`.
    """
    if metric == ENERGY:
        same = (conditions for name, conditions in config.latencies.items() if config.latency_key(name) == key)
        bound = next(same).max_seconds
        return build_energy_table(space, key, seed=config.seed, progress=progress, say=say, max_seconds=bound)
    conditions = config.latencies[metric]
    if conditions.file is None:
        bound = conditions.max_seconds
        return build_latency_table(space, key, seed=config.seed, progress=progress, say=say, max_seconds=bound)
    path = beside(run_file, conditions.file)
    try:
        table = read_latency_table(path, space)
    except ConfigError as error:
        how = f"`se-nas latency import` makes a table of this space, {space.name}, from measurements"
        raise ConfigError(str(path), [*error.problems[:-1], f"{error.problems[-1]}; {how}"]) from error
    if RUNTIMES[table.key.runtime].timed:  # an answer's network would be timed where that is, after the search
        must = "must be a table of `se-nas latency import`"
        how = "`se-nas latency export` gives its networks as import takes them"
        raise ConfigError(str(path), [f"file: {must}, but is one of runtime {table.key.runtime}; {how}"])
    if not table.better_than_macs:
        raise ConfigError(str(path), [f"file: must predict better than a line on MACs, but is {verdict(table)}"])
    return table


def _check_graphs(config: RunConfig, device: torch.device, ranks: int) -> None:
    """Refuse, before hours of search, trainings after it whose steps cannot be captured as they are to be."""
    if config.retrain is not None:
        captures_steps(config.retrain, device, ranks, 0, "retrain")
    if config.finalists is not None and config.finalists.recipe is not None:
        captures_steps(config.finalists.recipe, device, 1, 0, "finalists.recipe")
