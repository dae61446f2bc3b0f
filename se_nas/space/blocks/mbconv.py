"""The inverted residual of MobileNetV2 (arXiv 1801.04381), and its fused form (arXiv 2104.00298)."""

from __future__ import annotations

from se_nas.space.blocks.kind import KERNEL_AND_SE, BlockKind
from se_nas.space.blocks.plan import BlockPlan, Layer, Skip
from se_nas.space.blocks.shape import BlockShape


def _mbconv(b: BlockShape) -> BlockPlan:
    """No expansion convolution where `expanded == in_channels`, unless the form says so."""
    expand = Layer("expand", b.in_channels, b.expanded, b.resolution)
    depthwise = Layer(
        "depthwise", b.expanded, b.expanded, b.resolution, kernel=b.kernel, stride=b.stride, groups=b.expanded
    )
    bare = b.expanded == b.in_channels and not b.form.always_expands
    return BlockPlan(body=(depthwise,) if bare else (expand, depthwise), last=_project(b), skip=_skip(b))


def _fused_mbconv(b: BlockShape) -> BlockPlan:
    expand = Layer("expand", b.in_channels, b.expanded, b.resolution, kernel=b.kernel, stride=b.stride)
    return BlockPlan(body=(expand,), last=_project(b), skip=_skip(b))


def _skip(b: BlockShape) -> Skip:
    return "input" if b.keeps_shape and b.form.skip else "none"


def _project(b: BlockShape) -> Layer:
    return Layer("project", b.expanded, b.out_channels, b.out_resolution, activation=False)


_INVERTED = KERNEL_AND_SE | {"expansion", "skip"}

MBCONV = BlockKind(
    name="mbconv", title="MBConv", options=_INVERTED | {"always_expands"}, middle="expanded", plan=_mbconv
)
FUSED_MBCONV = BlockKind(
    name="fused_mbconv",
    title="fused MBConv",
    options=_INVERTED,
    middle="expanded",
    plan=_fused_mbconv,
)
