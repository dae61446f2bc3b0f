"""The words that a space's fields may take, where nobody can add another."""

from __future__ import annotations

from typing import Literal

Activation = Literal[
    "relu", "relu6", "leaky_relu", "elu", "silu", "hard_swish", "gelu", "gelu_tanh", "mish", "identity"
]
Gate = Literal["sigmoid", "hard_sigmoid", "tanh", "relu"]
Squeeze = Literal["mean", "max", "none"]
RatioOf = Literal["block_input", "expanded", "block_output"]
Position = Literal["inside", "standard", "pre", "post", "identity"]
Shortcut = Literal["projection", "pad", "conv3x3", "pooled"]
StrideAt = Literal["kxk", "1x1"]
Pool = Literal["mean", "max"]
StemPool = Literal[False, True, "ceil"]
