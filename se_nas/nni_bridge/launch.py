"""Runs under NNI: prepared, launched, watched until done, finished like any other run; stopped, resumed, viewed.

A black-box search is one experiment whose trials are architectures; of differentiable searches, each trial is a whole
one. The page stays up until it is stopped.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml

from se_nas.cost.latencies import cost_tables, latency_file
from se_nas.cost.metrics import ENERGY
from se_nas.cost.table import CostTable, count_tables
from se_nas.data.sources import load_searched
from se_nas.errors import ConfigError, InfeasibleBudgetError, LaunchError, OutputError, counted
from se_nas.hardware.lines import Say, silent
from se_nas.hardware.progress_bar import counted_up
from se_nas.nni_bridge.experiment import addresses, manager, nni_calls
from se_nas.nni_bridge.experiment import status as experiment_status
from se_nas.nni_bridge.experiment.addresses import HOST, PORT
from se_nas.nni_bridge.experiment.manager_client import TrialJob
from se_nas.nni_bridge.experiment.nni_json import number
from se_nas.nni_bridge.experiment.record import find_experiment
from se_nas.nni_bridge.experiment.status import Experiment, Status
from se_nas.nni_bridge.grid import grid, grid_budgets, grid_space, name_of
from se_nas.nni_bridge.page_values import nni_search_space
from se_nas.nni_bridge.reconcile import reconcile
from se_nas.plugins import RECORD
from se_nas.records.files import write_atomic, write_json
from se_nas.records.record import Record
from se_nas.records.run_log import logging_to
from se_nas.records.shipped import find_space
from se_nas.records.yaml_input import read_yaml
from se_nas.runs.data_folder import with_data_folder
from se_nas.runs.prepare import Setting, check_space_channels, counted_key, latency_table_of, make_setting, open_setting
from se_nas.runs.run_file import NNIConfig, RunConfig, load_run
from se_nas.runs.run_folder import alone_in
from se_nas.runs.search import finish_run
from se_nas.runs.worker import prepared_name
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.budgets.decode import check_feasible
from se_nas.search.result import SUPERNET, TABLE
from se_nas.search.strategies import study_config
from se_nas.space.yaml.file import load_space

#: Where NNI keeps its experiment, in the run's folder: made first of all, so that a launch cut off can be resumed.
LAUNCHED = "nni"

#: What a trial on another machine needs of the run's folder, beside its configuration and its latency tables.
NEEDED = ("space.yaml", "parts.json", f"search/{SUPERNET}", f"search/{TABLE}")

#: Where it is put together for NNI to copy.
CODE = "nni_code"


def launch(
    run_file: Path, config: RunConfig, folder: Path, *, port: int, host: str, detach: bool, progress: bool, say: Say
) -> None:
    """Prepare a run, start its experiment, and, unless `detach`, finish the run when the experiment is done.

    Raises:
        OutputError: the folder holds a run.
        LaunchError: see `manager.start`; before anything is written where the port is taken, or NNI is missing or
            refuses the configuration.
        ConfigError, InfeasibleBudgetError: a search that NNI's trials cannot do; before anything is written.
        SeNasError: what `run_search` raises.
    """
    if (folder / "config.yaml").exists():
        go_on = f"se-nas resume {folder} goes on with it, or" if (folder / LAUNCHED).exists() else "please"
        raise OutputError(f"{folder}: the folder must hold no run yet, but it does; {go_on} choose another --out")
    with logging_to(config.loggers), alone_in(folder):
        _check_possible(config, folder, port, host)
        config = with_data_folder(run_file, config)
        _check_feasible(run_file, config, progress)
        setting = make_setting(run_file, config, folder, resume=False, progress=progress, say=say)
        (folder / LAUNCHED).mkdir()
        _start(setting, port, host, progress, say)
    _go_on(folder, detach, progress, say)


def resume(folder: Path, *, port: int | None, host: str | None, detach: bool, progress: bool, say: Say) -> None:
    """Go on with a run that was launched: prepare what is left, start what was stopped, watch what is running.

    Raises:
        ConfigError: the folder holds no run.
        LaunchError: the run was never launched; see `manager.start`.
    """
    with alone_in(folder):
        _bring_up(folder, port, host, progress, say)
    _go_on(folder, detach, progress, say)


def _bring_up(folder: Path, port: int | None, host: str | None, progress: bool, say: Say) -> None:
    """Have the experiment of a run that was launched running, unless it is done."""
    record = find_experiment(folder)
    if record is None:
        setting = open_setting(folder)
        if not (folder / LAUNCHED).exists():
            raise LaunchError(f"{folder}: must be the folder of a run that se-nas launch began, but se-nas search did")
        _check_possible(setting.config, folder, port or PORT, host or HOST)
        _start(setting, port or PORT, host or HOST, progress, say)
    else:
        if experiment_status.needs_restart(folder):
            manager.stop(folder)
        if experiment_status.running(folder) is None and experiment_status.status(folder).state != "DONE":
            if record.digest is not None:
                say(_page(manager.resume(folder, port=port, host=host)))
            else:
                say("launched by an earlier se_nas: goes on as its config.yaml says, without what the page changed")
                _start(open_setting(folder), port or record.port, host or record.host, progress, say, action="resume")
        if experiment_status.running(folder) is not None:
            _prepare_beside(folder, None, progress, say)


def stop(folder: Path, *, progress: bool, say: Say) -> None:
    """Stop the experiment and close its page; a run whose experiment was done and that nobody finished is finished."""
    manager.stop(folder)  # first, so that the page is closed whatever becomes of the rest
    now = experiment_status.status(folder)
    counted = ", ".join(f"{number} {name.lower()}" for name, number in now.trials.items()) or "no trials"
    say(f"stopped ({counted})")
    if _finished(folder):
        return
    if now.state == "DONE":
        _finish(folder, progress, say, exhausted=False)
    else:
        say(f"go on: se-nas resume {folder}; look at it: se-nas view {folder}")


def view(folder: Path, *, port: int | None, host: str | None, say: Say) -> None:
    """Open the page of a stopped experiment, read-only, until it is stopped."""
    say(_page(manager.view(folder, port=port, host=host)))
    say(f"close it: se-nas stop {folder}")


def _check_possible(config: RunConfig, folder: Path, port: int, host: str) -> None:
    """What must hold for an experiment to start, looked at before anything is written."""
    nni_calls.check_nni()
    study = study_config(config.search)
    if study is not None and study.pruner != "none":
        must = "must be none under se-nas launch, as NNI runs each trial to its end (se-nas search prunes)"
        raise ConfigError("search.pruner", [f"{must}, but got {study.pruner}"])
    for rule in ("max_seconds", "patience"):
        if study is not None and (limit := getattr(study, rule)) is not None:
            must = "must be null under se-nas launch, where nni.experiment.max_experiment_duration ends it"
            raise ConfigError(f"search.{rule}", [f"{must}, but got {limit:g}"])
    addresses.check_free(addresses.resolve(host), port)
    here = Path.cwd()  # NNI insists on folders that are there
    manager.check_service(folder, _nni_config(config, grid_space(config), here, here), host)


def _check_feasible(run_file: Path, config: RunConfig, progress: bool) -> None:
    """Raise InfeasibleBudgetError where no architecture keeps the budgets of some search of a grid.

    The run's own are looked at by `make_setting`. Counts come first, before minutes of timing.
    """
    listed = grid_budgets(config)
    if study_config(config.search) is not None or not listed:
        return
    space_file = find_space(config.space, run_file.parent)
    space = load_space(space_file)
    info, _ = load_searched(config.data.options(space, config.seed), config.data.workers, say=silent)
    check_space_channels(space_file, space, info)
    space = replace(space, classes=info.classes)

    def check(tables: Mapping[str, CostTable]) -> None:
        for i, budgets in enumerate(listed):
            try:
                check_feasible(space, tables, [b for b in budgets if b.metric in tables])
            except InfeasibleBudgetError as error:
                raise InfeasibleBudgetError(f"nni.budgets[{i}]: {error}") from error

    counts = count_tables(space)
    check(counts)
    tables, asked = dict(counts), {budget.metric for budgets in listed for budget in budgets}
    for metric in (metric for metric in (*config.latencies, ENERGY) if metric in asked):
        # cached, for the run that begins with it
        energy = metric == ENERGY
        key = counted_key(run_file, f"nni.budgets: {ENERGY}", config) if energy else config.latency_key(metric)
        latency = latency_table_of(run_file, config, metric, space, key, progress, silent)
        tables |= cost_tables({metric: latency})
        check(tables)


def _page(experiment: Experiment) -> str:
    return f"NNI page: {experiment.url}"


def _start(
    setting: Setting, port: int, host: str, progress: bool, say: Say, *, action: Literal["create", "resume"] = "create"
) -> None:
    config, folder = setting.config, setting.run.path.resolve()
    axes = grid_space(config)
    study = study_config(config.search)
    if study is not None:
        from se_nas.search.black_box.strategy import begin_study, prepare

        problem = setting.problem(resume=True, progress=progress)
        begin_study(problem, study, parallel=True)
        if not _opens_at_once(config, study):
            with logging_to(config.loggers):
                prepare(problem, study)
        axes = nni_search_space(setting.space)
    code = folder if _is_local(config) else _code(folder)
    ours = _nni_config(config, axes, folder, code)
    experiment = manager.start(setting.run.path, ours, port=port, host=host, action=action)
    say(_page(experiment))
    _prepare_beside(setting.run.path, setting, progress, say)


def _opens_at_once(config: RunConfig, study: OptunaConfig) -> bool:
    """Whether the page opens before all is prepared, whose trials then wait and show it.

    Not where trials have copies of the run's folder as it was at the start, or where their time is limited.
    """
    limited = {"max_trial_duration", "max_experiment_duration"} & {_snake(name) for name in config.nni.experiment}
    return prepared_name(study) is not None and _is_local(config) and not limited


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _prepare_beside(folder: Path, setting: Setting | None, progress: bool, say: Say) -> None:
    """Do what the trials of a running experiment wait for; where it cannot be done, nothing is left that waits.

    Args:
        setting: of the run; None where it is not open yet.
    """
    study = study_config(load_run(folder / "config.yaml").search)
    name = None if study is None else prepared_name(study)
    if study is None or name is None or (folder / "search" / name).exists():
        return
    from se_nas.search.black_box.strategy import prepare

    try:
        setting = setting or open_setting(folder)
        with logging_to(setting.config.loggers):
            prepare(setting.problem(resume=True, progress=progress), study)
    except BaseException:
        manager.stop(folder)
        say(f"stopped the experiment, whose trials waited; go on: se-nas resume {folder}")
        raise


def _is_local(config: RunConfig) -> bool:
    return config.nni.training_service.get("platform") == "local"


def _nni_config(config: RunConfig, axes: Mapping[str, Any], folder: Path, code: Path) -> dict[str, object]:
    """NNI's configuration of the experiment of a run in `folder` (absolute), whose trials start in a copy of `code`."""
    black_box, local = study_config(config.search) is not None, _is_local(config)
    run = str(folder) if local else "."
    python = sys.executable if local else "python3"
    tuner = "tuner.SeNasTuner" if black_box else "grid_tuner.GridTuner"
    return {
        "experiment_name": config.name,
        "search_space": axes,
        # one simple command: NNI signals its shell alone
        "trial_command": f"exec {shlex.quote(python)} -m se_nas.nni_bridge.trial {shlex.quote(run)}",
        "trial_code_directory": str(code),
        "trial_concurrency": config.nni.concurrency,
        "max_trial_number": _trials(config),
        "tuner": {
            "class_name": f"se_nas.nni_bridge.{tuner}",
            "code_directory": str(folder),
            "class_args": {"run": str(folder)},
        },
        "training_service": config.nni.training_service,
        **config.nni.experiment,
    }


def _trials(config: RunConfig) -> int:
    study = study_config(config.search)
    return len(grid(config)) if study is None else study.max_evaluations


def _code(folder: Path) -> Path:
    """A copy of the part of the run's folder that trials elsewhere need.

    NNI puts it on every machine; what the run says of NNI stays here, as it is nobody's business there.

    Raises:
        OutputError: the place is no folder of ours, which would be written through.
    """
    code = folder / CODE
    try:
        if os.path.lexists(code):
            shutil.rmtree(code)  # refuses a link, whose target is not ours
    except OSError as error:
        raise OutputError(
            f"{code}: must be a folder that can be made anew, but got: {error.strerror or error}"
        ) from error
    begun = load_run(folder / "config.yaml")
    plugins = (plugin for plugin in begun.plugins if plugin.endswith(".py"))
    for name in (*NEEDED, *map(latency_file, (*begun.latencies, ENERGY)), RECORD, *plugins):
        if (folder / name).exists():
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, code / name)
    config = read_yaml(folder / "config.yaml") | {"nni": NNIConfig().model_dump(mode="json")}
    write_atomic(code / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    return code


def _go_on(folder: Path, detach: bool, progress: bool, say: Say) -> None:
    """Watch the experiment to its end and finish the run."""
    if detach:
        say(f"the experiment goes on without this terminal; se-nas resume {folder} watches it to its end")
        return
    total = _trials(load_run(folder / "config.yaml"))
    try:
        with counted_up("trials", wanted=progress, lines=True) as count:

            def show(status: Status) -> None:
                count(status.finished, total, status.state.lower())

            status = experiment_status.wait_until_done(folder, show)
    except KeyboardInterrupt:
        say(f"the experiment goes on; se-nas resume {folder} watches it, se-nas stop {folder} stops it")
        raise
    if status.state not in ("DONE", "TUNER_NO_MORE_TRIAL"):
        why = "; ".join(status.errors) or f"its state is {status.state}"
        raise LaunchError(f"{folder}: the experiment must run to its end, but {why}; se-nas resume {folder} goes on")
    _finish(folder, progress, say, exhausted=status.state == "TUNER_NO_MORE_TRIAL")
    experiment = experiment_status.running(folder)
    if experiment is not None:
        say(f"{_page(experiment)} (until se-nas stop {folder})")


def _finished(folder: Path) -> bool:
    return (folder / "result.json").exists() or (folder / "grid.json").exists()


def _finish(folder: Path, progress: bool, say: Say, *, exhausted: bool) -> None:
    """Write down what the trials found, as any run of its kind does."""
    with alone_in(folder):  # two may have watched it
        _conclude(folder, progress, say, exhausted)


def _conclude(folder: Path, progress: bool, say: Say, exhausted: bool) -> None:
    setting = open_setting(folder)
    jobs = experiment_status.jobs(folder)
    config = study_config(setting.config.search)
    if config is None:
        _finish_grid(setting, jobs, say)
        return
    from se_nas.search.black_box.search import Worked
    from se_nas.search.black_box.strategy import finish, open_evaluator, open_study, prepare

    problem = setting.problem(resume=True, progress=progress)
    study = open_study(problem, config, parallel=True)
    failed, refused = reconcile(study, jobs)
    for line in refused:
        say(line)
    if failed:
        say(f"closed as failed: {counted(len(failed), 'proposal')} that no trial gave a result for")
    worked = Worked(study.count(), exhausted)
    found = finish(problem, config, study, open_evaluator(problem, config), prepare(problem, config), worked)
    finish_run(setting, found, resume=True, progress=progress, say=say)
    say(f"report: {folder / 'report.html'}")


class GridRow(Record):
    """A search of a grid in `grid.json`, which lists them for people: what it was, and what came of it."""

    parameters: dict[str, object]
    status: str
    folder: str | None = None
    accuracy: float | None = None
    metrics: dict[str, object] | None = None


def _finish_grid(setting: Setting, jobs: list[TrialJob], say: Say) -> None:
    """List what each search of a grid found; each has a folder and a report of its own."""
    rows: list[GridRow] = []
    for job in jobs:
        if not job.parameters:
            continue
        row = GridRow(parameters=job.parameters, status=job.status)
        with contextlib.suppress(ConfigError):  # of a trial that a user made up on the page
            place = f"trials/{name_of(job.parameters)}"
            if (setting.run / place).exists():  # else it is on the machine that ran it
                row = row.model_copy(update={"folder": place})
        if isinstance(job.final, Mapping) and (accuracy := number(job.final.get("default"))) is not None:
            row = row.model_copy(update={"accuracy": accuracy, "metrics": dict(job.final)})
        rows.append(row)
    # NNI counts what a user added by hand among the trials it was to run
    tried = [row.parameters for row in rows]
    rows += [GridRow(parameters=t, status="NOT_RUN") for t in grid(setting.config) if t not in tried]
    write_json(setting.run / "grid.json", [row.plain() for row in rows])
    for row in rows:
        came = row.status.lower() if row.accuracy is None else f"{row.accuracy:.2%} on validation"
        words = " ".join(f"{name}={value}" for name, value in row.parameters.items())
        say(f"{words}: {came}" + (f", {setting.run / row.folder}" if row.folder is not None else ""))
