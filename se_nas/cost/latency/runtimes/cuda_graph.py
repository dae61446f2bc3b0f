"""A CUDA graph: captured once and replayed, which leaves out Python's time and that of the launches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes.clocks import by_torch_clock
from se_nas.cost.latency.runtimes.runtime import Sampler


def prepare(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> Sampler:
    """The module's graph."""
    # torch asks for a warm-up on another stream than the one that captures
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            module(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = module(*inputs)

    def replay() -> object:
        graph.replay()
        return output  # kept alive with the graph that writes it

    return by_torch_clock(replay, key)
