"""ResNet's blocks (arXiv 1512.03385, figure 5), with those of ResNeXt, SENet-154 and pre-activation as variants."""

from __future__ import annotations

from dataclasses import replace

from se_nas.space.blocks.kind import OF_CONVOLUTIONS, BlockKind
from se_nas.space.blocks.plan import BlockPlan, Layer, Skip
from se_nas.space.blocks.shape import BlockShape

_RESIDUAL = OF_CONVOLUTIONS | {"expansion", "preactivation", "shortcut"}


def _basic(b: BlockShape) -> BlockPlan:
    spatial = Layer("spatial", b.in_channels, b.expanded, b.resolution, kernel=b.kernel, stride=b.stride)
    return _residual(b, (spatial,), b.kernel)


def _bottleneck(b: BlockShape) -> BlockPlan:
    entry = max(1, round(b.expanded * b.form.entry))
    groups = b.expanded // b.form.group_width if b.form.group_width else 1
    strides = (b.stride, 1) if b.form.stride_at == "1x1" else (1, b.stride)
    reduce = Layer("reduce", b.in_channels, entry, b.resolution, stride=strides[0])
    spatial = Layer(
        "spatial", entry, b.expanded, reduce.out_resolution, kernel=b.kernel, stride=strides[1], groups=groups
    )
    return _residual(b, (reduce, spatial), 1)


def _residual(b: BlockShape, body: tuple[Layer, ...], kernel: int) -> BlockPlan:
    """ResNet's frame, or that of pre-activation, whose norms all come before (arXiv 1603.05027)."""
    before = b.form.preactivation
    last = Layer("project", b.expanded, b.out_channels, b.out_resolution, kernel=kernel, activation=False)
    shortcut, pooled = None, b.form.shortcut == "pooled" and b.stride > 1
    if not b.keeps_shape and b.form.shortcut != "pad":
        shortcut = Layer(
            "shortcut",
            b.in_channels,
            b.out_channels,
            b.out_resolution if pooled else b.resolution,
            kernel=3 if b.form.shortcut == "conv3x3" else 1,
            stride=1 if pooled else b.stride,
            norm=not before,
            activation=False,
        )
    skip: Skip = "input" if b.keeps_shape else "conv" if shortcut else "pad"
    return BlockPlan(
        body=body,
        last=replace(last, norm=not before),
        skip=skip,
        shortcut=shortcut,
        shortcut_pool=pooled,
        entry_channels=b.in_channels if before else 0,
        stride=b.stride,
        lacking=b.out_channels - b.in_channels if skip == "pad" else 0,
        activates_sum=not before,
    )


BOTTLENECK = BlockKind(
    name="bottleneck",
    title="bottleneck",
    options=_RESIDUAL | {"group_width", "stride_at", "entry"},
    expansion_of="block_output",
    middle="middle",
    plan=_bottleneck,
)
BASIC = BlockKind(
    name="basic", title="basic block", options=_RESIDUAL, expansion_of="block_output", middle="middle", plan=_basic
)
