"""torch.compile: a network compiled as a whole, which takes it seconds to minutes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import FunctionType

import torch
from torch import Tensor, nn

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes.clocks import by_torch_clock
from se_nas.cost.latency.runtimes.runtime import Sampler
from se_nas.errors import DeviceError, in_line


def prepare(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> Sampler:
    """The module, compiled.

    Raises:
        DeviceError: it cannot be compiled here, as where there is no C++ compiler.
    """

    def call(*images: Tensor) -> object:
        return module(*images)

    # torch keeps what it compiled by the function's code, for eight modules at most: so each has a code of its own
    own = FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)
    compiled = torch.compile(own, fullgraph=True, dynamic=False)

    def run() -> object:
        return compiled(*inputs)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about its own parts
            for _ in range(3):
                run()
    except Exception as error:  # whatever torch's compiler or its C++ compiler raises
        words = in_line(error)
        raise DeviceError(f"runtime compiled must be able to compile the network, but got: {words:.200}") from error
    return by_torch_clock(run, key)
