"""Effective SE (https://arxiv.org/abs/1911.06667)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.activations import GATES
from se_nas.layers.gate import Gate
from se_nas.layers.squeeze_excite import ChannelAttention
from se_nas.space.attention.kind import AttentionUnit


def build(unit: AttentionUnit) -> EffectiveSE:
    """The unit."""
    return EffectiveSE(unit.channels, unit.gate, unit.squeeze)


class EffectiveSE(ChannelAttention):
    """SE with one linear map, which keeps all channels, in place of two.

    Args:
        channels: channels C of the feature map.
        gate: a name in GATES; the paper's is "hard_sigmoid".
        squeeze: a name in SQUEEZES that gives one value a channel.
    """

    def __init__(self, channels: int, gate: str = "hard_sigmoid", squeeze: str = "mean") -> None:
        super().__init__(squeeze)
        self._gate = GATES[gate]
        self.excite = nn.Linear(channels, channels)

    def gates_of(self, z: Tensor) -> Tensor:
        """See `ChannelAttention`."""
        return self._gate(self.excite(z))

    def fused_gate(self) -> tuple[Gate, tuple[Tensor, ...]]:
        """See `ChannelAttention`."""
        return partial(ese_gate, self._gate), (self.excite.weight, self.excite.bias)


def ese_gate(gate: Callable[[Tensor], Tensor], z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Effective SE's gates: z (..., C), weight (C, C) and bias (C,) to (..., C)."""
    return gate(F.linear(z, weight, bias))
