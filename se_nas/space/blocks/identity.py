"""The block that does nothing, or a 1x1 convolution with norm where the shape changes."""

from __future__ import annotations

from se_nas.space.blocks.kind import BlockKind
from se_nas.space.blocks.plan import BlockPlan, Layer
from se_nas.space.blocks.shape import BlockShape


def _identity(b: BlockShape) -> BlockPlan:
    if b.keeps_shape:
        return BlockPlan()
    project = Layer("project", b.in_channels, b.out_channels, b.resolution, stride=b.stride, activation=False)
    return BlockPlan(last=project)


IDENTITY = BlockKind(
    name="identity",
    title="identity",
    options=frozenset(),
    passes_through=True,
    plan=_identity,
    describe=lambda b: "identity" if b.keeps_shape else "1x1 convolution",
)
