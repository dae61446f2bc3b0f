"""Templates: the stem, stages, blocks and head of a space with their options, before they have a place in a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainValidator, TypeAdapter

from se_nas.errors import did_you_mean
from se_nas.records.bounds import (
    MOST_CHANNELS,
    MOST_HIDDEN_LAYERS,
    MOST_PIXELS,
    MOST_SIZES,
    MOST_STAGE,
    size_within,
)
from se_nas.space.attention import ATTENTION, OF_BARE_RATIO
from se_nas.space.blocks import BLOCKS
from se_nas.space.blocks.shape import BlockForm, Kernel
from se_nas.space.channels import round_channels
from se_nas.space.choice import SE_FIELDS, Option
from se_nas.space.specs import SEHidden, SESpec
from se_nas.space.vocabulary import Activation, Gate, Position, Squeeze, StemPool

T = TypeVar("T")

NO_SE = "none"

SEOption = float | str | None
"""One option of SE: None for no SE, a ratio, or another kind of ATTENTION: "eca", "cbam/16"."""


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def not_empty(values: Sequence[T]) -> Sequence[T]:
    """The values, if there are any; a least length in pydantic's words would not count those that are faulty."""
    if not values:
        raise ValueError("must not be empty")
    return values


def distinct(options: Sequence[T]) -> Sequence[T]:
    """The options, if no two are equal."""
    if len(set(options)) != len(options):
        raise ValueError("options must be distinct")
    return options


_Whole = Annotated[int, Field(ge=1, strict=True)]
Channels = Annotated[_Whole, size_within(MOST_CHANNELS)]
ChannelsOrNone = Annotated[int, Field(ge=0, strict=True), size_within(MOST_CHANNELS)]
Pixels = Annotated[_Whole, size_within(MOST_PIXELS)]
Depth = Annotated[_Whole, size_within(MOST_STAGE)]
Flag = Annotated[bool, Field(strict=True)]
Stride = Annotated[int, Field(ge=1, le=2, strict=True)]


def options_of(value: T | tuple[T, ...]) -> tuple[T, ...]:
    """What is chosen among where a field has one option, or several."""
    return value if isinstance(value, tuple) else (value,)


def _one_alone(value: Any) -> Any:
    if isinstance(value, list):
        raise ValueError("must be one activation, as only a stage or a block of it may choose among several")
    return value


OneActivation = Annotated[Activation, BeforeValidator(_one_alone)]


def _few(sizes: Sequence[int]) -> Sequence[int]:
    if len(sizes) > MOST_SIZES:
        raise ValueError(f"must be at most {MOST_SIZES} numbers")
    return sizes


def _one_or_several(one: Any, listed: Any = None, *checks: Any) -> BeforeValidator:
    """Reads one option, or a list of them; a list of one is that one. A fault tells its place in the list alone.

    Args:
        listed: what each option of a list must be, if not what one alone must be.
        checks: of the list, beside that its options are distinct.
    """
    every = (AfterValidator(not_empty), *checks, AfterValidator(distinct))

    @cache
    def adapter(kind: Any, several: bool) -> TypeAdapter[Any]:
        options = tuple[kind, ...]
        return TypeAdapter(Annotated[(options, *every)] if several else kind)

    def checked(value: Any) -> Any:
        several = isinstance(value, (list, tuple))
        found = adapter(listed or one if several else one, several).validate_python(value)
        return found[0] if several and len(found) == 1 else found

    return BeforeValidator(checked)


_OF_SIZES = AfterValidator(_few)
ActivationOrSeveral = Annotated[Activation | tuple[Activation, ...], _one_or_several(Activation)]
WidthOrWidths = Annotated[Channels | tuple[Channels, ...], _one_or_several(Channels, Channels, _OF_SIZES)]
PixelsOrSeveral = Annotated[Pixels | tuple[Pixels, ...], _one_or_several(Pixels, Pixels, _OF_SIZES)]
WidthsOrNone = Annotated[ChannelsOrNone | tuple[Channels, ...], _one_or_several(ChannelsOrNone, Channels, _OF_SIZES)]


def plain_number(value: float) -> float:
    """3.0 as 3: one number is one option, however it was written."""
    return int(value) if value == int(value) else value


def _se_option(value: Any) -> SEOption:
    """One SE option as a file has it; YAML 1.1 reads bare `no` and `off` as false and `null` or `~` as nothing."""
    if value == NO_SE:
        return None
    if value is None or isinstance(value, bool):
        raise ValueError('must be "none" (in quotes) or a reduction ratio of at least 1')
    if isinstance(value, str):
        return _other_kind(value)
    if not isinstance(value, (int, float)) or not 1 <= value < float("inf"):
        raise ValueError(_se_options())
    if value > MOST_CHANNELS:
        raise ValueError(f"a reduction ratio must be at most {MOST_CHANNELS:,}, as no block has more channels")
    return plain_number(value)


def _se_options() -> str:
    others = [
        f"{kind.name}/RATIO" if kind.has_ratio else kind.name for kind in ATTENTION.values() if kind != OF_BARE_RATIO
    ]
    return f'must be "none" or a reduction ratio of at least 1, or one of {", ".join(others)}'


def _other_kind(value: str) -> str:
    """A kind of attention that is not the bare ratio's, with its ratio where it has one."""
    name, slash, ratio = value.partition("/")
    kind = ATTENTION.get(name)
    if kind is None or kind == OF_BARE_RATIO or (slash and not kind.has_ratio):
        close = did_you_mean(name, [other for other in ATTENTION if other != OF_BARE_RATIO.name]).removeprefix("; ")
        raise ValueError(_se_options() + (f" ({close})" if close else ""))
    if not kind.has_ratio:
        return name
    if not slash:
        raise ValueError(f"{name} needs a ratio, such as {name}/16")
    if not re.fullmatch(r"\d+(\.\d+)?", ratio) or not 1 <= float(ratio) <= MOST_CHANNELS:
        raise ValueError(_se_options())
    return f"{name}/{plain_number(float(ratio))}"


def kind_and_ratio(option: float | str) -> tuple[str, float]:
    """The kind of attention and the reduction ratio that an option stands for."""
    if not isinstance(option, str):
        return OF_BARE_RATIO.name, option
    kind, _, ratio = option.partition("/")
    return kind, float(ratio or 1)


def se_label(option: SEOption) -> str:
    """The option's name: "none", "r16", "eca", "cbam16"."""
    if option is None:
        return NO_SE
    kind, ratio = kind_and_ratio(option)
    return ATTENTION[kind].label(ratio)


@dataclass(frozen=True, kw_only=True)
class SETemplate(SEHidden):
    """SE options of a block; in files its own field `se`. Each field but the first two may be a list to choose from.

    Attributes:
        squeeze: how a channel is summarised over its positions; the paper's global mean, the maximum, or "none", the
            paper's control NoSqueeze: the same maps at every position. Some kinds do not read it.
        activation: what stands between the two linear maps.
        gate: what makes every gate of the unit.
        position: where SE stands, as in the paper's figure 5; see `SESpec`.
        options: what is chosen among: "none", reduction ratios, and SE's relatives by their names.
    """

    squeeze: Annotated[Squeeze | tuple[Squeeze, ...], _one_or_several(Squeeze)] = "mean"
    activation: ActivationOrSeveral = "relu"
    gate: Annotated[Gate | tuple[Gate, ...], _one_or_several(Gate)] = "hard_sigmoid"
    position: Annotated[Position | tuple[Position, ...], _one_or_several(Position)] = "inside"
    options: Annotated[
        tuple[Annotated[SEOption, PlainValidator(_se_option)], ...], AfterValidator(not_empty), AfterValidator(distinct)
    ]

    __pydantic_config__ = ConfigDict(extra="forbid")

    def spec(self, option: SEOption, **picked: Any) -> SESpec | None:
        """The concrete unit for one option.

        Args:
            picked: squeeze, activation, gate and position; the first, where none is given.
        """
        if option is None:
            return None
        kind, ratio = kind_and_ratio(option)
        own = {name: options_of(getattr(self, name))[0] for name in SE_FIELDS} | picked
        return SESpec(ratio=ratio, kind=kind, ratio_of=self.ratio_of, divisor=self.divisor, **own)


WITHOUT_SE = SETemplate(options=(None,))


@dataclass(frozen=True, kw_only=True)
class OpTemplate:
    """One kind of block a stage offers, with the options of its parts."""

    kind: str
    name: str
    kernels: tuple[int, ...] = (3,)
    expansions: tuple[float, ...] = (1.0,)
    se: SETemplate = WITHOUT_SE
    activation: Activation | tuple[Activation, ...] = "relu"
    form: BlockForm = field(default=BlockForm(), metadata={"since": 2})

    def expanded(self, block_input: int, block_output: int, expansion: Option, channel_divisor: int) -> int:
        """Channels of the kxk convolution for one expansion option, in a block of these channel counts."""
        reference = block_output if BLOCKS[self.kind].expansion_of == "block_output" else block_input
        if expansion == 1:
            return reference
        return round_channels(reference * float(expansion), channel_divisor)


@dataclass(frozen=True)
class StageTemplate:
    """Blocks of one output width; the first has the stage's stride, `depths` says how many there may be.

    Several numbers as `width` are a choice, made once for the whole stage, so that sums agree.

    `share` names what is chosen once for the whole stage instead of per block: of "kernel", "expansion", "activation",
    "se", "block".
    """

    width: int | tuple[int, ...]
    stride: int
    depths: tuple[int, ...]
    ops: tuple[OpTemplate, ...]
    share: tuple[str, ...] = ()


def _stem_pool(value: Any) -> Any:
    if not isinstance(value, bool) and value != "ceil":
        raise ValueError('must be true, false or "ceil"')
    return value


@dataclass(frozen=True, kw_only=True)
class StemConv:
    """One convolution of the stem; see `ConvSpec`.

    Attributes:
        width: channels that the convolution puts out, or, of the first, a list to choose from.
        kernel, stride: side and stride of the convolution.
        activation: activation after the norm.
        pool: whether a 3x3 max-pooling of stride 2 follows; "ceil" pads it as Caffe does.
        bias: whether the convolution has a bias.
        norm: whether a batch norm follows.
    """

    width: WidthOrWidths
    kernel: Kernel = 3
    stride: Stride = 1
    activation: OneActivation = "relu"
    pool: Annotated[StemPool, BeforeValidator(_stem_pool)] = field(default=False, metadata={"since": 2})
    bias: Flag = field(default=False, metadata={"since": 2})
    norm: Flag = field(default=True, metadata={"since": 2})

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class StemTemplate(StemConv):
    """The first convolution, and those of the stem that come after it.

    Attributes:
        then: further convolutions after the first, each of one width.
    """

    then: tuple[StemConv, ...] = field(default=(), metadata={"since": 2})

    @property
    def convs(self) -> tuple[StemConv, ...]:
        """Every convolution."""
        return (self, *self.then)


@dataclass(frozen=True, kw_only=True)
class HeadTemplate:
    """What follows the last block; see `HeadSpec`.

    Attributes:
        width: channels of a 1x1 convolution before the mean, or a list to choose from; 0 is no convolution.
        hidden: width of a linear layer before the classifier, or a list to choose from; 0 is no such layer.
        activation: activation after that convolution and that layer.
        dropout: rate of dropout before the classifier and between linear layers.
        norm: whether a norm with activation comes first, as after pre-activation blocks.
        max_pool: whether a 2x2 max-pooling of stride 2 follows, as in VGG.
        flatten: whether the linear layers read every position instead of the mean, as in VGG.
        hidden_layers: number of linear layers of width `hidden`.
        hidden_bias: whether those have a bias; FBNetV3's has none.
        classifier_bias: whether the classifier has one.
    """

    width: WidthsOrNone = 0
    hidden: WidthsOrNone = 0
    activation: OneActivation = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0
    norm: Flag = field(default=False, metadata={"since": 2})
    max_pool: Flag = field(default=False, metadata={"since": 2})
    flatten: Flag = field(default=False, metadata={"since": 2})
    hidden_layers: Annotated[_Whole, size_within(MOST_HIDDEN_LAYERS)] = field(default=1, metadata={"since": 2})
    hidden_bias: Flag = field(default=True, metadata={"since": 4})
    classifier_bias: Flag = field(default=True, metadata={"since": 4})

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Scaling:
    """What changes for one data set; None keeps what the space has.

    Attributes:
        data: name of the data set.
        stem_stride: of the stem's first convolution.
        resolution: side of the square input images, pixels; or one for each that the space has.
        strides: one for each stage.
        width: multiplies the channels of stem, stages and head convolution (not of the head's hidden layer).
    """

    data: str
    resolution: int | tuple[int, ...]
    classes: int | None = None
    stem_stride: int | None = None
    strides: tuple[int, ...] | None = None
    width: float = 1.0
