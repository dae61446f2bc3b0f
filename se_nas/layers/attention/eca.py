"""Efficient channel attention (https://arxiv.org/abs/1910.03151)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.activations import GATES
from se_nas.layers.gate import Gate
from se_nas.layers.squeeze_excite import ChannelAttention
from se_nas.space.attention.eca import eca_kernel
from se_nas.space.attention.kind import AttentionUnit


def build(unit: AttentionUnit) -> EfficientChannelAttention:
    """The unit."""
    return EfficientChannelAttention(unit.channels, unit.gate, unit.squeeze)


class EfficientChannelAttention(ChannelAttention):
    """ECA: each gate from the means of the channels beside its own, by one convolution over the channels.

    Args:
        channels: channels C of the feature map.
        gate: a name in GATES; the paper's is "sigmoid".
        squeeze: a name in SQUEEZES that gives one value a channel.
    """

    def __init__(self, channels: int, gate: str = "sigmoid", squeeze: str = "mean") -> None:
        super().__init__(squeeze)
        self._gate = GATES[gate]
        # "same" goes by the weight of the call: a supernet's slice brings a narrower one
        self.across = nn.Conv1d(1, 1, eca_kernel(channels), padding="same", bias=False)

    def gates_of(self, z: Tensor) -> Tensor:
        """See `ChannelAttention`."""
        return self._gate(self.across(z.reshape(-1, 1, z.shape[-1])).reshape(z.shape))

    def fused_gate(self) -> tuple[Gate, tuple[Tensor, ...]]:
        """See `ChannelAttention`."""
        return partial(eca_gate, self._gate), (self.across.weight,)


def eca_gate(gate: Callable[[Tensor], Tensor], z: Tensor, weight: Tensor) -> Tensor:
    """ECA's gates: z (..., C) and weight (1, 1, kernel) to (..., C)."""
    return gate(eca_excitation(z, weight))


def eca_excitation(z: Tensor, weight: Tensor) -> Tensor:
    """What ECA's gates are taken of; of so few numbers a product of windows is quicker than torch's convolution."""
    return torch.mv(eca_windows(z, weight.shape[-1]).t(), weight.flatten()).view(z.shape)


def eca_windows(z: Tensor, width: int) -> Tensor:
    """The channels around each of z's (..., C), 0 beyond the last: (width, numbers of z)."""
    return F.pad(z, (width // 2, width // 2)).unfold(-1, width, 1).movedim(-1, 0).reshape(width, -1)
