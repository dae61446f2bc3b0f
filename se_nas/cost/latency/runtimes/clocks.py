"""The clocks that runs in this process are timed by.

One CPU thread is timed by its own clock, which stands still while another process has the core. On a quiet machine it
shows what the wall clock shows (to 0.3 %); at four busy processes on two cores, tables made with it missed held-out
networks by 3 %, those made with the wall clock by 11 %.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes.openvino_process import UNTIMED, timed_runs
from se_nas.cost.latency.runtimes.runtime import Sampler

Run = Callable[[], object]


def torch_clock(key: LatencyKey) -> str:
    """What runs of torch's are read from."""
    return "CUDA events" if key.torch_device.type == "cuda" else thread_clock(key)


def thread_clock(key: LatencyKey) -> str:
    """What runs that end when their call returns are read from."""
    return "CPU time of the one thread" if counts_thread_time(key) else "wall clock"


def counts_thread_time(key: LatencyKey) -> bool:
    """Whether runs that end when their call returns are timed by the CPU time of their thread."""
    # Windows counts a thread's time in steps of 15 ms
    fine = time.get_clock_info("thread_time").resolution < 1e-6
    return key.torch_device.type == "cpu" and key.threads == 1 and fine


def by_thread_clock(run: Run, key: LatencyKey) -> Sampler:
    """Times runs that are over when their call returns."""
    seconds = time.thread_time if counts_thread_time(key) else time.perf_counter
    return lambda runs: timed_runs(run, seconds, runs)


def by_torch_clock(run: Run, key: LatencyKey) -> Sampler:
    """Times runs of torch's, whose devices work on when the call has returned."""
    if key.torch_device.type == "cuda":
        return lambda runs: _by_events(run, runs)
    if key.torch_device.type != "cpu":

        def waiting() -> None:
            run()
            torch.accelerator.synchronize()

        return by_thread_clock(waiting, key)
    return by_thread_clock(run, key)


def _by_events(run: Run, runs: int) -> list[float]:
    for _ in range(UNTIMED):
        run()
    found = []
    for _ in range(runs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        start.record()
        run()
        end.record()
        end.synchronize()
        found.append(float(start.elapsed_time(end)))
    return found
