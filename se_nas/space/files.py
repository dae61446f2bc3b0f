"""Search spaces as YAML: read with every fault reported at once, each with its path in the file, and written back."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from se_nas.errors import ConfigError
from se_nas.records.yaml_input import read_yaml, validation_problems
from se_nas.space.block_plan import built, channel_fault
from se_nas.space.scaling import Scaling
from se_nas.space.search_space import (
    NO_SE,
    HeadTemplate,
    OpTemplate,
    SearchSpace,
    SETemplate,
    StageTemplate,
    StemTemplate,
)
from se_nas.space.specs import (
    KINDS,
    WITH_HIDDEN,
    Activation,
    AttentionKind,
    BlockForm,
    BlockKind,
    Gate,
    Pool,
    Position,
    RatioOf,
    Shortcut,
    Squeeze,
    StemPool,
    StrideAt,
)

T = TypeVar("T")


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _se_option(value: Any) -> Any:
    """One SE option; YAML 1.1 reads bare `no` and `off` as false and `null` or `~` as nothing."""
    if value == NO_SE:
        return None
    if value is None or isinstance(value, bool):
        raise ValueError('must be "none" (in quotes) or a reduction ratio of at least 1')
    if isinstance(value, str):
        return _relative(value)
    if not isinstance(value, (int, float)) or not 1 <= value < float("inf"):
        raise ValueError(_SE_OPTIONS)
    return _plain_number(value)


_SE_OPTIONS = 'must be "none" or a reduction ratio of at least 1, or one of eca, ese, spatial and cbam/RATIO'


def _relative(value: str) -> str:
    """An attention other than SE, with its ratio where it has one."""
    kind, slash, ratio = value.partition("/")
    if kind == "cbam" and not ratio:
        raise ValueError("cbam needs a ratio, such as cbam/16")
    if kind not in get_args(AttentionKind) or kind == "se" or bool(slash) != (kind in WITH_HIDDEN):
        raise ValueError(_SE_OPTIONS)
    if not slash:
        return kind
    if not re.fullmatch(r"\d+(\.\d+)?", ratio) or float(ratio) < 1:
        raise ValueError(_SE_OPTIONS)
    return f"{kind}/{_plain_number(float(ratio))}"


def _plain_number(value: float) -> float:
    """3.0 as 3: one number is one option, however it was written."""
    return int(value) if value == int(value) else value


def _plain_name(value: str) -> str:
    if not re.fullmatch(r"[\w \-]+", value):
        raise ValueError("must be letters, digits, spaces, - and _ only")
    return value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("a kernel must be odd")
    return value


def _distinct(options: list[T]) -> list[T]:
    if len(set(options)) != len(options):
        raise ValueError("options must be distinct")
    return options


Count = Annotated[int, Field(ge=1, strict=True)]
Stride = Annotated[int, Field(ge=1, le=2, strict=True)]
Kernel = Annotated[int, Field(ge=1, strict=True), BeforeValidator(lambda v: _odd(v) if type(v) is int else v)]
Expansion = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Options = Annotated[list[T], Field(min_length=1), AfterValidator(_distinct)]
OneOrMore = Annotated[Options[T], BeforeValidator(_as_list)]
Name = Annotated[str, AfterValidator(_plain_name)]


_SIDE = 2  # of the maps in blocks that are only compared
_FORM = tuple(field.name for field in fields(BlockForm))


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _SE(_Model):
    options: Options[Annotated[Any, BeforeValidator(_se_option)]]
    ratio_of: RatioOf = "expanded"
    divisor: Count = 8
    squeeze: Squeeze = "mean"
    activation: Activation = "relu"
    gate: Gate = "hard_sigmoid"
    position: Position = "inside"

    def template(self) -> SETemplate:
        return SETemplate(
            tuple(self.options),
            self.ratio_of,
            self.divisor,
            self.squeeze,
            self.activation,
            self.gate,
            self.position,
        )


class _Block(_Model):
    kind: BlockKind
    name: Name | None = None
    kernel: OneOrMore[Kernel] = [3]
    expansion: OneOrMore[Expansion] = [1.0]
    se: _SE | None = None
    group_width: Annotated[int, Field(ge=0, strict=True)] = 0
    entry: Annotated[float, Field(gt=0, le=1, strict=True)] = 1.0
    stride_at: StrideAt = "kxk"
    shortcut: Shortcut = "projection"
    preactivation: Annotated[bool, Field(strict=True)] = False
    groups: Count = 1
    dense_reduction: Annotated[bool, Field(strict=True)] = False
    branches: list[Annotated[list[Count], Field(min_length=1)]] = []
    pool: Pool = "mean"
    pool_width: Annotated[int, Field(ge=0, strict=True)] = 0

    def form(self) -> BlockForm:
        values = {name: getattr(self, name) for name in _FORM}
        return BlockForm(**{**values, "branches": tuple(map(tuple, self.branches))})


class _Stage(_Model):
    width: Count
    stride: Stride = 1
    depth: OneOrMore[Count] = [1]
    activation: Activation = "relu"
    kernel: OneOrMore[Kernel] | None = None
    expansion: OneOrMore[Expansion] | None = None
    se: _SE | None = None
    blocks: Annotated[list[_Block], Field(min_length=1)] | None = None
    share: Annotated[list[Literal["kernel", "expansion", "se", "block"]], AfterValidator(_distinct)] = []


def _stem_pool(value: Any) -> Any:
    if not isinstance(value, bool) and value != "ceil":
        raise ValueError('must be true, false or "ceil"')
    return value


class _StemConv(_Model):
    width: Count
    kernel: Kernel = 3
    stride: Stride = 1
    activation: Activation = "relu"
    pool: Annotated[StemPool, BeforeValidator(_stem_pool)] = False
    bias: Annotated[bool, Field(strict=True)] = False
    norm: Annotated[bool, Field(strict=True)] = True


class _Stem(_StemConv):
    then: list[_StemConv] = []

    def template(self) -> StemTemplate:
        convs = [StemTemplate(**conv.model_dump(exclude={"then"})) for conv in (self, *self.then)]
        return replace(convs[0], then=tuple(convs[1:]))


class _Head(_Model):
    width: Annotated[int, Field(ge=0, strict=True)] = 0
    hidden: Annotated[int, Field(ge=0, strict=True)] = 0
    activation: Activation = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0
    norm: Annotated[bool, Field(strict=True)] = False
    max_pool: Annotated[bool, Field(strict=True)] = False
    flatten: Annotated[bool, Field(strict=True)] = False
    hidden_layers: Count = 1


class _Scaling(_Model):
    resolution: Count
    classes: Annotated[int, Field(ge=2, strict=True)] | None = None
    stem_stride: Stride | None = None
    strides: list[Stride] | None = None
    width: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] = 1.0

    def scaling(self, data: str) -> Scaling:
        strides = None if self.strides is None else tuple(self.strides)
        return Scaling(data, self.resolution, self.classes, self.stem_stride, strides, self.width)


class _Space(_Model):
    name: Name
    resolution: Count
    channels: Count = 3
    classes: Annotated[int, Field(ge=2, strict=True)] = 10
    channel_divisor: Count = 8
    stem: _Stem
    stages: Annotated[list[_Stage], Field(min_length=1)]
    head: _Head = _Head()
    scaling: dict[Name, _Scaling] = {}


def parse_space(value: Any, source: str) -> SearchSpace:
    """Build a space from plain YAML data; `source` names it in errors.

    Raises:
        ConfigError: with every fault found.
    """
    try:
        model = _Space.model_validate(value)
    except ValidationError as error:
        raise ConfigError(source, validation_problems(error)) from error
    problems = list(_problems_between_fields(model))
    if problems:
        raise ConfigError(source, problems)
    space = SearchSpace(
        name=model.name,
        stages=tuple(_stage(stage) for stage in model.stages),
        stem=model.stem.template(),
        head=HeadTemplate(**model.head.model_dump()),
        resolution=model.resolution,
        channels=model.channels,
        classes=model.classes,
        channel_divisor=model.channel_divisor,
        scaling=tuple(scaling.scaling(data) for data, scaling in model.scaling.items()),
    )
    problems = list(_channel_problems(space))
    if problems:
        raise ConfigError(source, problems)
    return space


def load_space(path: str | os.PathLike[str]) -> SearchSpace:
    """Read a search space from a YAML file.

    Raises:
        ConfigError: with every fault found, each with the file and the path in it.
    """
    return parse_space(read_yaml(path), str(path))


def _problems_between_fields(model: _Space) -> Iterable[str]:
    """Faults that no single field shows."""
    width = (model.stem.then or [model.stem])[-1].width
    depth_varies = False  # in this stage or in one before it that flows into it without a visible border
    for s, stage in enumerate(model.stages):
        where = f"stages[{s}]"
        if s == 0 or not _flows_into(model.stages[s - 1], stage, model.channel_divisor):
            depth_varies = False
        if depth_varies and len(stage.depth) > 1:
            yield (
                f"{where}.depth: must be one number, because the stage before has the same width and some of the same "
                f"blocks and varies in depth too, so that one network would be two architectures, but got {stage.depth}"
            )
        depth_varies = depth_varies or len(stage.depth) > 1
        if stage.blocks is not None:
            for field in ("kernel", "expansion", "se"):
                if getattr(stage, field) is not None:
                    yield f"{where}.{field}: must stand in each of `blocks` when `blocks` is given"
            for b, block in enumerate(stage.blocks):
                extra = block.model_fields_set - {"kind", "name"}
                if KINDS[block.kind].expansion_of is None and extra:
                    given = ", ".join(sorted(extra))
                    yield f"{where}.blocks[{b}]: an {block.kind} block takes only `kind` and `name`, but got {given}"
                    continue
                for name in sorted(extra - {"kernel", "se"} - KINDS[block.kind].options):
                    yield f"{where}.blocks[{b}].{name}: a {block.kind} block has no such option"
        ops = _stage(stage).ops
        names = [op.name.replace(" ", "_") for op in ops]  # as choices are named
        if len(set(names)) != len(names):
            yield f"{where}.blocks: names must be distinct, but got {', '.join(op.name for op in ops)}"
        inputs = sorted({width, stage.width} if max(stage.depth) > 1 else {width})
        for b, op in enumerate(ops):
            prefix = f"{where}.blocks[{b}]" if stage.blocks is not None else where
            of_input = KINDS[op.kind].expansion_of == "block_input"
            if op.kind == "shuffle" and len(op.expansions) > 1:  # a prefix of channels is no prefix of its groups
                yield f"{prefix}.expansion: must be one number for shuffle, but got {list(op.expansions)}"
            for e, expansion in enumerate(op.expansions):
                if of_input and expansion < 1:
                    yield f"{prefix}.expansion[{e}]: must be at least 1 for {op.kind}, but got {expansion}"
            for multiplied in inputs if of_input else (stage.width,):
                channels = _channels(op, multiplied, stage.width, model.channel_divisor)
                if len(set(channels)) != len(channels):
                    yield (
                        f"{prefix}.expansion: options must give distinct channel counts, "
                        f"but {list(op.expansions)} of {multiplied} channels give {channels}"
                    )
        places = [(width, stage.stride), (stage.width, 1)][: min(2, max(stage.depth))]
        for b, op in enumerate(ops):
            nowhere = not any(_has_sum(op, before, stage.width, stride) for before, stride in places)
            if nowhere and op.se.position == "identity" and any(op.se.options):
                prefix = f"{where}.blocks[{b}]" if stage.blocks is not None else where
                yield f"{prefix}.se.position: must not be identity where no {op.kind} block of the stage has a shortcut"
        found = [
            [_outcomes(op, before, stage.width, stride, model.channel_divisor) for before, stride in places]
            for op in ops
        ]
        for (a, one), (b, other) in itertools.combinations(enumerate(found), 2):
            if any(mine & its for mine, its in zip(one, other, strict=True)):
                yield f"{where}.blocks[{b}]: must give no network that blocks[{a}] gives too, but some options overlap"
        width = stage.width
    if model.head.hidden_layers > 1 and not model.head.hidden:
        yield f"head.hidden_layers: must be 1 where `hidden` is 0, but got {model.head.hidden_layers}"
    for data, scaling in model.scaling.items():
        if scaling.strides is not None and len(scaling.strides) != len(model.stages):
            yield (
                f"scaling.{data}.strides: must be one for each of the {len(model.stages)} stages, "
                f"but got {scaling.strides}"
            )


def _channel_problems(space: SearchSpace) -> Iterable[str]:
    """Blocks whose channels cannot be built, at the space's size or at one that it is scaled to."""
    if any(conv.pool == "ceil" and conv.conv_resolution < 2 for conv in space.stem_convs):
        yield "stem.pool: must not be ceil where a map has one pixel"
    sizes = {"": space, **{f"scaling.{s.data}: ": space.scaled_to(s.data) for s in space.scaling}}
    for where, sized in sizes.items():
        for slot in sized.slots:
            for b, op in enumerate(slot.ops):
                for expansion in op.expansion.options:
                    fault = channel_fault(op.block(op.kernel.options[0], expansion, op.se.options[0]))
                    if fault is not None:
                        yield f"{where}stages[{slot.stage}].blocks[{b}]: {fault} in block {slot.index + 1}"


def _flows_into(before: _Stage, stage: _Stage, divisor: int) -> bool:
    """Whether a block at the border could be of either stage."""
    if stage.stride != 1 or stage.width != before.width:
        return False
    sides = [
        set().union(*(_outcomes(op, stage.width, stage.width, 1, divisor) for op in _stage(side).ops))
        for side in (before, stage)
    ]
    return bool(sides[0] & sides[1])


def _channels(op: OpTemplate, block_input: int, block_output: int, divisor: int) -> list[int]:
    """Expanded channels of each expansion option."""
    return [op.expanded(block_input, block_output, expansion, divisor) for expansion in op.expansions]


def _has_sum(op: OpTemplate, block_input: int, block_output: int, stride: int) -> bool:
    place = op.at(block_input, block_output, stride, _SIDE, 1)
    return place.block(*(axis.options[0] for axis in place.axes)).has_sum


def _outcomes(op: OpTemplate, block_input: int, block_output: int, stride: int, divisor: int) -> set[object]:
    """What the op can be at one place: two ops that share an outcome would make two architectures of one network."""
    place = op.at(block_input, block_output, stride, _SIDE, divisor)
    options = itertools.product(*(axis.options for axis in place.axes))
    return {built(place.block(*picks)) for picks in options}


def _stage(stage: _Stage) -> StageTemplate:
    if stage.blocks is None:
        blocks = [_Block(kind="mbconv", kernel=stage.kernel or [3], expansion=stage.expansion or [1.0], se=stage.se)]
    else:
        blocks = stage.blocks
    return StageTemplate(
        width=stage.width,
        stride=stage.stride,
        depths=tuple(stage.depth),
        ops=tuple(_op(block, stage.activation) for block in blocks),
        share=tuple(stage.share),
    )


def _op(block: _Block, activation: Activation) -> OpTemplate:
    if KINDS[block.kind].expansion_of is None:
        return OpTemplate(block.kind, block.name or block.kind, kernels=(1,), activation="identity")
    expansions = tuple(_plain_number(e) for e in block.expansion)
    options = KINDS[block.kind].options
    kernel, expansion = "-".join(map(str, block.kernel)), "-".join(map(str, expansions)).replace(".", "_")
    return OpTemplate(
        kind=block.kind,
        name=block.name or f"{block.kind} k{kernel}" + (f" e{expansion}" if "expansion" in options else ""),
        kernels=tuple(block.kernel),
        expansions=expansions,
        se=block.se.template() if block.se else SETemplate((None,)),
        activation=activation,
        form=block.form(),
    )


def dump_space(space: SearchSpace) -> str:
    """The space as YAML that `parse_space` reads back to an equal space."""

    def se(op: OpTemplate) -> dict[str, Any]:
        if op.se == SETemplate((None,)):
            return {}
        properties = {k: getattr(op.se, k) for k in _SE.model_fields if k != "options"}
        return {"se": {"options": [NO_SE if r is None else r for r in op.se.options], **properties}}

    def stem(part: StemTemplate) -> dict[str, Any]:
        return {k: getattr(part, k) for k in _StemConv.model_fields}

    def parts(op: OpTemplate) -> dict[str, Any]:
        if KINDS[op.kind].expansion_of is None:
            return {}
        options = {"expansion": list(op.expansions), **{name: getattr(op.form, name) for name in _FORM}}
        options["branches"] = list(map(list, op.form.branches))
        given = {name: value for name, value in options.items() if name in KINDS[op.kind].options}
        return {"kernel": list(op.kernels), **given, **se(op)}

    stages = []
    for stage in space.stages:
        activations = [op.activation for op in stage.ops if KINDS[op.kind].expansion_of is not None]
        stages.append(
            {
                "width": stage.width,
                "stride": stage.stride,
                "depth": list(stage.depths),
                "activation": activations[0] if activations else "relu",
                "blocks": [{"kind": op.kind, "name": op.name, **parts(op)} for op in stage.ops],
                "share": list(stage.share),
            }
        )
    return yaml.safe_dump(
        {
            "name": space.name,
            "resolution": space.resolution,
            "channels": space.channels,
            "classes": space.classes,
            "channel_divisor": space.channel_divisor,
            "stem": {**stem(space.stem), **({"then": list(map(stem, space.stem.then))} if space.stem.then else {})},
            "stages": stages,
            "head": {k: getattr(space.head, k) for k in _Head.model_fields},
            **({"scaling": {scaling.data: _given(scaling) for scaling in space.scaling}} if space.scaling else {}),
        },
        sort_keys=False,
    )


def _given(scaling: Scaling) -> dict[str, Any]:
    """What of a scaling is not left to the space."""
    values = {name: getattr(scaling, name) for name in _Scaling.model_fields}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None}
