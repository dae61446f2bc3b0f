"""Scaling: how the networks of a space, searched at a small size, are built for another data set's images.

Every pick carries over by its value (kernel, expansion ratio, SE ratio, kind, depth); resolution, strides, widths and
classes are the scaling's. A width is rounded as all channels are, so that a scaled network is again hardware-friendly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from se_nas.space.channels import round_channels
from se_nas.space.templates import Scaling

if TYPE_CHECKING:
    from se_nas.space.search_space import SearchSpace


def scaled_space(space: SearchSpace, scaling: Scaling) -> SearchSpace:
    """The space at another size: as many stages, blocks and choices by kind, kernel and expansion.

    SE ratios that have one hidden width at one size may have several at the other, so that its architectures are not
    those of `space`: `SearchSpace.resolve_scaled` builds the networks of those.
    """

    def wider(width: int) -> int:
        return round_channels(width * scaling.width, space.channel_divisor) if width and scaling.width != 1 else width

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
