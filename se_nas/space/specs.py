"""NetworkSpec, the hinge: a fully concrete network that construction, counting, latency and export all read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from se_nas.space.channels import eca_kernel, round_channels

Activation = Literal["relu", "relu6", "silu", "hard_swish", "identity"]
Gate = Literal["sigmoid", "hard_sigmoid", "tanh", "relu"]
Squeeze = Literal["mean", "max", "none"]
AttentionKind = Literal["se", "eca", "ese", "cbam", "spatial"]
RatioOf = Literal["block_input", "expanded", "block_output"]
Position = Literal["inside", "standard", "pre", "post", "identity"]
BlockKind = Literal[
    "mbconv", "fused_mbconv", "bottleneck", "basic", "conv", "separable", "shuffle", "inception", "identity"
]
Shortcut = Literal["projection", "pad", "conv3x3"]
StrideAt = Literal["kxk", "1x1"]
Pool = Literal["mean", "max"]
StemPool = Literal[False, True, "ceil"]


#: Side of spatial attention's kernel (CBAM, arXiv 1807.06521, eq. 3).
SPATIAL_KERNEL = 7
#: Kinds of attention whose gates come from a hidden layer, so that they have a ratio.
WITH_HIDDEN: tuple[AttentionKind, ...] = ("se", "cbam")
#: Kinds that look at channels by the slot's `squeeze`; CBAM has its own, the mean and the maximum.
WITH_SQUEEZE: tuple[AttentionKind, ...] = ("se", "eca", "ese")

_POSITION_WORDS = {"pre": " before the block", "post": " after the sum", "identity": " on the shortcut"}
_SQUEEZE_WORDS = {"max": " of maxima", "none": " at every position"}


@dataclass(frozen=True)
class Kind:
    """What a search space may say of a kind of block.

    Attributes:
        words: its name in plain words.
        expansion_of: whose channels its expansion ratio multiplies; None: it has no options of its own.
        options: what may be given beside kernel and SE: "expansion", and the fields of its `BlockForm`.
        middle: what the channels of its kxk convolution are called, where they are its own.
    """

    words: str
    expansion_of: Literal["block_input", "block_output"] | None = None
    options: frozenset[str] = frozenset()
    middle: str = ""


_RESIDUAL = frozenset({"expansion", "preactivation", "shortcut"})
KINDS: dict[BlockKind, Kind] = {
    "mbconv": Kind("MBConv", "block_input", frozenset({"expansion"}), "expanded"),
    "fused_mbconv": Kind("fused MBConv", "block_input", frozenset({"expansion"}), "expanded"),
    "bottleneck": Kind("bottleneck", "block_output", _RESIDUAL | {"group_width", "stride_at", "entry"}, "middle"),
    "basic": Kind("basic block", "block_output", _RESIDUAL, "middle"),
    "conv": Kind("convolution", "block_output"),
    "separable": Kind("separable convolution", "block_input"),
    "shuffle": Kind("ShuffleNet unit", "block_output", frozenset({"expansion", "groups", "dense_reduction"}), "middle"),
    "inception": Kind("Inception module", "block_output", frozenset({"branches", "pool", "pool_width"})),
    "identity": Kind("identity"),
}
"""Every kind of block."""


@dataclass(frozen=True)
class SESpec:
    """A Squeeze-and-Excitation unit (Hu et al., arXiv 1709.01507), or a relative of it in the same place.

    Attributes:
        ratio: reduction ratio r, >= 1; the hidden layer has (reference channels) / r units. 1 for a kind without one.
        ratio_of: what r divides: the block's input (EfficientNet), its expanded channels (MobileNetV3) or its output
            (SE-ResNet).
        divisor: the hidden width is rounded to a multiple of it (see `round_channels`).
        squeeze: how a channel is summarised over its positions; the paper's global mean, the maximum, or "none", the
            paper's control NoSqueeze: the same maps at every position. CBAM and spatial attention do not read it.
        activation: between the two linear maps.
        gate: what makes every gate of the unit.
        position: as in the paper's figure 5. "inside" after the block's kxk convolution, "standard" on what is added in
            the sum, "pre" on its input (not on the shortcut), "post" after the sum and the activation that may follow,
            "identity" on the shortcut. Without a sum, "post" is "standard", and "identity" is no place for a unit.
        kind: "se"; "eca" (arXiv 1910.03151), a convolution over neighbouring channels in place of the two linear maps;
            "ese" (arXiv 1911.06667), one linear map; "cbam" (arXiv 1807.06521), channel attention and then spatial
            attention; "spatial", the latter alone.
    """

    ratio: float
    ratio_of: RatioOf = "expanded"
    divisor: int = 8
    squeeze: Squeeze = "mean"
    activation: Activation = "relu"
    gate: Gate = "hard_sigmoid"
    position: Position = "inside"
    kind: AttentionKind = "se"

    @property
    def label(self) -> str:
        """Its name among the options of a choice: "r16", "eca", "cbam16"."""
        return attention_label(self.kind, self.ratio)

    def hidden(self, block_input: int, expanded: int, block_output: int) -> int:
        """Width of the hidden layer for a block of these channel counts; 0 for a kind without one."""
        if self.kind not in WITH_HIDDEN:
            return 0
        reference = {"block_input": block_input, "expanded": expanded, "block_output": block_output}[self.ratio_of]
        return round_channels(reference / self.ratio, self.divisor)

    def built(self, hidden: int) -> tuple[object, ...]:
        """What is built with a hidden layer of this width: two units of which this is equal are one unit."""
        squeeze = self.squeeze if self.kind in WITH_SQUEEZE else None
        activation = self.activation if self.kind in WITH_HIDDEN else None
        return (self.kind, hidden, squeeze, activation, self.gate, self.position)

    def words(self, channels: int, hidden: int) -> str:
        """The unit in plain words."""
        maps = {
            "se": f"SE ratio {self.ratio:g} ({channels} to {hidden} channels)",
            "eca": f"ECA of {eca_kernel(channels)} neighbours ({channels} channels)",
            "ese": f"effective SE ({channels} channels)",
            "cbam": f"CBAM ratio {self.ratio:g} ({channels} to {hidden} channels)",
            "spatial": "spatial attention",
        }
        squeeze = _SQUEEZE_WORDS.get(self.squeeze, "") if self.kind in WITH_SQUEEZE else ""
        return maps[self.kind] + squeeze + _POSITION_WORDS.get(self.position, "")


def attention_label(kind: AttentionKind, ratio: float) -> str:
    """The name of an option: "r16", "eca", "cbam16"."""
    if kind not in WITH_HIDDEN:
        return kind
    return f"{'r' if kind == 'se' else kind}{int(ratio) if ratio == int(ratio) else ratio}"


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class BlockForm:
    """The variants of a kind of block; see `KINDS` for which kinds have which.

    Attributes:
        group_width: channels in each group of the kxk convolution (ResNeXt, arXiv 1611.05431); 0 for one group.
        entry: share of the kxk convolution's channels that the 1x1 before it puts out; SENet-154 has half of them.
        stride_at: which convolution has the stride: the kxk, or the 1x1 before it as in the first ResNets.
        shortcut: what is added where the shape changes: a 1x1 convolution, a 3x3 one (SENet-154), or the input
            subsampled with zeros for new channels (option A of arXiv 1512.03385).
        preactivation: norm and activation before each convolution (arXiv 1603.05027).
        groups: groups of the 1x1 convolutions (ShuffleNet, arXiv 1707.01083).
        dense_reduction: whether the first of them has one group all the same, as ShuffleNet's first unit.
        branches: channels of the convolutions of each branch of an Inception module: the first is 1x1, those after it
            are kxk, and the last has the stride.
        pool, pool_width: one branch more, a 3x3 pooling and a 1x1 convolution to so many channels (0: none).
    """

    group_width: int = 0
    entry: float = 1.0
    stride_at: StrideAt = "kxk"
    shortcut: Shortcut = "projection"
    preactivation: bool = False
    groups: int = 1
    dense_reduction: bool = False
    branches: tuple[tuple[int, ...], ...] = ()
    pool: Pool = "mean"
    pool_width: int = 0

    def words(self) -> list[str]:
        """What differs from the kind's plain form, in plain words."""
        named = {
            f"groups of {self.group_width} channels": self.group_width > 0,
            f"1x1 convolution to {self.entry:g} of them": self.entry != 1,
            "stride in the 1x1 convolution": self.stride_at == "1x1",
            "padded shortcut": self.shortcut == "pad",
            "3x3 shortcut": self.shortcut == "conv3x3",
            "pre-activation": self.preactivation,
            f"{self.groups} groups": self.groups > 1,
            "first convolution dense": self.dense_reduction,
            f"branches of {', '.join('-'.join(map(str, branch)) for branch in self.branches)}": bool(self.branches),
            f"{self.pool} pooling to {self.pool_width or 'all its'} channels": bool(self.branches),
        }
        return [words for words, true in named.items() if true]


@dataclass(frozen=True)
class BlockSpec:
    """One block, with its channels and the side of its input in pixels; `block_plan` has its convolutions.

    Attributes:
        kind: "mbconv" (arXiv 1801.04381; no expansion convolution where `expanded == in_channels`), "fused_mbconv"
            (arXiv 2104.00298), "bottleneck" and "basic" (arXiv 1512.03385, figure 5), "conv" (VGG, arXiv 1409.1556: a
            stride is a 2x2 max-pooling before it), "separable" (MobileNet, arXiv 1704.04861), "shuffle" (ShuffleNet,
            arXiv 1707.01083), "inception" (arXiv 1502.03167, figure 5) or "identity" (nothing, or a 1x1 convolution
            with norm where the shape changes).
        expanded: channels that the kxk convolution puts out; equal to `in_channels` for identity.
        se: None for no SE.
        form: the kind's variants.
    """

    kind: BlockKind
    in_channels: int
    out_channels: int
    stride: int
    resolution: int
    kernel: int
    expanded: int
    activation: Activation
    se: SESpec | None = None
    form: BlockForm = BlockForm()

    @property
    def out_resolution(self) -> int:
        """Side of the output in pixels."""
        return -(-self.resolution // self.stride)

    @property
    def branch_channels(self) -> int:
        """Channels of the block's own branch, which are not all of its output where the input is put beside it."""
        beside = self.kind == "shuffle" and not self.keeps_shape
        return self.out_channels - self.in_channels if beside else self.out_channels

    @property
    def keeps_shape(self) -> bool:
        """Whether output and input have one shape, so that a skip connection is possible."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def has_sum(self) -> bool:
        """Whether the block joins a shortcut to its branch, the place of SE's position "identity"."""
        if self.kind in ("mbconv", "fused_mbconv"):
            return self.keeps_shape
        return self.kind in ("bottleneck", "basic", "shuffle")

    @property
    def se_channels(self) -> int:
        """Channels that the SE unit scales (0 without SE)."""
        if self.se is None:
            return 0
        return {
            "inside": self.expanded,
            "standard": self.branch_channels,
            "pre": self.in_channels,
            "identity": self.in_channels if self.kind == "shuffle" else self.out_channels,
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
    def se_built(self) -> tuple[object, ...] | None:
        """What tells its SE unit from others (None without SE); see `SESpec.built`."""
        return None if self.se is None else self.se.built(self.se_hidden)

    def words(self) -> str:
        """The block in plain words."""
        change = f"{self.in_channels} to {self.out_channels} channels at {self.resolution}x{self.resolution}"
        change += f", stride {self.stride}" if self.stride > 1 else ""
        if self.kind == "identity":
            return f"identity, {change}" if self.keeps_shape else f"1x1 convolution, {change}"
        kind = KINDS[self.kind]
        inner = f"{self.expanded} {kind.middle} channels, " if kind.middle else ""
        variants = "".join(f", {part}" for part in self.form.words())
        text = f"{kind.words} kernel {self.kernel}, {inner}{change}, {self.activation}{variants}"
        if self.se is None:
            return f"{text}, no SE"
        return f"{text}, {self.se.words(self.se_channels, self.se_hidden)}"


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; `se_nas.space.architecture_file.network_from_dict` reads it back."""
        return asdict(self)
