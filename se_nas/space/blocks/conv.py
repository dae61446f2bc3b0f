"""VGG's convolution (arXiv 1409.1556), and MobileNet's separable one (arXiv 1704.04861)."""

from __future__ import annotations

from se_nas.space.blocks.kind import OF_CONVOLUTIONS, BlockKind
from se_nas.space.blocks.plan import BlockPlan, Layer
from se_nas.space.blocks.shape import BlockShape


def _conv(b: BlockShape) -> BlockPlan:
    """A stride is a 2x2 max-pooling before the convolution."""
    spatial = Layer("spatial", b.in_channels, b.out_channels, b.out_resolution, kernel=b.kernel, bias=True)
    return BlockPlan(body=(spatial,), entry_pool=b.stride > 1)


def _conv_fault(b: BlockShape) -> str | None:
    return f"stride must be 1 or 2 of a block of kind conv, but got {b.stride}" if b.stride > 2 else None


def _separable(b: BlockShape) -> BlockPlan:
    depthwise = Layer(
        "depthwise", b.in_channels, b.in_channels, b.resolution, kernel=b.kernel, stride=b.stride, groups=b.in_channels
    )
    return BlockPlan(body=(depthwise,), last=Layer("project", b.in_channels, b.out_channels, b.out_resolution))


CONV = BlockKind(
    name="conv",
    title="convolution",
    options=OF_CONVOLUTIONS,
    expansion_of="block_output",
    plan=_conv,
    fault=_conv_fault,
)
SEPARABLE = BlockKind(name="separable", title="separable convolution", options=OF_CONVOLUTIONS, plan=_separable)
