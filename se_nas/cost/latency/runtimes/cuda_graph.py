"""A CUDA graph: captured once and replayed, which leaves out Python's time and that of the launches."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes.clocks import by_torch_clock
from se_nas.cost.latency.runtimes.runtime import Sampler


class _Pool:
    """Memory that the graphs which are alive together share: they are replayed in turn, and nobody reads their results.

    A graph of its own keeps it when others have gone.
    """

    def __init__(self) -> None:
        self.handle = torch.cuda.graph_pool_handle()
        self._keeper = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._keeper, pool=self.handle):
            self._something = torch.zeros(1, device="cuda")  # of an empty graph torch warns


_ALIVE: weakref.WeakValueDictionary[str, _Pool] = weakref.WeakValueDictionary()


def _pool() -> _Pool:
    """The pool of the graphs that are alive, or a new one."""
    pool = _ALIVE.get("pool") or _Pool()
    _ALIVE["pool"] = pool
    return pool


def prepare(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> Sampler:
    """The module's graph."""
    # torch asks for a warm-up on another stream than the one that captures
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            module(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    pool, graph = _pool(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool.handle):
        output = module(*inputs)

    def replay() -> object:
        graph.replay()
        return pool, output  # kept alive with the graph that writes it

    return by_torch_clock(replay, key)
