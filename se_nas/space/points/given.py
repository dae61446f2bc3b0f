"""A network of which more or less is known, and what of a block says that it is another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from se_nas.space.block_plan import block_plan
from se_nas.space.blocks.plan import BlockPlan
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec, NetworkSpec


class Given(Protocol):
    """A network of which more or less is known; positions in it are numbers, whatever they count."""

    @property
    def resolution(self) -> int | None:
        """The side of its images in pixels, where that is known."""

    def after_stem(self, convs: Sequence[ConvSpec]) -> int | None:
        """The position behind its stem; None where the stem is another."""

    def after_block(self, block: BlockSpec, at: int) -> int | None:
        """The position behind its block at a position; None where the block is another.

        A block of a larger kernel is none other: a kernel with zeros around it computes the same.
        """

    def ends_with(self, head: HeadSpec, at: int) -> bool:
        """Whether its head, for any number of classes, is all that is left from a position."""

    def misfit(self) -> str:
        """What is the first of it that nothing had which was asked for, as what its weights do."""


class KnownNetwork:
    """A network all of which is known; of its size in pixels nothing depends."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec, self._furthest = spec, -1

    @property
    def resolution(self) -> int | None:
        """See `Given`."""
        return self.spec.resolution

    def after_stem(self, convs: Sequence[ConvSpec]) -> int | None:
        """See `Given`."""
        ours, own = ([replace(conv, resolution=1) for conv in each] for each in (convs, self.spec.stem_convs))
        if ours != own:
            return None
        self._furthest = max(self._furthest, 0)
        return 0

    def after_block(self, block: BlockSpec, at: int) -> int | None:
        """See `Given`."""
        if at >= len(self.spec.blocks):
            return None
        own = self.spec.blocks[at]
        larger = zip(_plan(block).layers, _plan(own).layers, strict=False)
        same = kernels_aside(block) == kernels_aside(own)
        if not same or any(layer.kernel < held.kernel for layer, held in larger):
            return None
        self._furthest = max(self._furthest, at + 1)
        return at + 1

    def ends_with(self, head: HeadSpec, at: int) -> bool:
        """See `Given`."""
        own = self.spec.head
        side = own.resolution if own.flatten else head.resolution
        return at == len(self.spec.blocks) and head == replace(
            own, classes=head.classes, dropout=head.dropout, resolution=side
        )

    def misfit(self) -> str:
        """See `Given`."""
        if self._furthest < 0:
            stem = " and ".join(str(conv.out_channels) for conv in self.spec.stem_convs)
            return f"are of a stem to {stem} channels, which none of these has"
        if self._furthest < len(self.spec.blocks):
            block = self.spec.blocks[self._furthest]
            return f"are of {block.words()} as block {self._furthest + 1}, where none of these has it"
        return f"are of a head after {len(self.spec.blocks)} blocks that none of these has"


def _plan(block: BlockSpec) -> BlockPlan:
    """What the block is made of, whatever the size of its images."""
    return block_plan(replace(block, resolution=1))


def kernels_aside(block: BlockSpec) -> tuple[object, ...]:
    """What blocks have in common that differ in their kernels alone, by what they compute and not by how they are
    said."""
    alike = _plan(block).with_each(lambda layer: replace(layer, kernel=1))
    return alike, block.activation, block.se_built
