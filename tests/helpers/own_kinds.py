"""A block and an attention as a user's own module would have them, with as little as an entry may say.

Nothing is added to the registries by importing this: `added` does, for as long as a test needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from se_nas.space.attention import ATTENTION, register_attention
from se_nas.space.attention.kind import AttentionKind, AttentionUnit
from se_nas.space.blocks import BLOCKS, register_block
from se_nas.space.blocks.kind import KERNEL_AND_SE, BlockKind
from se_nas.space.blocks.shape import BlockShape


class GhostOptions(BaseModel):
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    taps: list[int] = [3]


class Ghost(nn.Module):
    """A share of the channels by a convolution, the others by cheap ones of those (arXiv 1911.11907)."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        options = shape.own_options(GhostOptions)
        first = max(1, round(shape.out_channels * options.share))
        self.primary = nn.Conv2d(
            shape.in_channels, shape.expanded, shape.kernel, shape.stride, shape.kernel // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(shape.expanded)
        self.first = nn.Conv2d(shape.expanded, first, 1)
        self.cheap = nn.ModuleList(nn.Conv2d(first, shape.out_channels - first, k, 1, k // 2) for k in options.taps)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(torch.relu(self.norm(self.primary(x))))
        return torch.cat((y, sum(cheap(y) for cheap in self.cheap)), 1)


class Contrast(nn.Module):
    """Gates from the standard deviation of each channel, as in arXiv 1906.03515, in front of two linear maps."""

    def __init__(self, unit: AttentionUnit) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Linear(unit.channels, unit.hidden), nn.Tanh(), nn.Linear(unit.hidden, unit.channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        spread = (x - x.mean((2, 3), keepdim=True)).square().mean((2, 3))
        return x * torch.sigmoid(self.maps(spread))[:, :, None, None]


GHOST = BlockKind(
    name="ghost", title="ghost", options=KERNEL_AND_SE | {"expansion"}, layer=Ghost, own_options=GhostOptions
)
CONTRAST = AttentionKind(name="contrast", title="contrast gate", layer=Contrast, has_ratio=True)


@contextmanager
def added() -> Iterator[None]:
    """Both are entries of their registries."""
    register_block(GHOST)
    register_attention(CONTRAST)
    try:
        yield
    finally:
        del BLOCKS[GHOST.name], ATTENTION[CONTRAST.name]
