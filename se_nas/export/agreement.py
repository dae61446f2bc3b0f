"""How far an exported network is from the one it was made of, and how long each takes: what every form must show."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from se_nas.cost.latency.runtimes.openvino_process import timed_runs
from se_nas.cost.latency.timing import clock_name, latency_conditions, latency_key, summarise
from se_nas.errors import ExportError
from se_nas.export.record import ExportTiming
from se_nas.layers.network import Network
from se_nas.records.models.certificate import Timing

Run = Callable[[Tensor], Tensor]
"""Images (B, channels, resolution, resolution) in float32 on the CPU to logits (B, classes)."""

BATCHES = (1, 3)
"""Batch sizes that are compared: a batch size that an export has frozen shows in the second."""


def greatest_difference(network: Network, run: Run) -> float:
    """The greatest absolute difference between two networks' logits, as a share of the greatest logit.

    Args:
        network: in eval mode, float32, on the CPU.
        run: what was exported, run on the same seeded normal images, once for each of BATCHES.

    Raises:
        ExportError: the network's logits are not finite, or the exported one's are of another shape.
    """
    spec = network.spec
    generator = torch.Generator().manual_seed(0)
    differences = []
    for batch in BATCHES:
        images = torch.randn(batch, spec.in_channels, spec.resolution, spec.resolution, generator=generator)
        with torch.inference_mode():
            expected = network(images)
        if not expected.isfinite().all():
            raise ExportError("a network's logits must be finite to be exported, but on normal images some are not")
        found = run(images)
        if found.shape != expected.shape:
            raise ExportError(
                f"exported logits must have the shape {tuple(expected.shape)}, but got {tuple(found.shape)}"
            )
        scale = max(float(expected.abs().max()), torch.finfo(torch.float32).tiny)
        differences.append((found - expected).abs().max() / scale)
    return float(torch.stack(differences).max())  # NaN if one is


def latency_beside(name: str, run: Run, network: Network, *, rounds: int = 20) -> ExportTiming:
    """Milliseconds for one image, of an exported network and of PyTorch's, which take turns on one CPU thread.

    Args:
        name: what runs the exported network, a name in the answer beside "pytorch".
        run: the exported network; it must keep to one thread by itself.
        network: in eval mode, float32, on the CPU; a channels_last copy is timed, which is PyTorch's fastest.
        rounds: timed runs of each, every one after some that are not timed.
    """
    key = latency_key("cpu", "eager")
    spec = network.spec
    image = torch.randn(1, spec.in_channels, spec.resolution, spec.resolution)
    # torch's stub of `to` forgets the memory format
    pytorch = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    channels_last = image.to(memory_format=torch.channels_last)
    runs: dict[str, Callable[[], Tensor]] = {name: lambda: run(image), "pytorch": lambda: pytorch(channels_last)}
    times = dict(zip(runs, in_turns(list(runs.values()), rounds), strict=True))
    return ExportTiming(**times, conditions=latency_conditions(key), clock=clock_name(key))


def in_turns(runs: Sequence[Callable[[], Tensor]], rounds: int) -> list[Timing]:
    """Milliseconds of each of several calls, which take turns on one CPU thread, each after some that are not timed."""
    milliseconds: list[list[float]] = [[] for _ in runs]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(rounds):
                for values, one_run in zip(milliseconds, runs, strict=True):
                    # one thread's own clock stands still while another process has the core
                    values += timed_runs(one_run, time.thread_time, 1)
    finally:
        torch.set_num_threads(threads)
    return [Timing(**asdict(summarise(values))) for values in milliseconds]
