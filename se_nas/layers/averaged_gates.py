"""The average of several gate functions of several excitations, with the few tensors that its gradient needs.

Autograd would keep every function of every excitation, twice: as much as the feature maps that they scale, where those
are small. Two averages over the functions, of their values and of their slopes, say as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from se_nas.layers.activations import GATES
from se_nas.layers.squeeze_excite import hand_written_backward_applies

_SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sigmoid": lambda x, y: y * (1 - y),
    "hard_sigmoid": lambda x, y: ((x > -3) & (x < 3)).to(x.dtype) / 6,
    "tanh": lambda x, y: 1 - y * y,
    "relu": lambda x, y: (x > 0).to(x.dtype),
}
"""Gate name to its derivative at x, where it is y."""


def averaged_gates(names: Sequence[str], shares: Tensor, weights: Tensor, excitations: Tensor) -> Tensor:
    """The sum over functions f and excitations x_n of share_f * weight_n * f(x_n).

    Args:
        names: of the functions, keys of GATES.
        shares, weights: (number of functions,) and (number of excitations,), of the dtype of the excitations.
        excitations: (number of excitations, ...).

    Returns:
        (...), which can be differentiated once.
    """
    if hand_written_backward_applies(excitations, (shares, weights)):
        result: Tensor = _AveragedGates.apply(tuple(names), shares, weights, excitations)  # type: ignore[no-untyped-call]
        return result
    total = torch.tensordot(shares, torch.stack([GATES[name](excitations) for name in names]), 1)
    averaged: Tensor = torch.tensordot(weights, total, 1)
    return averaged


class _AveragedGates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, names: tuple[str, ...], shares: Tensor, weights: Tensor, excitations: Tensor) -> Tensor:
        x = excitations.flatten(1)
        values, slopes, of_functions = torch.zeros_like(x), torch.zeros_like(x), x.new_empty(len(names), x.shape[1])
        for name, share, of_function in zip(names, shares.unbind(), of_functions.unbind(), strict=True):
            value = GATES[name](x)
            torch.mv(value.t(), weights, out=of_function)
            values.addcmul_(value, share)
            slopes.addcmul_(_SLOPES[name](x, value), share)
        ctx.save_for_backward(values, slopes, of_functions, weights)
        return torch.mv(of_functions.t(), shares).view(excitations.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, slopes, of_functions, weights = ctx.saved_tensors
        flat = grad.reshape(-1)
        excited = torch.outer(weights, flat).mul_(slopes).view(len(weights), *grad.shape)
        return None, torch.mv(of_functions, flat), torch.mv(values, flat), excited
