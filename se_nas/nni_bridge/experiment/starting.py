"""Starting a manager: its process with our preloads, and the wait until its tuner and machines are connected."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from se_nas.errors import LaunchError
from se_nas.nni_bridge.experiment import addresses, processes, stored
from se_nas.nni_bridge.experiment.nni_calls import note_in_nnis_list
from se_nas.nni_bridge.experiment.record import (
    FILE,
    ExperimentRecord,
    write_experiment,
)
from se_nas.nni_bridge.experiment.secrets import without_secrets
from se_nas.nni_bridge.experiment.status import Experiment, experiment_of, fault_in, home_of, live_manager, owner_of

Action = Literal["create", "resume", "view"]

#: What NNI's Node loads before NNI; each says why.
PRELOADS = ("loopback.js", "icons.js", "page_guard.js", "secrets.js", "patience.js")

#: How long the manager may take to answer, and then the tuner to connect (which imports PyTorch), in seconds.
START_SECONDS = 150.0

#: The same where NNI first installs itself on the machines it reaches by SSH.
REMOTE_SECONDS = 600.0


def start_manager(
    folder: str | os.PathLike[str],
    config: Any,
    secrets: Mapping[str, str],
    record: ExperimentRecord,
    before: ExperimentRecord | None,
    action: Action,
) -> Experiment:
    """Start what `record` says and write it down; put everything back as it was (`before`) where it does not start."""
    home = home_of(folder)
    experiment = record.id
    old_config = None
    try:
        _make_private(home)
        log = home / experiment / "log"
        log.mkdir(parents=True, exist_ok=True)
        (log / "manager.stderr").write_bytes(b"")  # what an earlier manager said would be told as this one's fault
        log_begin = _size(log / "nnimanager.log")
        if action == "resume":
            stored.forget_cut_off_resumes(experiment, home)
            old_config = stored.replace_config(experiment, home, json.dumps(config.json()))
        process = _spawn(config, secrets, record, action, home, log)
        record = record.model_copy(update={"log_begin": log_begin, "pid": process.pid, "started": process.started})
        write_experiment(folder, record)
        launched = experiment_of(record)
        _wait_until_listening(record, home, log)
        note_in_nnis_list(lambda entries: _list_in(entries, launched, config, home))
        launched.client().begin(config.json())
        if action != "view":
            _wait_until_running(record, config, home, log)
        return launched
    except BaseException:
        with contextlib.suppress(Exception):
            processes.end_all(owner_of(record, home))
        if before is None:
            (Path(folder) / FILE).unlink(missing_ok=True)
            note_in_nnis_list(lambda entries: entries.remove_experiment(experiment))
        else:
            if old_config is not None:
                stored.replace_config(experiment, home, old_config)
            write_experiment(folder, before.stopped(before.settled))
        raise


def _make_private(home: Path) -> None:
    """NNI's folder, which none but its owner may look into: NNI writes all that it knows there, readable by all."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
    except OSError as error:
        raise LaunchError(f"{home}: must be a folder of its own for NNI, but got: {error.strerror}") from error


def _spawn(
    config: Any, secrets: Mapping[str, str], record: ExperimentRecord, action: Action, home: Path, log: Path
) -> processes.Listed:
    """Start NNI's Node in a session of its own, so that closing the terminal does not end it."""
    import nni_node
    from nni.experiment.launcher import NniManagerArgs

    node = Path(nni_node.__path__[0])
    here = Path(__file__).parent
    arguments = NniManagerArgs(
        action,
        record.id,
        config,
        record.port,
        debug=False,
        foreground=False,
        url_prefix=None,
        tuner_command_channel=None,
    ).to_command_line_args()
    # the preloads are arguments of this Node alone: in NODE_OPTIONS they would reach every trial
    preloads = [word for name in PRELOADS for word in ("--require", str(here / "preloads" / name))]
    command = [str(node / "node"), *preloads, "--max-old-space-size=4096", str(node / "main.js"), *arguments]
    environment = {
        **without_secrets(os.environ, secrets),
        processes.MARK: owner_of(record, home).mark,
        "SE_NAS_NNI_HOST": record.address,
        "SE_NAS_NNI_NAMES": json.dumps(addresses.page_names(config.json(), record.host, record.address)),
        "SE_NAS_NNI_SECRETS": json.dumps(secrets),
    }
    for name in ("no_proxy", "NO_PROXY"):  # tuner and trials talk to the manager by libraries that heed a proxy
        environment[name] = ",".join(filter(None, [os.environ.get(name), "localhost", "127.0.0.1"]))
    with (log / "manager.stderr").open("ab") as errors, (log / "manager.stdout").open("ab") as output:
        manager = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=node,
            env=environment,
            start_new_session=True,
        )
    manager.returncode = 0  # it is meant to outlive this program: no warning that it still runs
    process = processes.look(manager.pid)
    if process is None:
        raise LaunchError(f"the NNI manager ended at once: {fault_in(log)}")
    return process


def _list_in(entries: Any, experiment: Experiment, config: Any, home: Path) -> None:
    several = isinstance(config.training_service, list)
    entries.add_experiment(
        experiment.id,
        experiment.port,
        int(time.time() * 1000),
        "hybrid" if several else config.training_service.platform,
        config.experiment_name,
        pid=experiment.pid,
        logDir=str(home),
    )


def _wait_until_listening(record: ExperimentRecord, home: Path, log: Path) -> None:
    client = experiment_of(record).client()
    for _ in _ticks(START_SECONDS, "the NNI manager did not answer"):
        if live_manager(record, home) is None:
            raise LaunchError(f"the NNI manager ended at once: {fault_in(log)}")
        with contextlib.suppress(LaunchError):
            if client.state().name != "INITIALIZING":
                return


def _wait_until_running(record: ExperimentRecord, config: Any, home: Path, log: Path) -> None:
    """NNI calls an experiment running before its tuner and remote machines are connected: wait for its log's word."""
    lines, seconds = [b"Add event listeners"], START_SECONDS
    if any(s["platform"] == "remote" and not s.get("reuseMode") for s in addresses.services(config.json())):
        lines.append(b"Remote training service started")
        seconds = REMOTE_SECONDS
    experiment = experiment_of(record)
    client = experiment.client()
    for _ in _ticks(seconds, "NNI's tuner or its remote machines did not connect"):
        # looked at before the log, so that a tuner that connected and ended meanwhile is one that started
        tuner_lives = processes.has_tuner(experiment.pid)
        with (log / "nnimanager.log").open("rb") as file:
            file.seek(record.log_begin)
            text = file.read()
        if all(line in text for line in lines):
            return
        try:
            failed = client.state().name == "ERROR"
        except LaunchError:
            failed = False  # it may be ending, as it does where it cannot reach a remote machine
        if live_manager(record, home) is None:
            raise LaunchError(f"the NNI manager ended: {fault_in(log, record.log_begin)}; its log is in {log}")
        if not tuner_lives or failed:
            raise LaunchError(
                f"the NNI experiment did not start: {fault_in(log, record.log_begin)}; its log is in {log}"
            )


def _ticks(seconds: float, failure: str) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.2)
    raise LaunchError(f"{failure} within {seconds:.0f} seconds")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
