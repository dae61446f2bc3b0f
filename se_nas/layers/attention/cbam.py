"""CBAM (https://arxiv.org/abs/1807.06521): channel attention, then spatial attention."""

from __future__ import annotations

from torch import Tensor

from se_nas.layers.activations import GATES
from se_nas.layers.attention.se import SqueezeExcite
from se_nas.layers.attention.spatial import spatial_convolution, spatial_gate
from se_nas.space.attention.kind import AttentionUnit


def build(unit: AttentionUnit) -> CBAM:
    """The unit."""
    return CBAM(unit.channels, unit.hidden, unit.activation, unit.gate)


class CBAM(SqueezeExcite):
    """Channel attention, SE with the sum of two excitations, of the means and of the maxima; then spatial attention.

    Args:
        channels: channels C of the feature map.
        hidden: width of the bottleneck, C / r in the paper.
        activation: a name in ACTIVATIONS; the paper's is "relu".
        gate: a name in GATES; the paper's is "sigmoid".
    """

    def __init__(self, channels: int, hidden: int, activation: str = "relu", gate: str = "sigmoid") -> None:
        super().__init__(channels, hidden, activation, gate, "mean_and_max")
        self.spatial = spatial_convolution()

    def gates_of(self, z: Tensor) -> Tensor:
        """The gates of the channels, of z (2, B, C), the means and the maxima."""
        return GATES[self.gate](self.expand(self._activate(self.reduce(z))).sum(0))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape and dtype."""
        y = super().forward(x)
        return y * self._position_gates(y)

    def gates(self, x: Tensor) -> Tensor:
        """What `forward` scales x by, (B, H, W, C): the gates of the channels times those of the positions."""
        of_channels = super().gates(x)[:, :, None, None]
        return (of_channels * self._position_gates(x * of_channels)).movedim(1, -1)

    def _position_gates(self, y: Tensor) -> Tensor:
        """(B, 1, H, W), of the map (B, C, H, W) whose channels are scaled."""
        return spatial_gate(GATES[self.gate], y.mean(1), y.amax(1), self.spatial)
