"""What becomes of an experiment: its state, its trials and its faults, whether or not its manager runs."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from se_nas.errors import LaunchError
from se_nas.nni_bridge.experiment import addresses, processes, stored
from se_nas.nni_bridge.experiment.manager_client import UNFINISHED, ManagerClient, TrialJob
from se_nas.nni_bridge.experiment.nni_calls import check_nni
from se_nas.nni_bridge.experiment.record import (
    ExperimentRecord,
    find_experiment,
    read_experiment,
)

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


def status(folder: str | os.PathLike[str]) -> Status:
    """The state of the experiment of `folder` and its trials, whether or not a manager runs.

    Raises:
        LaunchError: the folder holds no experiment, or its manager does not answer.
    """
    check_nni()
    home = home_of(folder)
    record = read_experiment(folder)
    if live_manager(record, home) is not None:
        client = experiment_of(record).client()
        with contextlib.suppress(LaunchError):
            state = client.state()
            if state.name == "VIEWED":
                trials = stored.trial_counts(record.id, home)
            else:
                trials = {} if state.name == "INITIALIZING" else client.counts()
            return Status(record.id, state.name, trials, url_of(record), state.errors)
        if live_manager(record, home) is not None:
            state = client.state()  # it is alive but did not answer, perhaps it is just stopping: its own error
            return Status(record.id, state.name, {}, url_of(record), state.errors)
    log = home / record.id / "log"
    died = record.pid is not None and record.state == "RUNNING"
    if died:  # or was stopped by nnictl or with the machine
        died = "Experiment stopped." not in text_from(log / "nnimanager.log", record.log_begin)
    state_name = "DIED" if died else record.settled
    errors = (fault_in(log, record.log_begin),) if died else ()
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
    return stored.jobs(read_experiment(folder).id, home_of(folder))


def running(folder: str | os.PathLike[str]) -> Experiment | None:
    """The live manager of `folder`, None where there is none (or no experiment at all)."""
    record = find_experiment(folder)
    return experiment_of(record) if record is not None and live_manager(record, home_of(folder)) is not None else None


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


def home_of(folder: str | os.PathLike[str]) -> Path:
    """The folder of a run's experiment; LaunchError where a link stands in its place, which would lead elsewhere."""
    home = Path(folder) / "nni"
    if home.is_symlink():
        raise LaunchError(f"{home}: must be a folder of its own, but it is a link")
    return home.resolve()


def owner_of(record: ExperimentRecord, home: Path) -> processes.Owner:
    """Whose processes may be ended for a recorded experiment."""
    return processes.owner(record.id, home, made_here=record.home == str(home))


def live_manager(record: ExperimentRecord, home: Path) -> processes.Listed | None:
    """The experiment's manager as a process, None where it does not run."""
    return processes.find_manager(record.pid, record.started, owner_of(record, home))


def experiment_of(record: ExperimentRecord) -> Experiment:
    """The running experiment that a record speaks of."""
    assert record.pid is not None
    return Experiment(record.id, record.port, record.address, url_of(record), record.pid)


def url_of(record: ExperimentRecord) -> str:
    """The address of its page."""
    return addresses.url(record.address, record.port)


def fault_in(log: Path, begin: int = 0) -> str:
    """What went wrong: the last error that NNI's processes left on their stderr, else the last that NNI logged."""
    # an error's own line is not indented, where those that say where it was are
    lines = [line for line in text_from(log / "manager.stderr").splitlines() if line[:1].isalpha()]
    if not lines:
        logged = re.findall(r"(?:ERROR|CRITICAL) \((.*?)\) (.*)", text_from(log / "nnimanager.log", begin))
        lines = [f"{module}: {message}" for module, message in logged]
    return re.sub(r"\x1b\[[0-9;]*m", "", lines[-1])[:300] if lines else "it left no message"


def text_from(path: Path, begin: int = 0) -> str:
    """The text of a log from a byte on, "" where there is no log."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace")
