"""What a block is made of: its convolutions in the order they run, and what their result joins.

The plain module, the elastic block, the counts and the export read a block's plan and nothing else of its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal

from se_nas.space.blocks.shape import BlockShape
from se_nas.space.vocabulary import Pool

Skip = Literal["none", "input", "conv", "pad", "pool"]


@dataclass(frozen=True)
class Layer:
    """A convolution ("same" padding at stride 1), then its norm, its activation and a channel shuffle.

    Attributes:
        resolution: side of its input in pixels.
        shuffle: groups whose channels are dealt out evenly afterwards (1: no shuffle).
        kernels: of parts of its channels, each a convolution of its own, side by side (empty: one of them all).
    """

    name: str
    in_channels: int
    out_channels: int
    resolution: int
    _: KW_ONLY
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = False
    norm: bool = True
    activation: bool = True
    shuffle: int = 1
    kernels: tuple[int, ...] = ()

    @property
    def out_resolution(self) -> int:
        """Side of the output in pixels."""
        return -(-self.resolution // self.stride)

    @property
    def parts(self) -> tuple[Layer, ...]:
        """The convolutions that it is: of equal parts of its channels, what is over going to the first as in MixNet."""
        if not self.kernels:
            return (self,)
        inputs, outputs = _split(self.in_channels, len(self.kernels)), _split(self.out_channels, len(self.kernels))
        depthwise = self.groups > 1
        return tuple(
            replace(self, in_channels=i, out_channels=o, kernel=k, groups=i if depthwise else 1, kernels=())
            for i, o, k in zip(inputs, outputs, self.kernels, strict=True)
        )

    @property
    def weights(self) -> int:
        """How many weights its convolution has, biases not."""
        return sum(p.in_channels // p.groups * p.out_channels * p.kernel**2 for p in self.parts)


def _split(channels: int, parts: int) -> list[int]:
    return [channels // parts + channels % parts, *[channels // parts] * (parts - 1)]


@dataclass(frozen=True)
class Branch:
    """Convolutions one after the other, perhaps behind a 3x3 pooling of that stride; one of several side by side."""

    layers: tuple[Layer, ...]
    pool: Pool | None = None
    stride: int = 1


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """A branch of convolutions and what it joins.

    Attributes:
        body: the convolutions before SE's position "inside".
        last: the convolution after it, if there is one.
        skip: what the branch joins: nothing, the block's input, a convolution of it (`shortcut`), the input subsampled
            with zeros for the channels that it lacks ("pad"), each added; or an average of the input behind which the
            branch is concatenated ("pool").
        shortcut_pool: whether a 2x2 average pooling of the block's stride comes before the shortcut's convolution.
        entry_channels: channels of the norm, with activation, before all else (0: there is none); a shortcut reads
            what comes of it, the input itself does not.
        entry_pool: whether a 2x2 max-pooling of stride 2 comes first.
        stride: from input to output.
        lacking: channels of zeros that a padded skip adds.
        activates_sum: whether the activation follows the join.
        branches: what runs before the body, side by side; their results are concatenated.
        whole: the block whose own module stands in place of all convolutions, where its kind has no plan.
    """

    body: tuple[Layer, ...] = ()
    last: Layer | None = None
    skip: Skip = "none"
    shortcut: Layer | None = None
    shortcut_pool: bool = False
    entry_channels: int = 0
    entry_pool: bool = False
    stride: int = 1
    lacking: int = 0
    activates_sum: bool = False
    branches: tuple[Branch, ...] = ()
    whole: BlockShape | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the block is its input."""
        return self.whole is None and not self.layers

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every convolution."""
        beside = tuple(layer for branch in self.branches for layer in branch.layers)
        return beside + self.body + tuple(layer for layer in (self.last, self.shortcut) if layer is not None)

    def with_each(self, change: Callable[[Layer], Layer]) -> BlockPlan:
        """The plan with every convolution changed."""
        return replace(
            self,
            body=tuple(map(change, self.body)),
            last=self.last and change(self.last),
            shortcut=self.shortcut and change(self.shortcut),
            branches=tuple(replace(branch, layers=tuple(map(change, branch.layers))) for branch in self.branches),
        )
