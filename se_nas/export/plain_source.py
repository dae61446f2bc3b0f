"""How the plain module file spells a layer: the source that it copies, and the call that makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from se_nas.layers.activations import ACTIVATIONS

GATES = {
    "sigmoid": "nn.Sigmoid()",
    "hard_sigmoid": "nn.Hardsigmoid()",
    "tanh": "nn.Tanh()",
    "relu": "nn.ReLU()",
}
"""The modules of `se_nas.layers.activations.GATES`, as the file spells them."""


class PlainLayer(NamedTuple):
    """One layer of the file.

    Attributes:
        sources: the classes and functions whose source it needs, each after those that it needs itself; they use torch,
            `nn`, `F`, Tensor and one another alone, and their weights have the names of the module's.
        call: the expression that makes it.
    """

    sources: tuple[Callable[..., object], ...]
    call: str


def call_source(name: str, values: Sequence[object], **options: object) -> str:
    """A call."""
    words = [*map(str, values), *(f"{key}={value}" for key, value in options.items())]
    return f"{name}({', '.join(words)})"


def activation_source(name: str) -> str:
    """An activation of a name in ACTIVATIONS."""
    return f"nn.{ACTIVATIONS[name]()!r}"
