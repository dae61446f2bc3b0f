"""The average of several activations of one map, which costs passes over the map but keeps no map of its own.

Autograd would keep each activation's result beside its input: a map more for every option. Here the input alone is
kept, as many activations keep it anyway, and backward computes them again. On a CPU a map is worked through in parts
that stay in the cache, so that its many passes are seldom passes over memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from se_nas.layers.activations import ACTIVATION_GRADIENTS, activation_function
from se_nas.layers.gate import hand_written_backward_applies

_PART_BYTES = 512 * 1024
"""What of a map a CPU thread works on at once: a few such parts stay in its level-2 cache."""

_LINEAR_ON_EACH_SIDE = ("relu", "leaky_relu", "identity")
"""Activations that are x times their derivative, and need not be computed again where that is."""


def averaged_activations(names: Sequence[str], weights: Tensor, x: Tensor) -> Tensor:
    """The sum of activations of x, each times its weight.

    Args:
        names: keys of ACTIVATIONS.
        weights: (number of names,).
        x: of any shape.

    Returns:
        As x; it can be differentiated once.
    """
    shares = weights.to(x.dtype)  # under autocast a map is of half precision
    if hand_written_backward_applies(x, (shares,)):
        result: Tensor = _AveragedActivations.apply(tuple(names), shares, x)  # type: ignore[no-untyped-call]
        return result
    return _averaged(names, shares.unbind(), x)


def _averaged(names: Sequence[str], shares: Sequence[Tensor], x: Tensor) -> Tensor:
    total = activation_function(names[0])(x) * shares[0]
    for name, share in zip(names[1:], shares[1:], strict=True):
        total = torch.addcmul(total, activation_function(name)(x), share)
    return total


class _AveragedActivations(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, names: tuple[str, ...], shares: Tensor, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        if y.stride() != x.stride():  # a part of a map, with gaps in memory
            x = torch.empty_like(x).copy_(x)
        first, *others = zip(names, shares.unbind(), strict=True)
        for part, result in _parts(x, y):
            torch.mul(activation_function(first[0])(part), first[1], out=result)
            for name, share in others:
                result.addcmul_(activation_function(name)(part), share)
        ctx.save_for_backward(shares, x)
        ctx.names = names
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        shares, x = ctx.saved_tensors
        _, of_shares, of_x = ctx.needs_input_grad
        if grad.stride() != x.stride():
            grad = torch.empty_like(x).copy_(grad)
        dx = torch.empty_like(x)
        products: list[Tensor] = []
        for part, slope, result in _parts(x, grad, dx):
            for place, (name, share) in enumerate(zip(ctx.names, shares.unbind(), strict=True)):
                own = ACTIVATION_GRADIENTS[name](slope, part)
                if of_shares and name in _LINEAR_ON_EACH_SIDE:
                    products.append(_dot(own, part))
                elif of_shares:
                    products.append(_dot(slope, activation_function(name)(part)))
                if of_x:
                    torch.mul(own, share, out=result) if place == 0 else result.addcmul_(own, share)
        found = torch.stack(products).view(-1, len(shares)).sum(0).to(shares.dtype) if of_shares else None
        return None, found, dx if of_x else None


def _parts(*maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The numbers of maps of one layout in memory, on a CPU a few at a time."""
    steps, shape = maps[0].stride(), maps[0].shape
    order = sorted(range(len(shape)), key=lambda d: (-steps[d], -shape[d]))
    rows = [t.permute(order).view(-1) for t in maps]
    if maps[0].device.type != "cpu":
        yield tuple(rows)
        return
    size = _PART_BYTES // maps[0].element_size() * torch.get_num_threads()
    yield from zip(*(torch.split(row, size) for row in rows), strict=True)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a, b) if a.dtype in (torch.float32, torch.float64) else (a * b).sum(dtype=torch.float32)
