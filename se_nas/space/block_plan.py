"""The plan of a block of a specification, what of it is built, and what its channels must be for that."""

from __future__ import annotations

from dataclasses import replace

from se_nas.space.blocks import BLOCKS
from se_nas.space.blocks.plan import BlockPlan
from se_nas.space.specs import BlockSpec


def block_plan(spec: BlockSpec) -> BlockPlan:
    """The plan of a block."""
    return BLOCKS[spec.kind].plan_of(spec)


def built(spec: BlockSpec) -> tuple[object, ...]:
    """What is built for a block: two blocks of one place of which this is equal are one block, whatever asked for it.

    Names, options that the plan does not read, and places of SE that are one place here make no difference.
    """
    plan = block_plan(spec)
    nameless = plan.with_each(lambda layer: replace(layer, name=""))
    activates = plan.entry_channels or plan.activates_sum or any(layer.activation for layer in plan.layers)
    return (nameless, spec.activation if activates else None, spec.se_built)


def frame(spec: BlockSpec) -> BlockPlan:
    """The plan of a block without its kernels: blocks of which this is equal have maps of the same sizes."""
    return block_plan(spec).with_each(lambda layer: replace(layer, kernel=1, kernels=(1,) * len(layer.kernels)))


def channel_fault(spec: BlockSpec) -> str | None:
    """What its channels must be for the block to be built, and are not; None where they are."""
    form = spec.form
    if (fault := BLOCKS[spec.kind].fault(spec)) is not None:
        return fault
    if form.group_width * form.entry % 1:
        return f"group_width times entry must be a whole number, but got {form.group_width} times {form.entry:g}"
    if form.group_width and spec.expanded % form.group_width:
        return f"middle channels must be a multiple of group_width {form.group_width}, but got {spec.expanded}"
    if spec.branch_channels < 1:
        return f"output channels must be more than the {spec.in_channels} input channels, but got {spec.out_channels}"
    if form.shortcut == "pad" and spec.out_channels < spec.in_channels:
        return f"output channels must be at least the {spec.in_channels} input channels, but got {spec.out_channels}"
    if form.mixed_kernels and spec.kernel != max(form.mixed_kernels):
        return f"kernel must be {max(form.mixed_kernels)}, the greatest of mixed_kernels, but got {spec.kernel}"
    for layer in block_plan(spec).layers:
        if min(layer.in_channels, layer.out_channels) < len(layer.kernels):
            channels = f"{layer.in_channels} and {layer.out_channels}"
            return f"channels of the {layer.name} convolution must be {len(layer.kernels)} or more, but got {channels}"
        if layer.in_channels % layer.groups or layer.out_channels % layer.groups:
            channels = f"{layer.in_channels} and {layer.out_channels}"
            return f"channels of the {layer.name} convolution must be multiples of {layer.groups}, but got {channels}"
    return None
