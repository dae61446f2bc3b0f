"""Models of a space's YAML: what each field may hold, and what it is short for."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
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
from se_nas.space.templates import NO_SE, OpTemplate, Scaling, SETemplate, StageTemplate, StemTemplate

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
Name = Annotated[str, AfterValidator(_plain_name)]


FORM = tuple(field.name for field in fields(BlockForm))
Stride = Annotated[int, Field(ge=1, le=2, strict=True)]
Kernel = Annotated[int, Field(ge=1, strict=True), BeforeValidator(lambda v: _odd(v) if type(v) is int else v)]
Expansion = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Options = Annotated[list[T], Field(min_length=1), AfterValidator(_distinct)]
OneOrMore = Annotated[Options[T], BeforeValidator(_as_list)]


class YamlModel(BaseModel):
    """A part of a space file; an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid")


class SEModel(YamlModel):
    """`se:` of a block: its options, and what they share."""

    options: Options[Annotated[Any, BeforeValidator(_se_option)]]
    ratio_of: RatioOf = "expanded"
    divisor: Count = 8
    squeeze: Squeeze = "mean"
    activation: Activation = "relu"
    gate: Gate = "hard_sigmoid"
    position: Position = "inside"

    def template(self) -> SETemplate:
        """The template of these options."""
        return SETemplate(
            tuple(self.options),
            self.ratio_of,
            self.divisor,
            self.squeeze,
            self.activation,
            self.gate,
            self.position,
        )


class BlockModel(YamlModel):
    """One kind of block that a stage offers; what a kind has no use for must be absent."""

    kind: BlockKind
    name: Name | None = None
    kernel: OneOrMore[Kernel] = [3]
    expansion: OneOrMore[Expansion] = [1.0]
    se: SEModel | None = None
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
        """What the kind of block has beside kernel, expansion and SE."""
        values = {name: getattr(self, name) for name in FORM}
        return BlockForm(**{**values, "branches": tuple(map(tuple, self.branches))})


class StageModel(YamlModel):
    """A stage: its width, stride and depths, and its blocks, or what its one kind of block has."""

    width: Count
    stride: Stride = 1
    depth: OneOrMore[Count] = [1]
    activation: Activation = "relu"
    kernel: OneOrMore[Kernel] | None = None
    expansion: OneOrMore[Expansion] | None = None
    se: SEModel | None = None
    blocks: Annotated[list[BlockModel], Field(min_length=1)] | None = None
    share: Annotated[list[Literal["kernel", "expansion", "se", "block"]], AfterValidator(_distinct)] = []


def _stem_pool(value: Any) -> Any:
    if not isinstance(value, bool) and value != "ceil":
        raise ValueError('must be true, false or "ceil"')
    return value


class StemConvModel(YamlModel):
    """One convolution of the stem."""

    width: Count
    kernel: Kernel = 3
    stride: Stride = 1
    activation: Activation = "relu"
    pool: Annotated[StemPool, BeforeValidator(_stem_pool)] = False
    bias: Annotated[bool, Field(strict=True)] = False
    norm: Annotated[bool, Field(strict=True)] = True


class StemModel(StemConvModel):
    """The stem: its first convolution, and those that follow it."""

    then: list[StemConvModel] = []

    def template(self) -> StemTemplate:
        """The template of the whole stem."""
        convs = [StemTemplate(**conv.model_dump(exclude={"then"})) for conv in (self, *self.then)]
        return replace(convs[0], then=tuple(convs[1:]))


class HeadModel(YamlModel):
    """What follows the last block."""

    width: Annotated[int, Field(ge=0, strict=True)] = 0
    hidden: Annotated[int, Field(ge=0, strict=True)] = 0
    activation: Activation = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0
    norm: Annotated[bool, Field(strict=True)] = False
    max_pool: Annotated[bool, Field(strict=True)] = False
    flatten: Annotated[bool, Field(strict=True)] = False
    hidden_layers: Count = 1


class ScalingModel(YamlModel):
    """What changes for one data set."""

    resolution: Count
    classes: Annotated[int, Field(ge=2, strict=True)] | None = None
    stem_stride: Stride | None = None
    strides: list[Stride] | None = None
    width: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] = 1.0

    def scaling(self, data: str) -> Scaling:
        """The scaling to the data set of this name."""
        strides = None if self.strides is None else tuple(self.strides)
        return Scaling(data, self.resolution, self.classes, self.stem_stride, strides, self.width)


class SpaceModel(YamlModel):
    """A whole space file.

    Attributes:
        plugins: modules of your own that are imported before the rest is read, or .py files relative to the space file.
    """

    plugins: list[str] = []
    name: Name
    resolution: Count
    channels: Count = 3
    classes: Annotated[int, Field(ge=2, strict=True)] = 10
    channel_divisor: Count = 8
    stem: StemModel
    stages: Annotated[list[StageModel], Field(min_length=1)]
    head: HeadModel = HeadModel()
    scaling: dict[Name, ScalingModel] = {}


def stage_template(stage: StageModel) -> StageTemplate:
    """The template of a stage; without `blocks` its one kind is an MBConv block."""
    if stage.blocks is None:
        blocks = [
            BlockModel(kind="mbconv", kernel=stage.kernel or [3], expansion=stage.expansion or [1.0], se=stage.se)
        ]
    else:
        blocks = stage.blocks
    return StageTemplate(
        width=stage.width,
        stride=stage.stride,
        depths=tuple(stage.depth),
        ops=tuple(op_template(block, stage.activation) for block in blocks),
        share=tuple(stage.share),
    )


def op_template(block: BlockModel, activation: Activation) -> OpTemplate:
    """The template of one kind of block, named by what it is where it has no name."""
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
