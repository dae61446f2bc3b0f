"""A real NNI manager for a folder: started detached, found again, watched, stopped and resumed.

NNI's own `Experiment` listens on every interface, ends with the terminal's session and knows its experiments by a list
in the home folder alone. Here everything of an experiment is in `folder/nni` and `folder/nni.json`, NNI's list is kept
too (its page and `nnictl` read it), and no process outlives `stop`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from se_nas.errors import LaunchError
from se_nas.nni_bridge.experiment import addresses, processes, stored
from se_nas.nni_bridge.experiment.digest import PAGE_CHANGES, config_digest
from se_nas.nni_bridge.experiment.nni_calls import canonical, check_nni, new_id, note_in_nnis_list
from se_nas.nni_bridge.experiment.record import (
    ExperimentRecord,
    find_experiment,
    read_experiment,
    write_experiment,
)
from se_nas.nni_bridge.experiment.secrets import find_secrets
from se_nas.nni_bridge.experiment.starting import Action, start_manager
from se_nas.nni_bridge.experiment.status import (
    Experiment,
    experiment_of,
    home_of,
    live_manager,
    owner_of,
    url_of,
)

#: NNI gives its tuner 30 seconds to end, its trials 5, and itself 60 for everything.
STOP_SECONDS = 75.0


def start(
    folder: str | os.PathLike[str],
    config: Mapping[str, Any],
    *,
    port: int,
    host: str = "127.0.0.1",
    action: Action = "create",
) -> Experiment:
    """Start an NNI manager that goes on when this program ends, and wait until its tuner is connected.

    Args:
        folder: the run's folder; the experiment is written to `folder/nni` and recorded in `folder/nni.json`.
        config: NNI's ExperimentConfig as a mapping (snake_case or camelCase); the working directory is set here.
        port: of the page. Remote training services may use the next one too.
        host: the address of this machine to listen on, "0.0.0.0" for all. NNI asks nobody for a password.
        action: "create" a new experiment, "resume" that of the folder, or "view" its page without running anything.

    Raises:
        LaunchError: NNI cannot be imported or refuses the configuration, the port is taken, the folder holds an
            experiment already (none, if not to create), trials could not reach the host, a secret that the
            configuration refers to is not there, or the tuner did not start.
            Nothing of a new experiment is left behind then but its log, and a stopped one stays as it was.
    """
    check_nni()
    home = home_of(folder)
    record = find_experiment(folder) if action == "create" else read_experiment(folder)
    if record is not None and live_manager(record, home) is not None:
        raise LaunchError(
            f"{folder}: the experiment must not be running, but it is, at {url_of(record)}; stop it first"
        )
    if record is not None and action == "create":
        raise LaunchError(f"{folder}: holds NNI experiment {record.id} already; resume it, or give another folder")
    address = addresses.resolve(host)
    checked = canonical(config, home)
    told = record.told if record is not None else None
    if action != "view":
        addresses.check_reachable(checked.json(), address)
        told = addresses.manager_ip(checked.json(), address)
        checked.nni_manager_ip = checked.nni_manager_ip or told
        checked = canonical(checked.json(), home)
    secrets = find_secrets(checked.json()) if action != "view" else {}  # a page that is only shown needs none
    addresses.check_free(address, port)
    if action != "view" and addresses.needs_next_port(checked.json()):
        addresses.check_free(address, port + 1)
    if record is not None:
        _end_leftovers(record, home)
    now = ExperimentRecord(
        id=new_id(home) if record is None else record.id,
        port=port,
        host=host,
        address=address,
        told=told,
        state="VIEWED" if action == "view" else "RUNNING",
        before=record.settled if record is not None else None,
        digest=record.digest if record is not None and action == "view" else config_digest(checked.json()),
        home=str(home),
    )
    return start_manager(folder, checked, secrets, now, record, action)


def resume(folder: str | os.PathLike[str], *, port: int | None = None, host: str | None = None) -> Experiment:
    """Go on with the stopped experiment of `folder`, at the same port and host unless others are given.

    Trials that were cut off run again with their parameters. Raises what `start` raises, and a LaunchError where the
    configuration in NNI's database is not known to be ours: whoever reaches the page could have written one that runs
    other programs.
    """
    return _start_again(folder, port, host, "resume")


def view(folder: str | os.PathLike[str], *, port: int | None = None, host: str | None = None) -> Experiment:
    """Show the page of the stopped experiment of `folder`, running nothing else, until `stop`. Raises like `start`."""
    return _start_again(folder, port, host, "view")


def stop(folder: str | os.PathLike[str]) -> None:
    """Stop the experiment of `folder`: afterwards none of its processes is left on this machine.

    A manager that died earlier is cleaned up after in the same way; a stopped one is no error.

    Raises:
        LaunchError: the folder holds no experiment, or a process could not be ended.
    """
    check_nni()
    home = home_of(folder)
    record = read_experiment(folder)
    state = record.settled
    if (process := live_manager(record, home)) is not None:
        with contextlib.suppress(LaunchError):
            state = "DONE" if experiment_of(record).client().state().name == "DONE" else state
        processes.end(process, owner_of(record, home))
        end = time.monotonic() + STOP_SECONDS
        while live_manager(record, home) is not None and time.monotonic() < end:
            time.sleep(0.1)
    _end_leftovers(record, home)
    note_in_nnis_list(lambda entries: entries.update_experiment(record.id, "status", "STOPPED"))
    write_experiment(folder, record.stopped(state))


def check_service(folder: str | os.PathLike[str], config: Mapping[str, Any], host: str) -> None:
    """Raise LaunchError where NNI refuses a configuration, or its trials could not reach `host`; see `start`.

    Also where a secret that it refers to is not there.
    """
    checked = canonical(config, home_of(folder)).json()
    addresses.check_reachable(checked, addresses.resolve(host))
    find_secrets(checked)


def _start_again(folder: str | os.PathLike[str], port: int | None, host: str | None, action: Action) -> Experiment:
    check_nni()
    record = read_experiment(folder)
    config = stored.config(record.id, home_of(folder))
    if action == "resume" or record.digest is not None:  # an old record's page may be shown, which starts no trial
        _check_ours(folder, record, config)
    service = config["trainingService"]
    for part in (config, *(service if isinstance(service, list) else [service])):
        if part.get("nniManagerIp") == record.told:
            part["nniManagerIp"] = None  # it was ours, and the host may be another now
    if record.home is not None:
        config = moved(config, Path(record.home).parent, home_of(folder).parent)
    return start(folder, config, port=port or record.port, host=host or record.host, action=action)


def moved(config: Mapping[str, Any], before: Path, now: Path) -> dict[str, Any]:
    """NNI's canonical configuration of a run whose folder lies elsewhere by now: our own paths in it are the new ones.

    A folder that was copied is another experiment, whose trials work in the copy.
    """

    def place(path: str) -> str:
        return str(now / Path(path).relative_to(before)) if Path(path).is_relative_to(before) else path

    found: dict[str, Any] = json.loads(json.dumps(config))
    service, tuner, old = found["trainingService"], found.get("tuner") or {}, shlex.quote(str(before))
    parts = [found, *(service if isinstance(service, list) else [service])]  # NNI's form has what is for all in each
    for part in parts:
        command = str(part.get("trialCommand"))
        if command.endswith(f" {old}"):
            part["trialCommand"] = command.removesuffix(old) + shlex.quote(str(now))
    in_parts = [(part, "trialCodeDirectory") for part in parts]
    for holder, key in (*in_parts, (tuner, "codeDirectory"), (tuner.get("classArgs") or {}, "run")):
        if isinstance(holder.get(key), str):
            holder[key] = place(holder[key])
    return found


def _check_ours(folder: str | os.PathLike[str], record: ExperimentRecord, config: Mapping[str, Any]) -> None:
    """Raise LaunchError where NNI's stored configuration is not what we handed to it, but for what its page changes."""
    if config_digest(config) != record.digest:
        raise LaunchError(
            f"{folder}: NNI's stored configuration must be the one that se-nas launch wrote, but for "
            f"{', '.join(PAGE_CHANGES)}, but it is another: it could start any program, so nothing is started"
        )


def _end_leftovers(record: ExperimentRecord, home: Path) -> None:
    left = processes.end_all(owner_of(record, home))
    if left:
        raise LaunchError(
            f"processes {[process.pid for process in left]} of NNI experiment {record.id} could not be ended"
        )
