"""The average of gate functions of many excitations, with the few tensors that its gradient needs.

Every function of every excitation would take as much memory as the feature maps that they scale, where those are small.
Two averages over the functions, of their values and of their slopes, say as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from se_nas.layers.activations import GATES

_VALUES = GATES | {"tanh": lambda x: 2 * torch.sigmoid(2 * x) - 1}  # a quarter of the time of torch's, on a CPU

_of = torch.ops.aten
_BACKWARDS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "sigmoid": lambda grad, x, y: _of.sigmoid_backward(grad, y),
    "hard_sigmoid": lambda grad, x, y: _of.hardsigmoid_backward(grad, x),
    "tanh": lambda grad, x, y: _of.tanh_backward(grad, y),
    "relu": lambda grad, x, y: _of.threshold_backward(grad.expand_as(x), x, 0),
}
"""Gate name to the gradient at x, where it is y, of that of y, which may be one number."""


class Averages(NamedTuple):
    """What the gradients need.

    Attributes:
        values: of the one function at every excitation, or the average of several (options, numbers).
        slopes: the excitations themselves, or the average of several functions' slopes there (options, numbers).
        of_functions: where there are several, the average of each over the options (functions, numbers).
    """

    values: Tensor
    slopes: Tensor
    of_functions: Tensor | None = None


def averaged_gates(
    names: Sequence[str], shares: Tensor | None, weights: Tensor, excitations: Tensor
) -> tuple[Tensor, Averages]:
    """The sum over functions f and excitations x_n of share_f * weight_n * f(x_n): (options, rows, C) to (rows, C).

    Args:
        names: of the functions.
        shares: (number of functions,), if there are several.
        weights: (number of options,).
    """
    x, shape = excitations.flatten(1), excitations.shape[1:]
    if shares is None:
        values = GATES[names[0]](x)
        return torch.mv(values.t(), weights).view(shape), Averages(values, x)
    every = [_VALUES[name](x) for name in names]
    both = zip(names, shares.unbind(), every, strict=True)
    first, *others = (_BACKWARDS[name](share, x, value) for name, share, value in both)
    values = torch.stack(every)
    of_functions = torch.bmm(weights.expand(len(names), 1, -1), values)[:, 0]
    averages = Averages(torch.mv(values.flatten(1).t(), shares).view(x.shape), sum(others, first), of_functions)
    return torch.mv(of_functions.t(), shares).view(shape), averages


def gradients_of_averaged_gates(
    names: Sequence[str], weights: Tensor, kept: Averages, grad: Tensor
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Those of shares, where there are any, of weights and of excitations."""
    flat = grad.flatten()
    of_values = torch.outer(weights, flat)
    if kept.of_functions is None:
        of_shares, excited = None, _BACKWARDS[names[0]](of_values, kept.slopes, kept.values)
    else:
        of_shares, excited = torch.mv(kept.of_functions, flat), of_values.mul_(kept.slopes)
    return of_shares, torch.mv(kept.values, flat), excited.view(-1, *grad.shape)
