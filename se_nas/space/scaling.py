"""Scaling: how the networks of a space, searched at a small size, are built for another data set's images.

Every pick carries over by its value (kernel, expansion ratio, SE ratio, kind, depth); resolution, strides, widths and
classes are the scaling's: one resolution for all networks, or as many as the space has, for each of its own another. A
width is rounded as all channels are, so that a scaled network is again hardware-friendly.
"""

from __future__ import annotations

from dataclasses import replace

from se_nas.errors import ArchitectureError
from se_nas.space.architecture import Architecture
from se_nas.space.channels import round_channels
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.slot import GIVEN
from se_nas.space.specs import NetworkSpec
from se_nas.space.templates import Scaling


def scaled_space(space: SearchSpace, scaling: Scaling) -> SearchSpace:
    """The space at another size: as many stages, blocks and choices by kind, kernel and expansion.

    SE ratios that have one hidden width at one size may have several at the other, so that its architectures are not
    those of `space`: `resolve_scaled` builds the networks of those.
    """

    def wider(width: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if scaling.width == 1:
            return width
        if isinstance(width, tuple):
            return tuple(round_channels(one * scaling.width, space.channel_divisor) for one in width)
        return round_channels(width * scaling.width, space.channel_divisor) if width else width

    strides = scaling.strides or tuple(stage.stride for stage in space.stages)
    return replace(
        space,
        stages=tuple(
            replace(stage, width=wider(stage.width), stride=stride)
            for stage, stride in zip(space.stages, strides, strict=True)
        ),
        stem=replace(
            space.stem,
            width=wider(space.stem.width),
            stride=scaling.stem_stride or space.stem.stride,
            then=tuple(replace(part, width=wider(part.width)) for part in space.stem.then),
        ),
        head=replace(space.head, width=wider(space.head.width)),
        resolution=scaling.resolution,
        classes=scaling.classes or space.classes,
        scaling=(),
    )


def scaled_to(space: SearchSpace, data: str) -> SearchSpace:
    """The space as its scaling to a data set makes it; see `scaled_space`.

    Raises:
        ArchitectureError: the space has no scaling to it.
    """
    for scaling in space.scaling:
        if scaling.data == data:
            return scaled_space(space, scaling)
    known = ", ".join(scaling.data for scaling in space.scaling) or "none"
    raise ArchitectureError(f"space {space.name}: `scaling:` must have {data}, but it has {known}")


def resolve_scaled(space: SearchSpace, architecture: Architecture, data: str) -> NetworkSpec:
    """The concrete network of an architecture as the scaling to a data set makes it.

    Each pick carries over by its value, one of widths or of several resolutions by its place among the options.

    Raises:
        ArchitectureError: the architecture is of another space, or the space has no scaling to that data set.
    """
    space.check(architecture)
    scaled = scaled_to(space, data)
    picks = architecture.as_dict()
    for ours, theirs in zip((space.side, *space.widths), (scaled.side, *scaled.widths), strict=True):
        if (choice := ours.axis.choice) is not None and theirs.axis.choice is not None:
            picks[choice] = theirs.axis.options[ours.axis.options.index(architecture[choice])]
    ops = {(slot.stage, slot.index): slot.ops for slot in scaled.slots}
    blocks = []
    for slot, op in space.slots_in_use(picks):
        other = ops[slot.stage, slot.index][slot.ops.index(op)]
        given = {axis.part: axis.picked(picks) for axis in other.axes if axis.part in GIVEN}
        blocks.append(other.block(**{**op.picked(picks), **given}))
    return scaled.network_of(tuple(blocks), scaled.stem_of(picks), scaled.head_of(picks))
