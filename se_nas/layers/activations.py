"""The names that search spaces may use for activations and for Squeeze-and-Excitation gates."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,  # of slope 0.01
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "hard_swish": nn.Hardswish,
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, "tanh"),
    "mish": nn.Mish,
    "identity": nn.Identity,
}
"""Activation name to a maker of its module; every one is element by element, 0 at 0, and none works in place."""

_of = torch.ops.aten
ACTIVATION_GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda grad, x: _of.threshold_backward(grad, x, 0),
    "relu6": lambda grad, x: _of.hardtanh_backward(grad, x, 0, 6),
    "leaky_relu": lambda grad, x: _of.leaky_relu_backward(grad, x, 0.01, False),
    "elu": lambda grad, x: _of.elu_backward(grad, 1, 1, 1, False, x),
    "silu": _of.silu_backward,
    "hard_swish": _of.hardswish_backward,
    "gelu": _of.gelu_backward,
    "gelu_tanh": lambda grad, x: _of.gelu_backward(grad, x, approximate="tanh"),
    "mish": _of.mish_backward,
    "identity": lambda grad, x: grad,
}
"""Activation name to the gradient at x, of that of its result."""

GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": F.hardsigmoid,  # relu6(x + 3) / 6
    "tanh": torch.tanh,
    "relu": torch.relu,
}
"""Gate name to the function that maps an excitation (any shape) to scales: into [0, 1], but for the last two."""


@cache
def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """The activation as a function; torch.fx refuses to call a module that is no submodule."""
    return ACTIVATIONS[name]().forward
