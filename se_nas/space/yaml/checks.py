"""Faults of a space's YAML that no single field shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from se_nas.records.bounds import MOST_BLOCKS, MOST_CHANNELS, MOST_SIZES, MOST_WEIGHTS
from se_nas.space.block_plan import built, channel_fault
from se_nas.space.blocks import BLOCKS
from se_nas.space.choice import SE_FIELDS
from se_nas.space.network_faults import largest_network, weights
from se_nas.space.scaling import scaled_to
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.size import Side
from se_nas.space.slots.slot import op_at
from se_nas.space.slots.width import Width, multiplied_channels
from se_nas.space.templates import OpTemplate, options_of
from se_nas.space.yaml.model import SpaceModel, StageModel, stage_template

_TOO_WIDE = f"must be at most {MOST_CHANNELS:,} expanded channels, which is more than any published network has,"
_SIDE = Side.fixed(2)  # of the maps in blocks that are only compared


def problems_between_fields(model: SpaceModel) -> Iterable[str]:
    """Faults that no single field shows."""
    yield from _width_problems(model)
    yield from _resolution_problems(model)
    before = _channels_of(model, model.stem.convs[-1].width)
    depth_varies = False  # in this stage or in one before it that flows into it without a visible border
    for s, stage in enumerate(model.stages):
        where = f"stages[{s}]"
        width = _channels_of(model, stage.width)
        pairs = [(b, w) for i, b in enumerate(before) for j, w in enumerate(width) if i == j or not _tied(model)]
        first, later = sorted(set(pairs)), [(w, w) for w in width] if max(stage.depth) > 1 else []
        if s == 0 or not _flows_into(model.stages[s - 1], stage, first, model.channel_divisor):
            depth_varies = False
        if depth_varies and len(stage.depth) > 1:
            has = "has" if len(first) == 1 else "can have"
            yield (
                f"{where}.depth: must be one number, because the stage before {has} the same width and some of the "
                f"same blocks and varies in depth too, so one network would be two architectures, but got {stage.depth}"
            )
        depth_varies = depth_varies or len(stage.depth) > 1
        if stage.blocks is not None:
            for field in ("kernel", "expansion", "se"):
                if getattr(stage, field) is not None:
                    yield f"{where}.{field}: must stand in each of `blocks` when `blocks` is given"
            for b, block in enumerate(stage.blocks):
                kind, extra = BLOCKS[block.kind], block.model_fields_set - {"kind", "name"}
                own = kind.own_options.model_fields.keys() if kind.own_options is not None else set()
                if not kind.options | own and extra:
                    given = ", ".join(sorted(extra))
                    yield f"{where}.blocks[{b}]: an {kind.name} block takes only `kind` and `name`, but got {given}"
                    continue
                for name in sorted(extra - kind.options - own):
                    yield f"{where}.blocks[{b}].{name}: a {kind.name} block has no such option"
        yield from _activation_problems(stage, where)
        ops = stage_template(stage).ops
        names = [op.name.replace(" ", "_") for op in ops]  # as choices are named
        if len(set(names)) != len(names):
            yield f"{where}.blocks: names must be distinct, but got {', '.join(op.name for op in ops)}"
        for b, op in enumerate(ops):
            prefix = f"{where}.blocks[{b}]" if stage.blocks is not None else where
            of_input = BLOCKS[op.kind].expansion_of == "block_input"
            mixed, what = op.form.mixed_kernels, f"{op.kind} in parts" if op.form.in_parts else op.kind
            if mixed and op.kernels != (max(mixed),):
                must = f"must be left out, or {max(mixed)} as the greatest of mixed_kernels"
                yield f"{prefix}.kernel: {must}, but got {list(op.kernels)}"
            if (BLOCKS[op.kind].one_expansion or op.form.in_parts) and len(op.expansions) > 1:
                yield f"{prefix}.expansion: must be one number for {what}, but got {list(op.expansions)}"
            for e, expansion in enumerate(op.expansions):
                if of_input and expansion < 1:
                    yield f"{prefix}.expansion[{e}]: must be at least 1 for {op.kind}, but got {expansion}"
            if (BLOCKS[op.kind].one_width or op.form.in_parts) and max(len(set(before)), len(set(width))) > 1:
                varied = "width" if len(set(width)) > 1 else "the width before"
                yield f"{prefix}.kind: must be no {what} where {varied} is a choice, as a part of one is none"
            multiplied_by = {} if not of_input else {b: (b, w) for b, w in (*later, *first)}
            multiplied_by |= {} if of_input else {w: (b, w) for b, w in first}
            for multiplied, sizes in sorted(multiplied_by.items()):
                channels = _channels(op, *sizes, model.channel_divisor)
                if len(set(channels)) != len(channels):
                    yield (
                        f"{prefix}.expansion: options must give distinct channel counts, "
                        f"but {list(op.expansions)} of {multiplied} channels give {channels}"
                    )
        places = [(b, w, stage.stride) for b, w in first] + [(b, w, 1) for b, w in later]
        for b, op in enumerate(ops):
            prefix = f"{where}.blocks[{b}]" if stage.blocks is not None else where
            nowhere = not any(_has_sum(op, *place) for place in places)
            if nowhere and "identity" in options_of(op.se.position) and any(op.se.options):
                yield f"{prefix}.se.position: must not be identity where no {op.kind} block of the stage has a shortcut"
            units = [unit for option in op.se.options if (unit := op.se.spec(option)) is not None]
            for name in SE_FIELDS:
                several = options_of(getattr(op.se, name))
                if len(several) > 1 and not any(unit.reads(name) for unit in units):
                    yield f"{prefix}.se.{name}: must be one, as none of the options reads it, but got {list(several)}"
        # of one kind alone nothing is compared, and its combinations may be thousands
        found = [[_outcomes(op, *place, model.channel_divisor) for place in places] for op in ops if len(ops) > 1]
        for (a, one), (b, other) in itertools.combinations(enumerate(found), 2):
            if any(mine & its for mine, its in zip(one, other, strict=True)):
                yield f"{where}.blocks[{b}]: must give no network that blocks[{a}] gives too, but some options overlap"
        before = width
    if model.head.hidden_layers > 1 and not model.head.hidden:
        yield f"head.hidden_layers: must be 1 where `hidden` is 0, but got {model.head.hidden_layers}"
    if not model.head.hidden_bias and not model.head.hidden:
        yield "head.hidden_bias: must be true where `hidden` is 0, but got false"
    for data, scaling in model.scaling.items():
        if scaling.strides is not None and len(scaling.strides) != len(model.stages):
            yield (
                f"scaling.{data}.strides: must be one for each of the {len(model.stages)} stages, "
                f"but got {scaling.strides}"
            )


def channel_problems(space: SearchSpace) -> Iterable[str]:
    """Blocks whose channels cannot be built, at the space's size or at one that it is scaled to."""
    if (blocks := sum(max(stage.depths) for stage in space.stages)) > MOST_BLOCKS:
        yield f"stages: must have at most {MOST_BLOCKS:,} blocks together, but have {blocks:,}"
        return
    if any(conv.pool == "ceil" and conv.conv_resolution < 2 for conv in space.stem_at(min(space.resolutions))):
        yield "stem.pool: must not be ceil where a map has one pixel"
    sizes = {"": space, **{f"scaling.{s.data}: ": scaled_to(space, s.data) for s in space.scaling}}
    for where, sized in sizes.items():
        faults = list(_block_problems(sized))
        yield from (f"{where}{fault}" for fault in faults)
        # of blocks that cannot be built no weights can be counted
        if not faults and (most := weights(largest_network(sized))) > MOST_WEIGHTS:
            yield f"{where}stages: a network must have at most {MOST_WEIGHTS:,} weights, but one has {most:,}"


def _block_problems(space: SearchSpace) -> Iterable[str]:
    for slot in space.slots:
        for b, op in enumerate(slot.ops):
            blocks = (op.block(**sizes) for sizes in op.sizes)
            faults = (channel_fault(block) if block.expanded <= MOST_CHANNELS else _TOO_WIDE for block in blocks)
            for fault in filter(None, dict.fromkeys(faults)):
                yield f"stages[{slot.stage}].blocks[{b}]: {fault} in block {slot.index + 1}"


def _resolution_problems(model: SpaceModel) -> Iterable[str]:
    ours = options_of(model.resolution)
    if len(ours) > 1 and model.head.flatten:
        must = "must be one number where the head flattens its map, as its linear layer reads every pixel"
        yield f"resolution: {must}, but got {list(ours)}"
    for data, scaling in model.scaling.items():
        theirs = options_of(scaling.resolution)
        if len(theirs) not in (1, len(ours)):
            many = f" or a list of {len(ours)}, one for each of the space's" if len(ours) > 1 else ""
            yield f"scaling.{data}.resolution: must be one number{many}, but got {list(theirs)}"


def _activation_problems(stage: StageModel, where: str) -> Iterable[str]:
    """Lists of activations that a block cannot choose from, and what a stage says of blocks that all have their own."""
    blocks = [block for block in stage.blocks or [] if not BLOCKS[block.kind].passes_through]
    held = [block.kind for block in blocks if "activation" not in BLOCKS[block.kind].options]
    if held and isinstance(stage.activation, tuple):
        yield (
            f"{where}.activation: must be one, as a {held[0]} block does not choose among several, "
            f"but got {list(stage.activation)}"
        )
    given = "activation" in stage.model_fields_set
    if given and blocks and all(block.activation is not None for block in blocks):
        got = stage.activation if isinstance(stage.activation, str) else list(stage.activation)
        yield f"{where}.activation: must be left out, as every block of the stage has its own, but got {got}"


def _tied(model: SpaceModel) -> bool:
    """Whether one choice decides on all widths."""
    return len(model.width_multiplier) > 1


def _channels_of(model: SpaceModel, width: int | tuple[int, ...]) -> tuple[int, ...]:
    """Channels for each option of what decides on a width."""
    return multiplied_channels(width, tuple(model.width_multiplier), model.channel_divisor)


def _width_problems(model: SpaceModel) -> Iterable[str]:
    named = {"stem.width": model.stem.width, "head.width": model.head.width}
    named |= {f"stages[{s}].width": stage.width for s, stage in enumerate(model.stages)}
    inner = {f"stem.then[{i}].width": conv.width for i, conv in enumerate(model.stem.then)}
    for path, width in inner.items():
        if isinstance(width, tuple):
            yield f"{path}: must be one number, as only the stem's first width may be a choice, but got {list(width)}"
    if model.width_multiplier == [1.0]:
        return
    if len(model.width_multiplier) > MOST_SIZES:
        yield f"width_multiplier: must be at most {MOST_SIZES} numbers, but got {len(model.width_multiplier)}"
        return
    for path, width in named.items():
        if isinstance(width, tuple):
            yield f"{path}: must be one number where there is a width_multiplier, but got {list(width)}"
            return
    every = [_channels_of(model, width) for width in (*named.values(), *inner.values())]
    if len(set(zip(*every, strict=True))) < len(model.width_multiplier):
        yield f"width_multiplier: options must give distinct widths, but some of {model.width_multiplier} give the same"


def _flows_into(before: StageModel, stage: StageModel, pairs: Iterable[tuple[int, int]], divisor: int) -> bool:
    """Whether a block at the border could be of either stage, of these input and output channels."""
    if stage.stride != 1:
        return False
    kept = [width for other, width in pairs if other == width]
    return any(
        set().union(*(_outcomes(op, width, width, 1, divisor) for op in stage_template(before).ops))
        & set().union(*(_outcomes(op, width, width, 1, divisor) for op in stage_template(stage).ops))
        for width in kept
    )


def _channels(op: OpTemplate, block_input: int, block_output: int, divisor: int) -> list[int]:
    """Expanded channels of each expansion option."""
    return [op.expanded(block_input, block_output, expansion, divisor) for expansion in op.expansions]


def _has_sum(op: OpTemplate, block_input: int, block_output: int, stride: int) -> bool:
    place = op_at(op, Width.fixed(block_input), Width.fixed(block_output), stride, _SIDE, 1)
    return place.block().has_sum


def _outcomes(op: OpTemplate, block_input: int, block_output: int, stride: int, divisor: int) -> set[object]:
    """What the op can be at one place: two ops that share an outcome would make two architectures of one network."""
    place = op_at(op, Width.fixed(block_input), Width.fixed(block_output), stride, _SIDE, divisor)
    return {built(place.block(**options)) for options in place.combinations()}
