"""A real NNI manager for a folder: started detached, found again, watched, stopped and resumed.

NNI's own `Experiment` listens on every interface, ends with the terminal's session and knows its experiments by a list
in the home folder alone. Here everything of an experiment is in `folder/nni` and `folder/nni.json`, NNI's list is kept
too (its page and `nnictl` read it), and no process outlives `stop`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from se_nas.errors import LaunchError
from se_nas.nni_bridge import addresses, processes, stored
from se_nas.nni_bridge.digest import PAGE_CHANGES, config_digest
from se_nas.nni_bridge.experiment_record import (
    FILE,
    ExperimentRecord,
    find_experiment,
    read_experiment,
    write_experiment,
)
from se_nas.nni_bridge.manager_client import UNFINISHED, ManagerClient, TrialJob
from se_nas.nni_bridge.secrets import find_secrets, without_secrets

Action = Literal["create", "resume", "view"]

#: What NNI's Node loads before NNI; each says why.
PRELOADS = ("loopback.js", "page_guard.js", "secrets.js", "patience.js")

#: How long the manager may take to answer, and then the tuner to connect (which imports PyTorch), in seconds.
START_SECONDS = 150.0

#: The same where NNI first installs itself on the machines it reaches by SSH.
REMOTE_SECONDS = 600.0

#: NNI gives its tuner 30 seconds to end, its trials 5, and itself 60 for everything.
STOP_SECONDS = 75.0

#: A tuner that has nothing left proposed its last trial perhaps just now: seconds until NNI has surely submitted it.
SETTLE_SECONDS = 5.0

#: A machine that is hard at work may keep its manager from answering for so many seconds.
SILENCE_SECONDS = 60.0

#: States that nothing leaves without being asked; DIED is ours, of a manager that ended without being stopped.
ENDED = frozenset({"DONE", "ERROR", "STOPPED", "DIED"})


@dataclass(frozen=True)
class Experiment:
    """A running manager: its page is at `url`; `host` is the address it listens on."""

    id: str
    port: int
    host: str
    url: str
    pid: int

    def client(self) -> ManagerClient:
        """Its REST interface, which always answers on 127.0.0.1 too."""
        return ManagerClient(addresses.url("0.0.0.0", self.port))


@dataclass(frozen=True)
class Status:
    """An experiment at one moment.

    Attributes:
        id: NNI's id of the experiment.
        state: what NNI says (INITIALIZED, RUNNING, NO_MORE_TRIAL, TUNER_NO_MORE_TRIAL, DONE, ERROR, VIEWED, STOPPING),
            and where no manager runs STOPPED, DONE (stopped after it was done) or DIED (it ended by itself).
        trials: number of trials by NNI's status; where no manager runs them, those cut off are INTERRUPTED (a
            resume runs them again).
        url: the page's address, None where no manager runs.
        errors: what the manager says went wrong.
    """

    id: str
    state: str
    trials: dict[str, int]
    url: str | None
    errors: tuple[str, ...] = ()

    @property
    def finished(self) -> int:
        """Number of trials that have ended, in whatever way."""
        return sum(n for name, n in self.trials.items() if name not in UNFINISHED and name != "INTERRUPTED")


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
    home = _home(folder)
    record = find_experiment(folder) if action == "create" else read_experiment(folder)
    if record is not None and _manager(record, home) is not None:
        raise LaunchError(f"{folder}: the experiment must not be running, but it is, at {_url(record)}; stop it first")
    if record is not None and action == "create":
        raise LaunchError(f"{folder}: holds NNI experiment {record.id} already; resume it, or give another folder")
    address = addresses.resolve(host)
    checked = _canonical(config, home)
    told = record.told if record is not None else None
    if action != "view":
        addresses.check_reachable(checked.json(), address)
        told = addresses.manager_ip(checked.json(), address)
        checked.nni_manager_ip = checked.nni_manager_ip or told
        checked = _canonical(checked.json(), home)
    secrets = find_secrets(checked.json()) if action != "view" else {}  # a page that is only shown needs none
    addresses.check_free(address, port)
    if action != "view" and addresses.needs_next_port(checked.json()):
        addresses.check_free(address, port + 1)
    if record is not None:
        _end_leftovers(record.id, home)
    now = ExperimentRecord(
        id=_new_id(home) if record is None else record.id,
        port=port,
        host=host,
        address=address,
        told=told,
        state="VIEWED" if action == "view" else "RUNNING",
        before=record.settled if record is not None else None,
        digest=record.digest if record is not None and action == "view" else config_digest(checked.json()),
    )
    return _start_manager(folder, checked, secrets, now, record, action)


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
    home = _home(folder)
    record = read_experiment(folder)
    state = record.settled
    if (process := _manager(record, home)) is not None:
        with contextlib.suppress(LaunchError):
            state = "DONE" if _experiment(record).client().state().name == "DONE" else state
        processes.end(process, processes.owner(record.id, home))
        end = time.monotonic() + STOP_SECONDS
        while _manager(record, home) is not None and time.monotonic() < end:
            time.sleep(0.1)
    _end_leftovers(record.id, home)
    _note_in_nnis_list(lambda entries: entries.update_experiment(record.id, "status", "STOPPED"))
    write_experiment(folder, record.stopped(state))


def status(folder: str | os.PathLike[str]) -> Status:
    """The state of the experiment of `folder` and its trials, whether or not a manager runs.

    Raises:
        LaunchError: the folder holds no experiment, or its manager does not answer.
    """
    check_nni()
    home = _home(folder)
    record = read_experiment(folder)
    if _manager(record, home) is not None:
        client = _experiment(record).client()
        with contextlib.suppress(LaunchError):
            state = client.state()
            if state.name == "VIEWED":
                trials = stored.trial_counts(record.id, home)
            else:
                trials = {} if state.name == "INITIALIZING" else client.counts()
            return Status(record.id, state.name, trials, _url(record), state.errors)
        if _manager(record, home) is not None:
            state = client.state()  # it is alive but did not answer, perhaps it is just stopping: its own error
            return Status(record.id, state.name, {}, _url(record), state.errors)
    log = home / record.id / "log"
    died = record.pid is not None and record.state == "RUNNING"
    if died:  # or was stopped by nnictl or with the machine
        died = "Experiment stopped." not in _text(log / "nnimanager.log", record.log_begin)
    state_name = "DIED" if died else record.settled
    errors = (_fault(log, record.log_begin),) if died else ()
    return Status(record.id, state_name, stored.trial_counts(record.id, home), None, errors)


def wait_until_done(
    folder: str | os.PathLike[str], on_change: Callable[[Status], object] | None = None, *, poll: float = 1.0
) -> Status:
    """Wait until the experiment of `folder` is done, failed or stopped, and give back its last status.

    NNI never calls an experiment done whose tuner has nothing left to try; it is done when its last trial has ended.

    Args:
        folder: the run's folder.
        on_change: called with each status that differs from the one before.
        poll: seconds between two looks.

    Raises:
        LaunchError: the folder holds no experiment, or its manager lives and has not answered for SILENCE_SECONDS.
    """
    before, since, heard = None, 0.0, time.monotonic()
    while True:
        try:
            now = status(folder)
        except LaunchError:
            if running(folder) is None or time.monotonic() - heard > SILENCE_SECONDS:
                raise
            time.sleep(poll)
            continue
        heard = time.monotonic()
        if now != before:
            before, since = now, heard
            if on_change is not None:
                on_change(now)
        idle = now.state == "TUNER_NO_MORE_TRIAL" and not UNFINISHED & now.trials.keys()
        if now.state in ENDED or (idle and heard - since > SETTLE_SECONDS):
            return now
        time.sleep(poll)


def jobs(folder: str | os.PathLike[str]) -> list[TrialJob]:
    """All trials of the experiment of `folder`, of its manager or, where none runs, of its database.

    Raises:
        LaunchError: the folder holds no experiment, its manager does not answer, or its database is damaged.
    """
    experiment = running(folder)
    if experiment is not None:
        return experiment.client().trials()
    return stored.jobs(read_experiment(folder).id, _home(folder))


def running(folder: str | os.PathLike[str]) -> Experiment | None:
    """The live manager of `folder`, None where there is none (or no experiment at all)."""
    record = find_experiment(folder)
    return _experiment(record) if record is not None and _manager(record, _home(folder)) is not None else None


def needs_restart(folder: str | os.PathLike[str]) -> bool:
    """Whether a manager runs for `folder` that will not get on: it only shows the page, or failed, or has no tuner.

    That its tuner was killed NNI itself notices after 30 seconds.
    """
    experiment = running(folder)
    if experiment is None:
        return False
    state = status(folder).state
    busy = ("RUNNING", "NO_MORE_TRIAL", "TUNER_NO_MORE_TRIAL")
    return state in ("ERROR", "VIEWED") or (state in busy and not processes.has_tuner(experiment.pid))


def check_nni() -> None:
    """Raise LaunchError of one line where NNI, or what it needs, cannot be imported."""
    try:
        import nni.experiment.launcher  # noqa: F401
        import nni_node  # noqa: F401
    except Exception as error:  # any fault of its many dependencies, told in one line
        raise LaunchError(
            f"NNI must be importable, but got {type(error).__name__}: {_first_line(error)}; "
            'install it with: pip install "nni==3.0"'
        ) from error
    if find_spec("pkg_resources") is None:
        raise LaunchError(
            'NNI 3.0 imports pkg_resources, which is not there; pip install "setuptools<81" brings it back'
        )


def check_service(folder: str | os.PathLike[str], config: Mapping[str, Any], host: str) -> None:
    """Raise LaunchError where NNI refuses a configuration, or its trials could not reach `host`; see `start`.

    Also where a secret that it refers to is not there.
    """
    checked = _canonical(config, _home(folder)).json()
    addresses.check_reachable(checked, addresses.resolve(host))
    find_secrets(checked)


def _home(folder: str | os.PathLike[str]) -> Path:
    return (Path(folder) / "nni").resolve()


def _canonical(config: Mapping[str, Any], home: Path) -> Any:
    """NNI's ExperimentConfig, complete and checked by NNI."""
    from nni.experiment.config import ExperimentConfig

    logging.getLogger("nni.experiment.config").disabled = True  # warns at every look that nni_manager_ip is not set yet
    try:
        parsed = ExperimentConfig(**config)
        if isinstance(parsed.training_service, dict):  # left as it is where NNI has no such platform
            raise ValueError(f"training_service must have a platform that it knows, but got {parsed.training_service}")
        parsed.experiment_working_directory = str(home)
        if parsed.log_level in ("warning", "error", "fatal"):
            parsed.log_level = "info"  # its log tells when it has started
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "SSH password will be exposed")  # it is a reference to one
            return parsed.canonical_copy()
    except Exception as error:  # NNI raises assertions, type errors and value errors alike
        reason = _first_line(error) or "an assertion of NNI's"
        raise LaunchError(f"NNI refuses the configuration: {reason}") from error


def _manager(record: ExperimentRecord, home: Path) -> processes.Listed | None:
    return processes.find_manager(record.pid, record.started, processes.owner(record.id, home))


def _start_manager(
    folder: str | os.PathLike[str],
    config: Any,
    secrets: Mapping[str, str],
    record: ExperimentRecord,
    before: ExperimentRecord | None,
    action: Action,
) -> Experiment:
    """Start what `record` says and write it down; put everything back as it was (`before`) where it does not start."""
    home = _home(folder)
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
        launched = _experiment(record)
        _wait_until_listening(record, home, log)
        _note_in_nnis_list(lambda entries: _list_in(entries, launched, config, home))
        launched.client().begin(config.json())
        if action != "view":
            _wait_until_running(record, config, home, log)
        return launched
    except BaseException:
        with contextlib.suppress(Exception):
            processes.end_all(processes.owner(experiment, home))
        if before is None:
            (Path(folder) / FILE).unlink(missing_ok=True)
            _note_in_nnis_list(lambda entries: entries.remove_experiment(experiment))
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
    arguments = NniManagerArgs(action, record.id, config, record.port, False, False, None, None).to_command_line_args()
    # the preloads are arguments of this Node alone: in NODE_OPTIONS they would reach every trial
    preloads = [word for name in PRELOADS for word in ("--require", str(here / name))]
    command = [str(node / "node"), *preloads, "--max-old-space-size=4096", str(node / "main.js"), *arguments]
    environment = {
        **without_secrets(os.environ, secrets),
        processes.MARK: processes.owner(record.id, home).mark,
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
        raise LaunchError(f"the NNI manager ended at once: {_fault(log)}")
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
    client = _experiment(record).client()
    for _ in _ticks(START_SECONDS, "the NNI manager did not answer"):
        if _manager(record, home) is None:
            raise LaunchError(f"the NNI manager ended at once: {_fault(log)}")
        with contextlib.suppress(LaunchError):
            if client.state().name != "INITIALIZING":
                return


def _wait_until_running(record: ExperimentRecord, config: Any, home: Path, log: Path) -> None:
    """NNI calls an experiment running before its tuner and remote machines are connected: wait for its log's word."""
    lines, seconds = [b"Add event listeners"], START_SECONDS
    if any(s["platform"] == "remote" and not s.get("reuseMode") for s in addresses.services(config.json())):
        lines.append(b"Remote training service started")
        seconds = REMOTE_SECONDS
    experiment = _experiment(record)
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
        if _manager(record, home) is None:
            raise LaunchError(f"the NNI manager ended: {_fault(log, record.log_begin)}; its log is in {log}")
        if not tuner_lives or failed:
            raise LaunchError(f"the NNI experiment did not start: {_fault(log, record.log_begin)}; its log is in {log}")


def _ticks(seconds: float, failure: str) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.2)
    raise LaunchError(f"{failure} within {seconds:.0f} seconds")


def _start_again(folder: str | os.PathLike[str], port: int | None, host: str | None, action: Action) -> Experiment:
    check_nni()
    record = read_experiment(folder)
    config = stored.config(record.id, _home(folder))
    if action == "resume" or record.digest is not None:  # an old record's page may be shown, which starts no trial
        _check_ours(folder, record, config)
    service = config["trainingService"]
    for part in (config, *(service if isinstance(service, list) else [service])):
        if part.get("nniManagerIp") == record.told:
            part["nniManagerIp"] = None  # it was ours, and the host may be another now
    return start(folder, config, port=port or record.port, host=host or record.host, action=action)


def _check_ours(folder: str | os.PathLike[str], record: ExperimentRecord, config: Mapping[str, Any]) -> None:
    """Raise LaunchError where NNI's stored configuration is not what we handed to it, but for what its page changes."""
    if config_digest(config) != record.digest:
        raise LaunchError(
            f"{folder}: NNI's stored configuration must be the one that se-nas launch wrote, but for "
            f"{', '.join(PAGE_CHANGES)}, but it is another: it could start any program, so nothing is started"
        )


def _end_leftovers(experiment: str, home: Path) -> None:
    left = processes.end_all(processes.owner(experiment, home))
    if left:
        raise LaunchError(
            f"processes {[process.pid for process in left]} of NNI experiment {experiment} could not be ended"
        )


def _new_id(home: Path) -> str:
    """An id that NNI accepts, that no experiment of the folder has."""
    from nni.experiment.management import generate_experiment_id

    while True:
        experiment: str = generate_experiment_id()
        if not (home / experiment).exists():
            return experiment


def _note_in_nnis_list(change: Callable[[Any], object]) -> None:
    """Change NNI's list of experiments in the home folder, which its page and nnictl read; we can do without it."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        from nni.tools.nnictl.config_utils import Experiments

        change(Experiments(os.path.join(os.path.expanduser("~"), "nni-experiments")))


def _experiment(record: ExperimentRecord) -> Experiment:
    assert record.pid is not None
    return Experiment(record.id, record.port, record.address, _url(record), record.pid)


def _url(record: ExperimentRecord) -> str:
    return addresses.url(record.address, record.port)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""


def _fault(log: Path, begin: int = 0) -> str:
    """What went wrong: the last error that NNI's processes left on their stderr, else the last that NNI logged."""
    # an error's own line is not indented, where those that say where it was are
    lines = [line for line in _text(log / "manager.stderr").splitlines() if line[:1].isalpha()]
    if not lines:
        logged = re.findall(r"(?:ERROR|CRITICAL) \((.*?)\) (.*)", _text(log / "nnimanager.log", begin))
        lines = [f"{module}: {message}" for module, message in logged]
    return re.sub(r"\x1b\[[0-9;]*m", "", lines[-1])[:300] if lines else "it left no word"


def _text(path: Path, begin: int = 0) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace")
