"""The convolution of a block's layer as a module."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from se_nas.space.blocks.plan import Layer


def build_convolution(layer: Layer) -> nn.Module:
    """With "same" padding at stride 1, and without its norm."""
    if layer.kernels:
        return MixedConvolution(layer.parts)
    return nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel,
        layer.stride,
        layer.kernel // 2,
        groups=layer.groups,
        bias=layer.bias,
    )


class MixedConvolution(nn.ModuleList):
    """Convolutions of the parts of a map's channels, side by side: MixConv (arXiv 1907.09595)."""

    def __init__(self, parts: Sequence[Layer]) -> None:
        super().__init__(map(build_convolution, parts))
        self.ends = tuple(accumulate(part.in_channels for part in parts))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        starts = (0, *self.ends[:-1])
        return torch.cat([conv(x[:, a:b]) for conv, a, b in zip(self, starts, self.ends, strict=True)], 1)
