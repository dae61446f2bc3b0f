"""Which process of a job this one is, and which commands a job of several processes may run."""

from __future__ import annotations

import os
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
    "`retrain` and `evaluate` share their work where torchrun starts them, and any number of `worker` processes join "
    "an Optuna-driven search"
)


def rank_of_environment() -> int:
    """The rank that torchrun gave this process; 0 where torchrun did not start it."""
    return _number("RANK") or 0 if "WORLD_SIZE" in os.environ else 0


def check_rank() -> None:
    """Raise ConfigError where torchrun's variables are no ranks of a job."""
    least = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1}
    problems = []
    for name, lowest in least.items():
        if name in os.environ and ((value := _number(name)) is None or value < lowest):
            must = f"must be a whole number from {lowest} on, as torchrun sets it"
            problems.append(f"{name}: {must}, but got {short(os.environ[name])}")
    for name, other in (("RANK", "WORLD_SIZE"), ("WORLD_SIZE", "RANK")):
        if name in os.environ and other not in os.environ:
            problems.append(f"{other}: must be set where {name} is, as torchrun sets both, but is not")
    if not problems and rank_of_environment() >= (_number("WORLD_SIZE") or 1):
        problems.append(f"RANK: must be below WORLD_SIZE ({_number('WORLD_SIZE')}), but got {rank_of_environment()}")
    if problems:
        raise ConfigError("environment", problems)


def check_processes(command: str, processes: Processes) -> None:
    """Refuse to do once more what another process of the same job does too.

    A batch script that asks for several tasks is one process all the same, and so is each of its `srun -n 1`.

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
        if processes == "ranks" and (starter == "torchrun" or "WORLD_SIZE" in os.environ):
            continue
        if _number(number):
            raise SystemExit(2)
        what = "by one process" if processes == "one" else "under torchrun, which tells the processes of each other"
        raise ConfigError(command, [f"must be run {what}, but {starter} started {started} ({size}); {_INSTEAD}"])


def _number(name: str) -> int | None:
    value = os.environ.get(name, "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
