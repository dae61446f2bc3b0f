"""NetworkSpec, the hinge: a fully concrete network that construction, counting, latency and export all read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from se_nas.records.bounds import MOST_CHANNELS, size_within
from se_nas.space.attention import ATTENTION, OF_BARE_RATIO
from se_nas.space.attention.kind import AttentionUnit
from se_nas.space.blocks import BLOCKS
from se_nas.space.blocks.plan import BlockPlan
from se_nas.space.blocks.shape import BlockForm, BlockShape
from se_nas.space.channels import round_channels
from se_nas.space.vocabulary import Activation, Gate, Position, RatioOf, Squeeze, StemPool

_POSITION_WORDS = {"pre": " before the block", "post": " after the sum", "identity": " on the shortcut"}
_SQUEEZE_WORDS = {"max": " of maxima", "none": " at every position"}


def place_in(plan: BlockPlan, position: Position) -> Position | None:
    """The first name that a position of SE has in blocks of a plan; None where it is no place for a unit."""
    if position == "identity" and plan.skip == "none":
        return None
    nothing_after = plan.last is None if position == "inside" else plan.skip == "none"
    return "standard" if position in ("inside", "post") and nothing_after else position


@dataclass(frozen=True, kw_only=True)
class SEHidden:
    """How wide the hidden layer of SE is for a ratio, which all options at one place share.

    Attributes:
        ratio_of: what a reduction ratio divides: the block's input (EfficientNet), its expanded channels (MobileNetV3)
            or its output (SE-ResNet).
        divisor: the hidden width is rounded to a multiple of it (see `round_channels`).
    """

    ratio_of: RatioOf = "expanded"
    divisor: Annotated[int, Field(ge=1, strict=True), size_within(MOST_CHANNELS)] = 8


@dataclass(frozen=True, kw_only=True)
class SESpec(SEHidden):
    """A Squeeze-and-Excitation unit (Hu et al., arXiv 1709.01507), or a relative of it in the same place.

    Attributes:
        squeeze: how a channel is summarised over its positions; the paper's global mean, the maximum, or "none", the
            paper's control NoSqueeze: the same maps at every position. Some kinds do not read it.
        activation: what stands between the two linear maps.
        gate: what makes every gate of the unit.
        position: where SE stands, as in the paper's figure 5: "inside" after the block's kxk convolution,
            "standard" on what is added in the sum, "pre" on its input (not on the shortcut), "post" after the sum
            and the activation that may follow, "identity" on the shortcut. Without a sum, "post" is "standard", and
            "identity" is no place for a unit.
        ratio: reduction ratio r, >= 1; the hidden layer has (reference channels) / r units. 1 for a kind without one.
        kind: a name in ATTENTION.
    """

    squeeze: Squeeze = "mean"
    activation: Activation = "relu"
    gate: Gate = "hard_sigmoid"
    position: Position = "inside"
    ratio: float
    kind: Annotated[str, AfterValidator(ATTENTION.checked)] = OF_BARE_RATIO.name

    @property
    def label(self) -> str:
        """Its name among the options of a choice: "r16", "eca", "cbam16"."""
        return ATTENTION[self.kind].label(self.ratio)

    def hidden(self, block_input: int, expanded: int, block_output: int) -> int:
        """Width of the hidden layer for a block of these channel counts; 0 for a kind without one."""
        if not ATTENTION[self.kind].has_ratio:
            return 0
        reference = {"block_input": block_input, "expanded": expanded, "block_output": block_output}[self.ratio_of]
        return round_channels(reference / self.ratio, self.divisor)

    def reads(self, name: str) -> bool:
        """Whether a unit of its kind makes use of "squeeze", "activation", "gate" or "position"."""
        kind = ATTENTION[self.kind]
        return {"squeeze": kind.reads_squeeze, "activation": kind.has_ratio}.get(name, True)

    def unit(self, channels: int, hidden: int, resolution: int) -> AttentionUnit:
        """The unit on a map of this size, with a hidden layer of this width."""
        return AttentionUnit(
            kind=self.kind,
            channels=channels,
            hidden=hidden,
            resolution=resolution,
            ratio=self.ratio,
            squeeze=self.squeeze,
            activation=self.activation,
            gate=self.gate,
        )

    def words(self, unit: AttentionUnit) -> str:
        """The unit in plain words."""
        kind = ATTENTION[self.kind]
        squeeze = _SQUEEZE_WORDS.get(self.squeeze, "") if kind.reads_squeeze else ""
        return kind.words(unit) + squeeze + _POSITION_WORDS.get(self.position, "")


@dataclass(frozen=True, kw_only=True)
class ConvSpec:
    """A convolution of the stem, batch norm, activation; `resolution` is the side of its input in pixels.

    With `pool` a 3x3 max-pooling of stride 2 follows, as in ResNet (arXiv 1512.03385, table 1); "ceil" is that of
    Caffe's networks, whose windows start at the first pixel and may reach beyond the last.
    """

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    activation: Activation
    resolution: int
    pool: StemPool = False
    bias: bool = False
    norm: bool = True

    @property
    def conv_resolution(self) -> int:
        """Side of the convolution's output in pixels, before any pooling."""
        return -(-self.resolution // self.stride)

    @property
    def reduction(self) -> int:
        """Input pixels per output pixel, along one side."""
        return self.stride * (2 if self.pool else 1)

    @property
    def out_resolution(self) -> int:
        """Side of the output in pixels."""
        side = self.conv_resolution
        if not self.pool:
            return side
        return max(1, side // 2) if self.pool == "ceil" else -(-side // 2)


@dataclass(frozen=True, kw_only=True)
class BlockSpec(BlockShape):
    """One block, of a kind in BLOCKS; `block_plan` has its convolutions. `se` is None for no SE."""

    kind: Annotated[str, AfterValidator(BLOCKS.checked)]
    se: SESpec | None = None

    @property
    def branch_channels(self) -> int:
        """Channels of the block's own branch, which are not all of its output where the input is put beside it."""
        return self.beside_input if BLOCKS[self.kind].concatenates else self.out_channels

    @property
    def has_sum(self) -> bool:
        """Whether the block joins a shortcut to its branch, the place of SE's position "identity"."""
        return BLOCKS[self.kind].plan_of(self).skip != "none"

    @property
    def se_channels(self) -> int:
        """Channels that the SE unit scales (0 without SE)."""
        if self.se is None:
            return 0
        kind = BLOCKS[self.kind]
        return {
            "inside": self.out_channels if kind.plan is None else self.expanded,
            "standard": self.branch_channels,
            "pre": self.in_channels,
            "identity": self.in_channels if kind.concatenates else self.out_channels,
            "post": self.out_channels,
        }[self.se.position]

    @property
    def se_resolution(self) -> int:
        """Side in pixels of the map that the SE unit scales."""
        before = self.se is not None and self.se.position == "pre"
        return self.resolution if before else self.out_resolution

    @property
    def se_hidden(self) -> int:
        """Hidden width of the SE unit (0 without SE)."""
        return 0 if self.se is None else self.se.hidden(self.in_channels, self.expanded, self.out_channels)

    @property
    def se_place(self) -> Position | None:
        """Where its SE stands, by the first name of that place in this block; None without SE."""
        if self.se is None:
            return None
        return place_in(BLOCKS[self.kind].plan_of(self), self.se.position)

    @property
    def se_built(self) -> tuple[object, ...] | None:
        """What tells its SE unit from others (None without SE): two of which this is equal are one unit."""
        place, se = self.se_place, self.se
        if place is None or se is None:
            return None
        squeeze, activation = (getattr(se, name) if se.reads(name) else None for name in ("squeeze", "activation"))
        return (se.kind, self.se_hidden, squeeze, activation, se.gate, place)

    @property
    def distinct(self) -> tuple[object, ...]:
        """What tells it from the other blocks of its kind at its place: SE ratios of one hidden width are one."""
        return (self.without_attention, self.se_built)

    @property
    def unit(self) -> AttentionUnit | None:
        """Its attention with every size (None without)."""
        return None if self.se is None else self.se.unit(self.se_channels, self.se_hidden, self.se_resolution)

    def words(self) -> str:
        """The block in plain words."""
        kind = BLOCKS[self.kind]
        change = f"{self.in_channels} to {self.out_channels} channels at {self.resolution}x{self.resolution}"
        change += f", stride {self.stride}" if self.stride > 1 else ""
        text = kind.words(self, change)
        if self.se is not None and self.unit is not None:
            return f"{text}, {self.se.words(self.unit)}"
        return f"{text}, no SE" if "se" in kind.options else text


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """Optional 1x1 convolution to `width` channels, global mean, optional linear layers to `hidden`, classifier.

    `width` 0 means no convolution and `hidden` 0 no linear layer; MobileNetV3 has both, EfficientNet the first.

    Attributes:
        dropout: before the classifier and between linear layers, in [0, 1).
        resolution: side in pixels of the last block's output.
        norm: whether a norm with activation comes first, as after pre-activation blocks (arXiv 1603.05027).
        max_pool: whether a 2x2 max-pooling of stride 2 follows, as in VGG (arXiv 1409.1556).
        flatten: whether the linear layers read every position instead of the mean, as in VGG.
        hidden_layers: linear layers to `hidden`, each with an activation; VGG has two.
        hidden_bias, classifier_bias: whether these and the classifier have a bias.
    """

    in_channels: int
    width: int
    hidden: int
    activation: Activation
    dropout: float
    classes: int
    resolution: int
    norm: bool = False
    max_pool: bool = False
    flatten: bool = False
    hidden_layers: int = 1
    hidden_bias: bool = field(default=True, metadata={"since": 4})
    classifier_bias: bool = field(default=True, metadata={"since": 4})

    @property
    def pooled_resolution(self) -> int:
        """Side in pixels of the map that is averaged or flattened."""
        return -(-self.resolution // 2) if self.max_pool else self.resolution

    @property
    def pooled(self) -> int:
        """Inputs of the first linear layer."""
        channels = self.width or self.in_channels
        return channels * self.pooled_resolution**2 if self.flatten else channels

    @property
    def features(self) -> int:
        """Inputs of the classifier."""
        return self.hidden or self.pooled

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of each linear layer before the classifier."""
        widths = (self.pooled, *[self.hidden] * (self.hidden_layers if self.hidden else 0))
        return tuple(pairwise(widths))

    @property
    def linear_layers(self) -> tuple[tuple[int, int, bool], ...]:
        """Inputs and outputs of every linear layer, the classifier last, and whether it has a bias."""
        hidden = ((*ends, self.hidden_bias) for ends in self.linears)
        return (*hidden, (self.features, self.classes, self.classifier_bias))


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A whole network: square images of `resolution` pixels and `in_channels` channels to `head.classes` logits.

    `stem_more` has the convolutions of the stem after its first.
    """

    resolution: int
    in_channels: int
    stem: ConvSpec
    blocks: tuple[BlockSpec, ...]
    head: HeadSpec
    stem_more: tuple[ConvSpec, ...] = ()

    @property
    def stem_convs(self) -> tuple[ConvSpec, ...]:
        """Every convolution of the stem."""
        return (self.stem, *self.stem_more)

    @property
    def stages(self) -> tuple[tuple[BlockSpec, ...], ...]:
        """The blocks in rows, in each of which all but the first keep their shape."""
        rows: list[tuple[BlockSpec, ...]] = []
        for block in self.blocks:
            if rows and block.keeps_shape:
                rows[-1] = (*rows[-1], block)
            else:
                rows.append((block,))
        return tuple(rows)

    def to_dict(self) -> dict[str, object]:
        """JSON-able form; `se_nas.space.architecture_file.network_from_dict` reads it back."""
        return asdict(self, dict_factory=_without_what_came_late)


_LATE = {part.name: part.default for model in (BlockForm, HeadSpec) for part in fields(model) if part.metadata}


def _without_what_came_late(values: list[tuple[str, Any]]) -> dict[str, object]:
    """Without what is late (`since` in its field's metadata) and at its default: older networks are as they were."""
    return {name: value for name, value in values if name not in _LATE or value != _LATE[name]}
