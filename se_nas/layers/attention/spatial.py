"""CBAM's spatial attention alone (https://arxiv.org/abs/1807.06521)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from se_nas.layers.activations import GATES
from se_nas.space.attention.kind import AttentionUnit
from se_nas.space.attention.spatial import SPATIAL_KERNEL


def build(unit: AttentionUnit) -> SpatialAttention:
    """The unit."""
    return SpatialAttention(unit.gate)


class SpatialAttention(nn.Module):
    """Scale each position by a gate computed from the mean and the maximum of the channels around it.

    Args:
        gate: a name in GATES; the paper's is "sigmoid".
    """

    def __init__(self, gate: str = "sigmoid") -> None:
        super().__init__()
        self.spatial = spatial_convolution()
        self._gate = GATES[gate]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape and dtype."""
        return x * self._position_gates(x)

    def gates(self, x: Tensor) -> Tensor:
        """What `forward` scales the positions of x (B, C, H, W) by, (B, H, W, 1)."""
        return self._position_gates(x).movedim(1, -1)

    def _position_gates(self, x: Tensor) -> Tensor:
        """The same as (B, 1, H, W)."""
        return spatial_gate(self._gate, x.mean(1), x.amax(1), self.spatial)


def spatial_convolution() -> nn.Conv2d:
    """Of spatial attention, with a bias and no norm after it, which is the published code's norm, folded."""
    return nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2)


def spatial_gate(
    gate: Callable[[Tensor], Tensor], mean: Tensor, maximum: Tensor, convolution: Callable[[Tensor], Tensor]
) -> Tensor:
    """The gates of positions, (B, 1, H, W), from the mean and the maximum of their channels, (B, H, W) each."""
    gates = gate(convolution(torch.stack((mean, maximum), 1)))
    return gates.to(mean.dtype)  # as the feature map's, also under autocast
