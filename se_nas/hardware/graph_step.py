"""The forward and backward pass of a step as a graph: compiled by torch, captured by CUDA, or both.

Of small images a fast GPU is done with a kernel before Python has launched the next. A captured step is one launch, and
a compiled one has fewer kernels that read and write their maps fewer times. What moves the weights stays outside: the
learning rate, clipping and the optimiser are a few launches of their own, and see plain gradients.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from se_nas.errors import ConfigError, SeNasError, in_line
from se_nas.hardware.lines import Say

Asked = Literal["auto", True, False]
"""What a configuration says of compiling or capturing; "auto" is where it is known to pay, or should by calculation."""

#: What steps on several ranks, or in parts, cannot be captured by.
RANKS, PARTS = "on several ranks, which wait for each other", "where the gradients of several parts add up (accumulate)"

#: Steps from which on compiling pays: it takes about a minute and saves a few milliseconds a step, by calculation.
_COMPILED_FROM = 20_000
#: Steps from which on capturing pays, which takes a second or two.
_CAPTURED_FROM = 200

#: Calls with tensors of the same shapes before the one that is captured. The first is plain, so that what the network's
#: objects compute once is there when torch traces it, and the second is the first that may be compiled.
_WARM_UP = 5

Work = Callable[..., tuple[Tensor, ...]]


def compiles(asked: Asked, device: torch.device, steps: int) -> bool:
    """Whether a training of so many steps is compiled: by "auto" on CUDA devices where Triton is there.

    On a CPU it saved 3 ms of 24 of a network's step and 9 of 32 of a mixture's, which pays for minutes of compiling
    after tens of thousands of steps (benchmarks/graph_step.py); it can be asked for.
    """
    if asked != "auto":
        return asked
    return device.type == "cuda" and steps >= _COMPILED_FROM and importlib.util.find_spec("triton") is not None


def captures(asked: Asked, device: torch.device, steps: int, where: str, hindrances: Mapping[str, bool]) -> bool:
    """Whether CUDA captures the steps of a training of so many.

    Args:
        where: what the configuration is of, in an error.
        hindrances: what it cannot be on or with, and whether that is so.

    Raises:
        ConfigError: it is asked for where it cannot be.
    """
    there = [f"on {device.type}"] if device.type != "cuda" else [words for words, holds in hindrances.items() if holds]
    if asked is True and there:
        raise ConfigError(where, [f"cuda_graphs: must be auto or false {there[0]}, but got true"])
    return not there and (asked is True or (asked == "auto" and steps >= _CAPTURED_FROM))


class Compiled(nn.Module):
    """A module, or a function of tensors, that torch compiles as one graph for each shape of what it is given.

    Attributes:
        on: whether that is called, in place of the plain one.
    """

    def __init__(self, plain: Callable[..., Tensor]) -> None:
        super().__init__()
        self.plain, self.on = plain, False

        def call(*inputs: Tensor) -> Tensor:
            return plain(*inputs)

        # torch keeps what it compiled by the function's code, for eight of them at most: so each has a code of its own
        own = FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)
        self._compiled: Callable[..., Tensor] = torch.compile(own, fullgraph=True, dynamic=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the module or the function returns."""
        return (self._compiled if self.on else self.plain)(*inputs)


class GraphStep:
    """A function of tensors that is called at every step, and adds to the gradients of a module, made a graph.

    Where compiling or capturing fails the plain function goes on, and a line says so. A captured function must ask
    nothing of the device, and depend on nothing that changes but its tensors, the module and torch's generators.

    Args:
        work: returns tensors; what else it changes are the module's gradients and buffers.
        compiled: what of it is compiled, if anything.
        captured: whether CUDA captures it. The module's gradients must then be None before each call.
        say: is told what failed.
    """

    def __init__(
        self,
        work: Work,
        module: nn.Module,
        *,
        compiled: Compiled | None = None,
        captured: bool = False,
        say: Say,
    ) -> None:
        self._work, self._module, self._say = work, module, say
        self._compiled, self._captured = compiled, captured
        self._calls: dict[Any, int] = {}
        self._graphs: dict[Any, _Captured] = {}
        self._pool: Any = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the function returns."""
        if self._compiled is None and not self._captured:
            return self._work(*inputs)
        shapes = tuple((t.shape, t.dtype) for t in inputs)
        if (graph := self._graphs.get(shapes)) is not None:
            return graph(*inputs)
        number = self._calls[shapes] = self._calls.get(shapes, -1) + 1
        if self._compiled is not None:
            self._compiled.on = number > 0
            if number == 1:
                return self._compiling(self._compiled, inputs)
        if self._captured and number >= _WARM_UP:
            return self._capturing(shapes, inputs)
        return self._aside(inputs) if self._captured else self._work(*inputs)

    def _compiling(self, compiled: Compiled, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The first compiled call, which compiles."""
        kept = [(buffer, buffer.clone()) for buffer in self._module.buffers()]
        device = inputs[0].device
        generators = [torch] if device.type == "cpu" else [torch, torch.get_device_module(device)]
        random = [generator.get_rng_state() for generator in generators]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch about its own parts
                return self._work(*inputs)
        except SeNasError:
            raise
        except Exception as error:  # whatever torch's compiler or the one behind it raises
            self._say(f"not compiled, as torch cannot: {_words(error)}")
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
        for generator, state in zip(generators, random, strict=True):
            generator.set_rng_state(state)
        compiled.on, self._compiled = False, None
        return self._work(*inputs)

    def _aside(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Called on another stream, as torch asks of what comes before capturing."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            outputs = self._work(*inputs)
        torch.cuda.current_stream().wait_stream(side)
        return outputs

    def _capturing(self, shapes: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Captured, and run for the first time."""
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            graph = self._graphs[shapes] = _Captured(self._work, self._module.parameters(), inputs, self._pool)
        except SeNasError:
            raise
        except Exception as error:  # whatever CUDA refuses
            self._say(f"not captured, as CUDA cannot: {_words(error)}")
            self._captured = False
            self._module.zero_grad(set_to_none=True)
            return self._work(*inputs)
        return graph(*inputs)


class _Captured:
    """A call as a CUDA graph, which reads its tensors where the first ones were put, and writes where it first did."""

    def __init__(self, work: Work, parameters: Iterable[nn.Parameter], inputs: tuple[Tensor, ...], pool: Any) -> None:
        self._inputs = [t.detach().clone() for t in inputs]
        self._graph = torch.cuda.CUDAGraph()
        # only this thread is not to wait: others, such as one that pins batches, may go on
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._outputs = work(*self._inputs)
        self._gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return tuple(output.clone() for output in self._outputs)  # the next call writes over its own


def _words(error: Exception) -> str:
    return f"{in_line(error):.200}"
