"""The processes of one NNI experiment: found by a mark in their environment, ended with nothing left behind."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

#: Environment variable that the manager gets, and the tuner and every local trial inherit.
MARK = "SE_NAS_NNI_EXPERIMENT"


def mark(experiment: str, home: Path) -> str:
    """The value of MARK for an experiment that lives in the folder `home`: a copy of a folder is another experiment."""
    return f"{experiment}@{home}"


def of_experiment(experiment: str, home: Path) -> list[psutil.Process]:
    """Every live process of the experiment on this machine, but this program and those that it runs in.

    Beside the marked ones these are NNI's trial keeper and its trials where SSH led back to this machine: they have the
    environment of the SSH server, and are known by the experiment's id in the keeper's command or the trial's
    variables.
    """
    import psutil

    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process for process in psutil.process_iter() if process.pid not in own and _belongs(process, experiment, home)
    ]


def _belongs(process: psutil.Process, experiment: str, home: Path) -> bool:
    import psutil

    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        environment = process.environ()
        if MARK in environment:
            return str(environment[MARK]) == mark(experiment, home)
        if environment.get("NNI_EXP_ID") == experiment:
            return True
        command = process.cmdline()
    except (psutil.Error, OSError):
        return False  # it has just ended, or is another user's
    keeper = any(part.endswith("trial_keeper/main.js") for part in command)
    return keeper and any(f"/nni-experiments/{experiment}/environments/" in part for part in command)


def end(processes: Sequence[psutil.Process], patience: float = 5.0) -> None:
    """Ask the processes to end, and after `patience` seconds kill those that have not."""
    import psutil

    for signal in ("terminate", "kill"):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                getattr(process, signal)()  # psutil refuses where the number is another process's by now
        processes = psutil.wait_procs(processes, timeout=patience)[1]


def end_all(experiment: str, home: Path, rounds: int = 3) -> list[psutil.Process]:
    """End the experiment's processes, again for those that started meanwhile; give back what is left, in hope none."""
    left = of_experiment(experiment, home)
    for _ in range(rounds):
        if not left:
            break
        end(left)
        time.sleep(0.1)
        left = of_experiment(experiment, home)
    return left


def is_manager(pid: int | None, experiment: str, home: Path) -> bool:
    """Whether process `pid` is the live manager of the experiment; it is reaped where it was ours and has ended."""
    import psutil

    if pid is None:
        return False
    with contextlib.suppress(OSError):  # not a child of this program, as a rule
        os.waitpid(pid, os.WNOHANG)
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        command = process.cmdline()
    except psutil.Error:
        return False
    return experiment in command and str(home) in command and any(part.endswith("main.js") for part in command)


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
