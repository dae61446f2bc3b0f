"""The Inception module with batch norm (arXiv 1502.03167, figure 5)."""

from __future__ import annotations

from se_nas.space.blocks.kind import OF_CONVOLUTIONS, BlockKind
from se_nas.space.blocks.plan import BlockPlan, Branch, Layer
from se_nas.space.blocks.shape import BlockShape


def _inception(b: BlockShape) -> BlockPlan:
    branches = []
    for i, widths in enumerate(b.form.branches, 1):
        layers, before = [], b.in_channels
        for j, width in enumerate(widths, 1):
            kernel, stride = 1 if j == 1 else b.kernel, b.stride if j == len(widths) else 1
            layers.append(Layer(f"branch{i}_{j}", before, width, b.resolution, kernel=kernel, stride=stride))
            before = width
        branches.append(Branch(tuple(layers)))
    after_pool = Layer("branch_pool", b.in_channels, b.form.pool_width, b.out_resolution)
    branches.append(Branch((after_pool,) if b.form.pool_width else (), b.form.pool, b.stride))
    return BlockPlan(branches=tuple(branches))


def _fault(b: BlockShape) -> str | None:
    branches = b.form.branches
    if not branches:
        return "branches must be given of a block of kind inception, but got none"
    found = sum(branch[-1] for branch in branches) + (b.form.pool_width or b.in_channels)
    if found != b.out_channels:
        return f"channels of the branches must come to the {b.out_channels} output channels, but got {found}"
    if b.stride > 1 and any(len(branch) == 1 for branch in branches):
        return "branches must be of two convolutions or more where there is a stride, but got one of a 1x1 alone"
    return None


INCEPTION = BlockKind(
    name="inception",
    title="Inception module",
    options=OF_CONVOLUTIONS | {"branches", "pool", "pool_width"},
    expansion_of="block_output",
    one_width=True,  # the branches make up the output, and the pooled input may be one of them
    plan=_inception,
    fault=_fault,
)
