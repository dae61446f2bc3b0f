"""The kinds of attention in the plain module file: layers to copy and the calls that make them.

As in `plain_blocks`, the layers need torch alone, read no specification, and have the weights of `se_nas.layers`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from se_nas.export.plain_source import GATES, PlainLayer, activation_source, call_source
from se_nas.space.attention.eca import eca_kernel
from se_nas.space.attention.kind import AttentionUnit

# ---- layers


def squeezed(x: Tensor, squeeze: str) -> Tensor:
    """The channels of x (B, C, H, W) at each position, (B, H, W, C), or their "mean" or "max", (B, 1, 1, C)."""
    if squeeze == "mean":
        x = x.mean((2, 3), keepdim=True)
    elif squeeze == "max":
        x = x.amax((2, 3), keepdim=True)
    return x.movedim(1, -1)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from a squeeze of every channel (https://arxiv.org/abs/1709.01507)."""

    def __init__(
        self, channels: int, hidden: int, activation: nn.Module, gate: nn.Module, squeeze: str = "mean"
    ) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, hidden)
        self.activation = activation
        self.expand = nn.Linear(hidden, channels)
        self.gate, self.squeeze = gate, squeeze

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        scale = self.gate(self.expand(self.activation(self.reduce(squeezed(x, self.squeeze)))))
        scaled: Tensor = x * scale.movedim(-1, 1)
        return scaled


class EffectiveSE(nn.Module):
    """Squeeze-and-excitation by one linear map that keeps all channels (https://arxiv.org/abs/1911.06667)."""

    def __init__(self, channels: int, gate: nn.Module, squeeze: str = "mean") -> None:
        super().__init__()
        self.excite = nn.Linear(channels, channels)
        self.gate, self.squeeze = gate, squeeze

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        scaled: Tensor = x * self.gate(self.excite(squeezed(x, self.squeeze))).movedim(-1, 1)
        return scaled


class EfficientChannelAttention(nn.Module):
    """Each gate from the channels beside its own, by one convolution over them (https://arxiv.org/abs/1910.03151)."""

    def __init__(self, kernel: int, gate: nn.Module, squeeze: str = "mean") -> None:
        super().__init__()
        self.across = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.gate, self.squeeze = gate, squeeze

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        z = squeezed(x, self.squeeze)
        excitation = self.across(z.reshape(-1, 1, z.shape[-1])).reshape(z.shape)
        scaled: Tensor = x * self.gate(excitation).movedim(-1, 1)
        return scaled


class SpatialAttention(nn.Module):
    """Scales each position by a gate from the mean and the maximum of its channels (https://arxiv.org/abs/1807.06521)."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        scaled: Tensor = x * self.gate(self.spatial(torch.stack((x.mean(1), x.amax(1)), 1)))
        return scaled


class CBAM(SpatialAttention):
    """Channel attention from the means and the maxima, then spatial attention (https://arxiv.org/abs/1807.06521)."""

    def __init__(self, channels: int, hidden: int, activation: nn.Module, gate: nn.Module) -> None:
        super().__init__(gate)
        self.reduce = nn.Linear(channels, hidden)
        self.activation = activation
        self.expand = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        excitations = [self.expand(self.activation(self.reduce(z))) for z in (x.mean((2, 3)), x.amax((2, 3)))]
        return super().forward(x * self.gate(sum(excitations))[:, :, None, None])


# ---- calls


def _squeeze(unit: AttentionUnit) -> dict[str, object]:
    return {"squeeze": f'"{unit.squeeze}"'} if unit.squeeze != "mean" else {}


def squeeze_excite(unit: AttentionUnit) -> PlainLayer:
    """SE."""
    sizes = [unit.channels, unit.hidden, activation_source(unit.activation), GATES[unit.gate]]
    return PlainLayer((squeezed, SqueezeExcite), call_source("SqueezeExcite", sizes, **_squeeze(unit)))


def efficient_channel_attention(unit: AttentionUnit) -> PlainLayer:
    """ECA."""
    sizes = [eca_kernel(unit.channels), GATES[unit.gate]]
    call = call_source("EfficientChannelAttention", sizes, **_squeeze(unit))
    return PlainLayer((squeezed, EfficientChannelAttention), call)


def effective_se(unit: AttentionUnit) -> PlainLayer:
    """Effective SE."""
    call = call_source("EffectiveSE", [unit.channels, GATES[unit.gate]], **_squeeze(unit))
    return PlainLayer((squeezed, EffectiveSE), call)


def spatial_attention(unit: AttentionUnit) -> PlainLayer:
    """Spatial attention."""
    return PlainLayer((SpatialAttention,), call_source("SpatialAttention", [GATES[unit.gate]]))


def cbam(unit: AttentionUnit) -> PlainLayer:
    """CBAM."""
    sizes = [unit.channels, unit.hidden, activation_source(unit.activation), GATES[unit.gate]]
    return PlainLayer((SpatialAttention, CBAM), call_source("CBAM", sizes))
