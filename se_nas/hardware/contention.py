"""Whether other processes take so much of this machine that work on it takes more than twice as long.

Two signs, either of which is enough: so many processes want to run, by the load average of the last minute, that ours
would get less than half of what it gets alone; and a training, which computes all the time, had less than half of a
processor.
"""

from __future__ import annotations

import os

import torch

#: Share of the processors that is left where a warning is due.
_LEAST_SHARE = 0.5
#: Seconds below which a share of CPU time says nothing.
_LEAST_SECONDS = 2.0
_WARNED: set[str] = set()


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_average() -> float | None:
    """How many processes wanted to run in the last minute, on average; None where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def crowded(load: float | None, own: int, count: int) -> bool:
    """Whether some threads get less than half of the processors that they would have alone, where all share alike.

    Args:
        load: how many others want to run, None where it is not known.
        own: how many threads are about to join them.
        count: of processors.
    """
    if load is None:
        return False
    share = min(1.0, count / (load + own))
    return own * share < _LEAST_SHARE * min(own, count)


def starved(wall_seconds: float, cpu_seconds: float) -> bool:
    """Whether work that computes all the time had less than half of a processor; no CPU time is one not counted."""
    return wall_seconds >= _LEAST_SECONDS and 0 < cpu_seconds < _LEAST_SHARE * wall_seconds


def crowd_warning() -> list[str]:
    """A line where the machine is crowded before work begins; none where it is not."""
    load, own, count = load_average(), torch.get_num_threads(), processors()
    if load is None or not crowded(load, own, count):
        return []
    return _once(
        f"warning: other processes use this machine: {load:.1f} wanted to run in the last minute, on {count} "
        "processors; this will take more than twice as long, and latencies may be off"
    )


def starvation_warning(wall_seconds: float, cpu_seconds: float) -> list[str]:
    """A line where a training on the CPU was starved so far, once in a process; none where it was not."""
    of_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if of_gpu or not starved(wall_seconds, cpu_seconds):
        return []  # who waits for a GPU needs no processor
    share = f"{cpu_seconds / wall_seconds:.0%}"
    return _once(f"warning: other processes slow this machine down: the training had {share} of a processor")


def _once(line: str) -> list[str]:
    """A line, unless this process was told of it in some words."""
    if _WARNED:
        return []
    _WARNED.add(line)
    return [line]
