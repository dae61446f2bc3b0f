"""Eager PyTorch: every operation is a call of Python's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes.clocks import by_torch_clock
from se_nas.cost.latency.runtimes.runtime import Sampler


def prepare(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> Sampler:
    """The module as it is."""

    def run() -> object:
        return module(*inputs)

    run()
    return by_torch_clock(run, key)
