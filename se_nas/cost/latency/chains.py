"""Chains of a block's copies, of which a block's own time is the slope."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from se_nas.layers.blocks import Block
from se_nas.space.specs import BlockSpec


class Chain(nn.Module):
    """Copies of a block in a row; those of a block that changes the shape, each on a map of its own instead.

    Attributes:
        spec: the block's.
    """

    def __init__(self, spec: BlockSpec, copies: Sequence[nn.Module]) -> None:
        super().__init__()
        self.spec = spec
        self.copies = nn.ModuleList(copies)

    def forward(self, *maps: Tensor) -> Tensor:
        """The last copy's output; of as many maps as there are copies."""
        x = maps[0]
        for block, own in zip(self.copies, maps, strict=True):
            x = block(x if self.spec.keeps_shape else own)
        return x


def chains(spec: BlockSpec, lengths: Sequence[int], *, share: bool) -> list[Chain]:
    """Chains of these lengths, the shorter ones of the copies of the longest.

    Args:
        share: whether one module stands for all copies, for who makes copies of it; see `runtimes.onnx_model`.
    """
    first = Block(spec)
    copies = [first, *(first if share else copy.deepcopy(first) for _ in range(max(lengths) - 1))]
    return [Chain(spec, copies[:length]) for length in lengths]
