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
_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda y: torch.addcmul(y, y, y, value=-1),
    "hard_sigmoid": lambda y: torch.addcmul(y, y, y, value=-1).sign_().div_(6),  # a sixth where y is within 0 and 1
    "tanh": lambda y: 1 - y * y,
    "relu": torch.sign,
}
"""Gate name to its derivative where its value is y."""


class Averages(NamedTuple):
    """What the gradients need: values (options, numbers) of the one function, or what is averaged of several.

    Attributes:
        values, slopes: over the functions (options, numbers).
        of_functions: over the options (functions, numbers).
    """

    values: Tensor
    slopes: Tensor | None = None
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
        return torch.mv(values.t(), weights).view(shape), Averages(values)
    every = [_VALUES[name](x) for name in names]
    slopes = torch.stack([_SLOPES[name](value) for name, value in zip(names, every, strict=True)])
    values = torch.stack(every)
    of_functions = torch.bmm(weights.expand(len(names), 1, -1), values)[:, 0]
    values, slopes = (torch.mv(of_all.flatten(1).t(), shares).view(x.shape) for of_all in (values, slopes))
    return torch.mv(of_functions.t(), shares).view(shape), Averages(values, slopes, of_functions)


def gradients_of_averaged_gates(
    names: Sequence[str], weights: Tensor, kept: Averages, grad: Tensor
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Those of shares, where there are any, of weights and of excitations."""
    flat = grad.flatten()
    of_shares = None if kept.of_functions is None else torch.mv(kept.of_functions, flat)
    slopes = _SLOPES[names[0]](kept.values) if kept.slopes is None else kept.slopes
    excited = torch.outer(weights, flat).mul_(slopes)
    return of_shares, torch.mv(kept.values, flat), excited.view(-1, *grad.shape)
