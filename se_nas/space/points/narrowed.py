"""A space around one network, of networks like it with fewer channels."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from se_nas.space.attention import ATTENTION, OF_BARE_RATIO
from se_nas.space.blocks import BLOCKS
from se_nas.space.channels import round_channels
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec, ConvSpec, NetworkSpec
from se_nas.space.templates import (
    WITHOUT_SE,
    HeadTemplate,
    OpTemplate,
    SETemplate,
    StageTemplate,
    StemConv,
    StemTemplate,
)

#: Shares of its channels that a part may keep.
_SHARES = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
_FEW = 4


def narrowed(spec: NetworkSpec, name: str) -> SearchSpace:
    """The networks that a network can be cut to: every block's middle, every stage and the head may be narrower.

    Blocks of one width, one after the other, are a stage, each of which may stand at each place: which block a network
    has where is for who picks. A width that the stem has too stays, and so does what a kind of block cannot have fewer
    of.
    """
    divisor = _divisor(spec)
    stages: list[StageTemplate] = []
    for row in spec.stages:
        templates = dict.fromkeys(_template(block, divisor) for block in row)
        ops = tuple(replace(template, name=f"block {number}") for number, template in enumerate(templates, 1))
        first = row[0]
        fixed = first.keeps_shape or any(BLOCKS[block.kind].one_width for block in row)
        width = first.out_channels if fixed else _fewer(first.out_channels, divisor)
        stages.append(StageTemplate(width, first.stride, (len(row),), ops))
    head = spec.head
    own = {field.name: getattr(head, field.name) for field in fields(HeadTemplate) if hasattr(head, field.name)}
    sizes = {part: _fewer(own[part], divisor) for part in ("width", "hidden") if own[part]}
    stem, *then = (_stem_conv(conv) for conv in spec.stem_convs)
    return SearchSpace(
        name=name,
        stages=tuple(stages),
        stem=StemTemplate(**stem, then=tuple(StemConv(**conv) for conv in then)),
        head=HeadTemplate(**{**own, **sizes}),
        resolution=spec.resolution,
        channels=spec.in_channels,
        classes=head.classes,
        channel_divisor=divisor,
    )


def _divisor(spec: NetworkSpec) -> int:
    """What all channels that may become fewer are multiples of, so that the fewest are a few of it."""
    widths = [width for block in spec.blocks for width in (block.expanded, block.out_channels)]
    widths += [width for width in (spec.head.width, spec.head.hidden) if width]
    fits = [d for d in (8, 4, 2) if all(width % d == 0 for width in widths) and min(widths) >= _FEW * d]
    return fits[0] if fits else 1


def _fewer(width: int, divisor: int) -> int | tuple[int, ...]:
    found = tuple(sorted({min(width, round_channels(width * share, divisor)) for share in _SHARES}))
    return found if len(found) > 1 else width


def _template(block: BlockSpec, divisor: int) -> OpTemplate:
    kind = BLOCKS[block.kind]
    reference = block.out_channels if kind.expansion_of == "block_output" else block.in_channels
    own = 1.0 if block.expanded == reference else block.expanded / reference
    expansions: tuple[float, ...] = (own,)
    whole = kind.one_expansion or block.form.group_width or block.form.in_parts or "expansion" not in kind.options
    if own != 1 and not whole:
        found = {round_channels(block.expanded * share, divisor) for share in _SHARES}
        expansions = (*(e for e in (c / reference for c in sorted(found)) if e != 1 and e < own), own)
    return OpTemplate(
        kind=block.kind,
        name="",
        kernels=(block.kernel,),
        expansions=expansions,
        se=_se(block),
        activation=block.activation,
        form=block.form,
    )


def _se(block: BlockSpec) -> SETemplate:
    unit = block.se
    if unit is None:
        return WITHOUT_SE
    kind = ATTENTION[unit.kind]
    option: Any = f"{kind.name}/{unit.ratio:g}" if kind.has_ratio else kind.name
    option = unit.ratio if kind == OF_BARE_RATIO else option
    return SETemplate(
        options=(option,),
        ratio_of=unit.ratio_of,
        divisor=unit.divisor,
        squeeze=unit.squeeze,
        activation=unit.activation,
        gate=unit.gate,
        position=unit.position,
    )


def _stem_conv(conv: ConvSpec) -> dict[str, Any]:
    own = {field.name: getattr(conv, field.name) for field in fields(StemConv) if hasattr(conv, field.name)}
    return {**own, "width": conv.out_channels}
