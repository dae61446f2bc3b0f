"""Templates: the stem, stages, blocks and head of a space with their options, before they have a place in a network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

from se_nas.space.channels import round_channels
from se_nas.space.choice import Axis, Option
from se_nas.space.specs import (
    KINDS,
    Activation,
    AttentionKind,
    BlockForm,
    BlockKind,
    BlockSpec,
    Gate,
    Position,
    RatioOf,
    SESpec,
    Squeeze,
    StemPool,
    attention_label,
)

NO_SE = "none"


SEOption = float | str | None
"""One option of SE as a file has it: None for no SE, a ratio, or a relative: "eca", "ese", "spatial", "cbam/16"."""


def kind_and_ratio(option: float | str) -> tuple[AttentionKind, float]:
    """The kind of attention and the reduction ratio that an option stands for."""
    if not isinstance(option, str):
        return "se", option
    kind, _, ratio = option.partition("/")
    return cast(AttentionKind, kind), float(ratio or 1)


def se_label(option: SEOption) -> str:
    """The option's name: "none", "r16", "eca", "cbam16"."""
    return NO_SE if option is None else attention_label(*kind_and_ratio(option))


@dataclass(frozen=True)
class SETemplate:
    """SE options of a block, which share every other property."""

    options: tuple[SEOption, ...]
    ratio_of: RatioOf = "expanded"
    divisor: int = 8
    squeeze: Squeeze = "mean"
    activation: Activation = "relu"
    gate: Gate = "hard_sigmoid"
    position: Position = "inside"

    def spec(self, option: SEOption) -> SESpec | None:
        """The concrete unit for one option."""
        if option is None:
            return None
        kind, ratio = kind_and_ratio(option)
        return SESpec(ratio, self.ratio_of, self.divisor, self.squeeze, self.activation, self.gate, self.position, kind)


@dataclass(frozen=True)
class OpTemplate:
    """One kind of block a stage offers, with the options of its parts."""

    kind: BlockKind
    name: str
    kernels: tuple[int, ...] = (3,)
    expansions: tuple[float, ...] = (1.0,)
    se: SETemplate = SETemplate((None,))
    activation: Activation = "relu"
    form: BlockForm = field(default=BlockForm(), metadata={"since": 2})

    def expanded(self, block_input: int, block_output: int, expansion: Option, channel_divisor: int) -> int:
        """Channels of the kxk convolution for one expansion option, in a block of these channel counts."""
        reference = block_output if KINDS[self.kind].expansion_of == "block_output" else block_input
        if expansion == 1:
            return reference
        return round_channels(reference * float(expansion), channel_divisor)

    def at(self, in_channels: int, out_channels: int, stride: int, resolution: int, channel_divisor: int) -> SlotOp:
        """The op at one place, with every option and no choice."""
        se = Axis(None, tuple(map(se_label, self.se.options)))
        kernel, expansion = Axis(None, self.kernels), Axis(None, self.expansions)
        return SlotOp(self, in_channels, out_channels, stride, resolution, channel_divisor, kernel, expansion, se)


@dataclass(frozen=True)
class StageTemplate:
    """Blocks of one output width; the first has the stage's stride, `depths` says how many there may be.

    `share` names what is chosen once for the whole stage instead of per block: of "kernel", "expansion", "se", "block".
    """

    width: int
    stride: int
    depths: tuple[int, ...]
    ops: tuple[OpTemplate, ...]
    share: tuple[str, ...] = ()


@dataclass(frozen=True)
class StemTemplate:
    """The first convolution, and those of the stem that come after it (`then`); see `ConvSpec`."""

    width: int
    kernel: int = 3
    stride: int = 1
    activation: Activation = "relu"
    pool: StemPool = field(default=False, metadata={"since": 2})
    bias: bool = field(default=False, metadata={"since": 2})
    norm: bool = field(default=True, metadata={"since": 2})
    then: tuple[StemTemplate, ...] = field(default=(), metadata={"since": 2})


@dataclass(frozen=True)
class HeadTemplate:
    """What follows the last block; see `HeadSpec`."""

    width: int = 0
    hidden: int = 0
    activation: Activation = "relu"
    dropout: float = 0.0
    norm: bool = field(default=False, metadata={"since": 2})
    max_pool: bool = field(default=False, metadata={"since": 2})
    flatten: bool = field(default=False, metadata={"since": 2})
    hidden_layers: int = field(default=1, metadata={"since": 2})


@dataclass(frozen=True)
class SlotOp:
    """One kind of block at one place, with the choices that shape it."""

    template: OpTemplate
    in_channels: int
    out_channels: int
    stride: int
    resolution: int
    channel_divisor: int
    kernel: Axis
    expansion: Axis
    se: Axis

    def expanded(self, expansion: Option) -> int:
        """Channels of the kxk convolution for one expansion option."""
        return self.template.expanded(self.in_channels, self.out_channels, expansion, self.channel_divisor)

    def se_spec(self, label: Option) -> SESpec | None:
        """The SE unit that an option's name stands for."""
        options = {se_label(option): option for option in self.template.se.options}
        return self.template.se.spec(options[str(label)])

    def block(self, kernel: Option, expansion: Option, se: Option) -> BlockSpec:
        """The concrete block for one option of each axis."""
        block = BlockSpec(
            kind=self.template.kind,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            stride=self.stride,
            resolution=self.resolution,
            kernel=int(kernel),
            expanded=self.expanded(expansion),
            activation=self.template.activation,
            se=self.se_spec(se),
            form=self.template.form,
        )
        nowhere = block.se is not None and block.se.position == "identity" and not block.has_sum
        return replace(block, se=None) if nowhere else block

    @property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """The kernel, expansion and SE axes, in the order `block` takes them."""
        return (self.kernel, self.expansion, self.se)


@dataclass(frozen=True)
class Scaling:
    """What changes for one data set; None keeps what the space has.

    Attributes:
        data: name of the data set.
        stem_stride: of the stem's first convolution.
        resolution: side of the square input images, pixels.
        strides: one for each stage.
        width: multiplies the channels of stem, stages and head convolution (not of the head's hidden layer).
    """

    data: str
    resolution: int
    classes: int | None = None
    stem_stride: int | None = None
    strides: tuple[int, ...] | None = None
    width: float = 1.0
