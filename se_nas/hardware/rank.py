"""Which process of a job this one is, and which commands a job of several processes may run."""

from __future__ import annotations

import atexit
import os
import socket
import sys
from typing import Literal

from se_nas.errors import ConfigError, short

#: What a command does where several processes run it: it alone is to run, they share its work, or each may do it.
Processes = Literal["one", "ranks", "any"]

#: Who starts several processes: the variables with how many there are, and with the number of this one.
_STARTERS = {
    "torchrun": ("WORLD_SIZE", "RANK"),
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    "mpirun": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    "mpiexec": ("PMI_SIZE", "PMI_RANK"),
}
_INSTEAD = (
    "`search`, `retrain` and `evaluate` share their work where torchrun or srun starts them, and any number of "
    "`worker` processes join an Optuna-driven search"
)
#: Set by torchrun, which under srun counts the ranks of all its machines.
_OF_TORCHRUN = "TORCHELASTIC_RUN_ID"


def rank_of_environment() -> int:
    """The rank that torchrun, or srun, gave this process; 0 where neither started it."""
    for size, number in (_STARTERS["torchrun"], _STARTERS["srun"]):
        if size in os.environ:
            return _number(number) or 0
    return 0


def leave_job(code: object) -> None:
    """End this process with a code of `SystemExit` where it is one of several ranks; return where it is alone.

    A thread of gloo's frees what is left of its last operation with the interpreter locked. Where the interpreter is
    taken down before it comes to that, Python ends the thread and C++ then aborts the process, upon which torchrun ends
    the other ranks, at work on their last files.
    """
    if (_number("WORLD_SIZE") or 1) == 1:
        return
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def check_rank() -> None:
    """Raise ConfigError where torchrun's or SLURM's variables are no ranks of a job."""
    least = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1}
    problems = []
    for name, lowest in least.items():
        if name in os.environ and ((value := _number(name)) is None or value < lowest):
            must = f"must be a whole number from {lowest} on, as torchrun sets it"
            problems.append(f"{name}: {must}, but got {short(os.environ[name])}")
    for name, other in (("RANK", "WORLD_SIZE"), ("WORLD_SIZE", "RANK")):
        if name in os.environ and other not in os.environ:
            problems.append(f"{other}: must be set where {name} is, as torchrun sets both, but is not")
    problems = problems or [*_out_of_range("torchrun"), *_out_of_range("srun"), *_unlike_srun()]
    if problems:
        raise ConfigError("environment", problems)


def check_processes(command: str, processes: Processes) -> None:
    """Refuse to do once more what another process of the same job does too.

    A batch script that asks for several tasks is one process all the same, and so is each of its `srun -n 1`. Processes
    that srun alone started and that share their work get their ranks here, by torchrun's names.

    Args:
        command: as it is called.

    Raises:
        ConfigError: several processes run a command for one, or do not know of each other; on the first of them.
        SystemExit: on the others, without a word.
    """
    for starter, (size, number) in _STARTERS.items():
        started = _number(size) or 1
        if started == 1 or processes == "any":
            continue
        if processes == "ranks" and (starter in ("torchrun", "srun") or "WORLD_SIZE" in os.environ):
            continue
        if _number(number):
            raise SystemExit(2)
        what = (
            "by one process" if processes == "one" else "under torchrun or srun, which tell the processes their ranks"
        )
        raise ConfigError(command, [f"must be run {what}, but {starter} started {started} ({size}); {_INSTEAD}"])
    if processes == "ranks":
        _take_ranks_of_srun()
        _check_meeting_place()


def _take_ranks_of_srun() -> None:
    size, number = _STARTERS["srun"]
    if (_number(size) or 1) == 1 or "WORLD_SIZE" in os.environ:
        return
    # with devices of its own a task sees those alone, and counts them from 0
    local = "0" if "SLURM_GPUS_PER_TASK" in os.environ else os.environ.get("SLURM_LOCALID", "0")
    os.environ |= {"WORLD_SIZE": os.environ[size], "RANK": os.environ[number], "LOCAL_RANK": local}


def _check_meeting_place() -> None:
    """Where the ranks of a job meet, which torchrun says, or a batch script."""
    if "WORLD_SIZE" not in os.environ:
        return
    place, port = os.environ.get("MASTER_ADDR", ""), _number("MASTER_PORT") or 0
    problems = []
    if not place:
        example = '`scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1` under SLURM'
        problems.append(f"MASTER_ADDR: must be the machine of the first rank ({example}), but is not set")
    if not 0 < port < 2**16:
        got = f"got {short(os.environ['MASTER_PORT'])}" if "MASTER_PORT" in os.environ else "is not set"
        problems.append(f"MASTER_PORT: must be a free port of the first rank's machine, the same for all, but {got}")
    if problems and rank_of_environment():
        raise SystemExit(2)  # all have the same environment, and the first tells it
    if not problems:
        try:
            socket.getaddrinfo(place, port)
        except OSError as error:  # would be tried for half an hour
            must = f"MASTER_ADDR: must be a machine that {socket.gethostname()} finds by its name"
            problems = [f"{must}, but got {short(place)} ({error.strerror})"]
            if _number("LOCAL_RANK"):
                raise SystemExit(2) from error
    if problems:
        raise ConfigError("environment", problems)


def _out_of_range(starter: str) -> list[str]:
    size, number = _STARTERS[starter]
    if size not in os.environ:
        return []
    started, rank = _number(size), _number(number)
    if started is None or rank is None or rank >= started:
        got = " of ".join(short(os.environ.get(name, "")) for name in (number, size))
        return [f"{number}: must be a whole number below {size}, as {starter} sets both, but got {got}"]
    return []


def _unlike_srun() -> list[str]:
    """What a batch script set for all tasks alike, where srun gave each its own."""
    if "WORLD_SIZE" not in os.environ or _OF_TORCHRUN in os.environ or (_number("SLURM_STEP_NUM_TASKS") or 1) == 1:
        return []
    pairs = zip(_STARTERS["torchrun"], _STARTERS["srun"], strict=True)
    return [
        f"{name}: must be {of_srun}, {_number(of_srun)}, in a task of srun, but is {_number(name)}; leave it unset"
        for name, of_srun in pairs
        if _number(name) != _number(of_srun)
    ]


def _number(name: str) -> int | None:
    value = os.environ.get(name, "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
