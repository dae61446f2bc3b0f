"""The unit of ShuffleNet (arXiv 1707.01083)."""

from __future__ import annotations

from se_nas.space.blocks.kind import OF_CONVOLUTIONS, BlockKind
from se_nas.space.blocks.plan import BlockPlan, Layer
from se_nas.space.blocks.shape import BlockShape


def _shuffle(b: BlockShape) -> BlockPlan:
    groups = b.form.groups
    first = 1 if b.form.dense_reduction else groups
    reduce = Layer("reduce", b.in_channels, b.expanded, b.resolution, groups=first, shuffle=groups)
    depthwise = Layer(
        "depthwise",
        b.expanded,
        b.expanded,
        b.resolution,
        kernel=b.kernel,
        stride=b.stride,
        groups=b.expanded,
        activation=False,
    )
    project = Layer("project", b.expanded, b.beside_input, b.out_resolution, groups=groups, activation=False)
    return BlockPlan(
        body=(reduce, depthwise),
        last=project,
        skip="input" if b.keeps_shape else "pool",
        stride=b.stride,
        activates_sum=True,
    )


SHUFFLE = BlockKind(
    name="shuffle",
    title="ShuffleNet unit",
    options=OF_CONVOLUTIONS | {"expansion", "groups", "dense_reduction"},
    expansion_of="block_output",
    middle="middle",
    one_expansion=True,  # a prefix of channels is no prefix of its groups
    one_width=True,
    concatenates=True,
    plan=_shuffle,
)
