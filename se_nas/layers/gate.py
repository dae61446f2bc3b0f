"""Gates of squeezed channels, by autograd or with a backward of their own.

Gates are computed from vectors, so that each of their operations costs what calling it costs, not what it computes.
Where a model has many, or one has many operations, autograd is most of their time: it calls more for the gradient of
each, and keeps what each needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Gate = Callable[..., Tensor]
"""A function gate(z, *parameters) of squeezed channels (..., C) that returns the scale (..., C)."""


class HandWrittenGate:
    """A gate with a backward of its own; when it is called, it can be differentiated once."""

    def forward(self, z: Tensor, *parameters: Tensor) -> tuple[Tensor, Any]:
        """The scale, in operations that autograd could follow, and what `gradients` needs of how it came about."""
        raise NotImplementedError

    def gradients(self, z: Tensor, parameters: Sequence[Tensor], kept: Any, grad: Tensor) -> Sequence[Tensor | None]:
        """That of z and those of the parameters, of the gradient of the scale."""
        raise NotImplementedError

    def __call__(self, z: Tensor, *parameters: Tensor) -> Tensor:
        """See `Gate`."""
        if not hand_written_backward_applies(z, parameters):
            return self.forward(z, *parameters)[0]
        scale: Tensor = _HandWritten.apply(self, z, *parameters)  # type: ignore[no-untyped-call]
        return scale


class ByAutograd(HandWrittenGate):
    """Any gate, whose gradients autograd finds."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def forward(self, z: Tensor, *parameters: Tensor) -> tuple[Tensor, Any]:
        """See `HandWrittenGate`; keeps a graph, which is tiny and points at nothing outside itself."""
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_(t.requires_grad) for t in (z, *parameters)]
            scale = self._gate(*leaves)
        return scale.detach(), (leaves, scale)

    def gradients(self, z: Tensor, parameters: Sequence[Tensor], kept: Any, grad: Tensor) -> Sequence[Tensor | None]:
        """See `HandWrittenGate`."""
        leaves, scale = kept
        wanted = [t for t in leaves if t.requires_grad]
        if not scale.requires_grad:  # a constant gate
            return [None] * len(leaves)
        # retained, so that the outer graph may be walked again; it goes when the outer graph goes
        found = iter(torch.autograd.grad(scale, wanted, grad, retain_graph=True, allow_unused=True))
        return [next(found) if t.requires_grad else None for t in leaves]


class _HandWritten(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: HandWrittenGate, z: Tensor, *parameters: Tensor) -> Tensor:
        scale, ctx.kept = gate.forward(z, *parameters)
        ctx.gate = gate
        ctx.save_for_backward(z, *parameters)
        return scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        z, *parameters = ctx.saved_tensors
        return None, *ctx.gate.gradients(z, parameters, ctx.kept, grad)


def gradients_by_autograd(function: Callable[..., Tensor], given: Sequence[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    """Those of what a function is given, of the gradient of its result."""
    leaves = [t.detach().requires_grad_() for t in given]
    with torch.enable_grad():
        result = function(*leaves)
    return torch.autograd.grad(result, leaves, grad)


def hand_written_backward_applies(x: Tensor, parameters: Iterable[Tensor]) -> bool:
    """Whether there is a gradient to take, and nothing is looking that wants to see plain operations instead."""
    return (
        type(x) in (Tensor, nn.Parameter)  # not a torch.fx proxy, a fake tensor or another stand-in
        and torch.is_grad_enabled()
        and (x.requires_grad or any(p.requires_grad for p in parameters))
        and not torch.compiler.is_compiling()  # the compiler fuses the plain formula itself
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]  # also in torch.onnx's older exporter
        and not torch._C._are_functorch_transforms_active()  # vmap, torch.func.grad: they refuse this kind of function
    )
