"""The processes of one NNI experiment: found by a mark in their environment, ended with nothing left behind.

Which of a listing are the experiment's is decided by `select`, which looks at nothing else than the listing. Whatever
is signalled was selected, and is looked at again in the moment before: a number may be another process's by then.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

#: Environment variable that the manager gets, and the tuner and every local trial inherit.
MARK = "SE_NAS_NNI_EXPERIMENT"

#: The kernel tells when a process was started by seconds since the boot, and the clock may be set right meanwhile.
_CLOCK_SECONDS = 2.0

Signal = Literal["terminate", "kill"]


@dataclass(frozen=True)
class Listed:
    """A process as it was seen in one moment.

    Attributes:
        started: seconds since 1970; with `pid` it is this process and no other.
        user: the number of the user whose rights it has.
    """

    pid: int
    started: float
    user: int
    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Owner:
    """An experiment, and who may end its processes.

    Attributes:
        experiment: NNI's id of it, of eight letters and digits; see `ExperimentRecord`.
        home: the folder that it lives in; a copy of a folder is another experiment.
        users: the numbers of the user who asks and of the one whose folder it is: processes of others are never ours.
        made_here: whether it was launched in this very folder; only then can a process that SSH started be its own.
    """

    experiment: str
    home: Path
    users: frozenset[int]
    made_here: bool

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9]{8}", self.experiment):
            raise ValueError(f"the id of an experiment must be 8 letters and digits, but got {self.experiment!r:.80}")

    @property
    def mark(self) -> str:
        """The value of MARK of its processes."""
        return f"{self.experiment}@{self.home}"


def owner(experiment: str, home: Path, *, made_here: bool) -> Owner:
    """The experiment that lives in the folder `home`; `made_here`: it was launched there, it is no copy."""
    with contextlib.suppress(OSError):  # where nothing was launched yet
        return Owner(experiment, home, frozenset({os.geteuid(), home.stat().st_uid}), made_here)
    return Owner(experiment, home, frozenset({os.geteuid()}), made_here)


def select(listing: Iterable[Listed], own: Owner) -> list[Listed]:
    """Those of a listing that are the experiment's.

    Beside the marked ones these are NNI's trial keeper and its trials where SSH led back to this machine. They have the
    environment of the SSH server, and are known by the place of this very experiment in the remote home folder: as the
    keeper's program, or as the output of a trial whose variables name the experiment too.
    """
    return [process for process in listing if _belongs(process, own)]


def _belongs(process: Listed, own: Owner) -> bool:
    if process.user not in own.users:
        return False
    if MARK in process.environment:
        return process.environment[MARK] == own.mark
    if not own.made_here:  # a copy of a folder has the id of the original's experiment, and none of its processes
        return False
    place = f"/nni-experiments/{own.experiment}/environments/"
    if process.environment.get("NNI_EXP_ID") == own.experiment:
        return place in process.environment.get("NNI_OUTPUT_DIR", "")
    program, *words = process.command or ("",)
    keeper = Path(program).name == "node" and any(word.endswith("/trial_keeper/main.js") for word in words)
    return keeper and any(place in word for word in words)


def listing() -> Iterator[Listed]:
    """The live processes of this machine whose environment may be read, but this program and those it runs in."""
    import psutil

    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for pid in psutil.pids():
        if pid not in own and (seen := look(pid)) is not None:
            yield seen


def look(pid: int) -> Listed | None:
    """The live process of a number; None where there is none, or it is another user's."""
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            user, command = process.uids().effective, tuple(process.cmdline())
            return Listed(pid, process.create_time(), user, command, process.environ())
    except (psutil.Error, OSError, ValueError, OverflowError):
        return None  # it has just ended, or is another user's


def send(process: Listed, signal: Signal) -> None:
    """Signal a process, which may have ended since it was listed."""
    import psutil

    with contextlib.suppress(psutil.Error):
        now = psutil.Process(process.pid)
        if now.create_time() == process.started:  # psutil itself sees to it that the number is no other's from here on
            getattr(now, signal)()


@dataclass(frozen=True)
class Machine:
    """Where processes are listed, looked at again and signalled; a test has a made-up one."""

    listing: Callable[[], Iterable[Listed]]
    look: Callable[[int], Listed | None]
    send: Callable[[Listed, Signal], object]


THIS_MACHINE = Machine(listing, look, send)


def end_all(own: Owner, on: Machine = THIS_MACHINE, *, patience: float = 5.0, rounds: int = 3) -> list[Listed]:
    """End the experiment's processes, again for those that started meanwhile; give back what is left, in hope none.

    Args:
        patience: seconds from the request to end to the kill, and from there to the next round.
    """
    left = select(on.listing(), own)
    for _ in range(rounds):
        if not left:
            break
        signals: tuple[Signal, ...] = ("terminate", "kill")
        for signal in signals:
            for process in left:
                if _is_still(process, own, on):
                    on.send(process, signal)
            left = _wait(left, own, on, patience)
        time.sleep(min(0.1, patience))
        left = select(on.listing(), own)
    return left


def end(process: Listed, own: Owner, on: Machine = THIS_MACHINE) -> None:
    """Ask one of the experiment's processes to end."""
    if _is_still(process, own, on):
        on.send(process, "terminate")


def _is_still(process: Listed, own: Owner, on: Machine) -> bool:
    """Whether a listed process is live, still the same, and the experiment's."""
    now = on.look(process.pid)
    return now is not None and now.started == process.started and _belongs(now, own)


def _wait(processes: Sequence[Listed], own: Owner, on: Machine, patience: float) -> list[Listed]:
    """Those that are left after `patience` seconds."""
    until = time.monotonic() + patience
    while True:
        processes = [process for process in processes if _is_still(process, own, on)]
        if not processes or time.monotonic() >= until:
            return list(processes)
        time.sleep(0.05)


def find_manager(pid: int | None, started: float | None, own: Owner) -> Listed | None:
    """The live manager of the experiment that was recorded as process `pid`, started then (None: not recorded)."""
    process = look(pid) if pid is not None else None
    if process is None or (started is not None and abs(process.started - started) > _CLOCK_SECONDS):
        return None
    command = process.command
    runs = own.experiment in command and str(own.home) in command and any(part.endswith("main.js") for part in command)
    return process if runs and _belongs(process, own) else None


def has_tuner(manager: int) -> bool:
    """Whether the manager's tuner process is alive."""
    import psutil

    try:
        children = psutil.Process(manager).children(recursive=True)
    except psutil.Error:
        return False
    for child in children:
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE and "--exp_params" in " ".join(child.cmdline()):
                return True
    return False
