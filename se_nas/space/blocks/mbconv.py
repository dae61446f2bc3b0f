"""The inverted residual of MobileNetV2 (arXiv 1801.04381), and its fused form (arXiv 2104.00298).

Fused, and without an expansion, EfficientNetV2's is one convolution: a kind of its own, as it projects nothing.
"""

from __future__ import annotations

from se_nas.space.blocks.kind import OF_CONVOLUTIONS, BlockKind
from se_nas.space.blocks.plan import BlockPlan, Layer, Skip
from se_nas.space.blocks.shape import BlockShape


def _mbconv(b: BlockShape) -> BlockPlan:
    """No expansion convolution where `expanded == in_channels`, unless the form says so."""
    expand = Layer("expand", b.in_channels, b.expanded, b.resolution, kernels=_in_parts(b.form.expand_parts))
    depthwise = Layer(
        "depthwise",
        b.expanded,
        b.expanded,
        b.resolution,
        kernel=b.kernel,
        stride=b.stride,
        groups=b.expanded,
        kernels=b.form.mixed_kernels,
    )
    bare = b.expanded == b.in_channels and not b.form.always_expands
    return BlockPlan(body=(depthwise,) if bare else (expand, depthwise), last=_project(b), skip=_skip(b))


def _fused_mbconv(b: BlockShape) -> BlockPlan:
    expand = Layer("expand", b.in_channels, b.expanded, b.resolution, kernel=b.kernel, stride=b.stride)
    return BlockPlan(body=(expand,), last=_project(b), skip=_skip(b))


def _residual_conv(b: BlockShape) -> BlockPlan:
    spatial = Layer("spatial", b.in_channels, b.out_channels, b.resolution, kernel=b.kernel, stride=b.stride)
    return BlockPlan(body=(spatial,), skip=_skip(b))


def _skip(b: BlockShape) -> Skip:
    return "input" if b.keeps_shape and b.form.skip else "none"


def _project(b: BlockShape) -> Layer:
    parts = _in_parts(b.form.project_parts)
    return Layer("project", b.expanded, b.out_channels, b.out_resolution, activation=False, kernels=parts)


def _in_parts(parts: int) -> tuple[int, ...]:
    """The kernels of a 1x1 convolution of so many parts of its channels."""
    return (1,) * parts if parts > 1 else ()


_INVERTED = OF_CONVOLUTIONS | {"expansion", "skip"}
_MBCONV = {"always_expands", "mixed_kernels", "expand_parts", "project_parts"}

MBCONV = BlockKind(name="mbconv", title="MBConv", options=_INVERTED | _MBCONV, middle="expanded", plan=_mbconv)
FUSED_MBCONV = BlockKind(
    name="fused_mbconv",
    title="fused MBConv",
    options=_INVERTED,
    middle="expanded",
    plan=_fused_mbconv,
)
RESIDUAL_CONV = BlockKind(
    name="residual_conv",
    title="residual convolution",
    options=OF_CONVOLUTIONS | {"skip"},
    expansion_of="block_output",
    plan=_residual_conv,
)
