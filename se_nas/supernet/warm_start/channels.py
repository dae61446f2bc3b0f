"""The channels of a network, as far as their order is free: which tensors have them, and in which dimension.

Channels that are added to each other are one group, as those of a stage are, and those of a block's middle are one.
Where the order says something (grouped or mixed convolutions, padded shortcuts, concatenations, attention that looks
at neighbours, kinds of block of a user's own) a group is fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from se_nas.layers.network import numbered
from se_nas.records.registry import imported
from se_nas.space.attention import ATTENTION
from se_nas.space.block_plan import block_plan
from se_nas.space.blocks.plan import BlockPlan, Layer
from se_nas.space.specs import BlockSpec, HeadSpec, NetworkSpec
from se_nas.supernet.attention.kind import ElasticKind


class Use(NamedTuple):
    """A tensor of the network, by its name, and the dimension of it in which the channels are.

    Attributes:
        reads: whether it is the weight of a convolution or a linear layer that reads them.
    """

    tensor: str
    dim: int
    reads: bool = False


@dataclass(eq=False)
class Channels:
    """A group of channels.

    Attributes:
        fixed: whether their order must stay.
        gated: blocks, by number, the gates of whose SE scale them just before they are read.
    """

    uses: list[Use] = field(default_factory=list)
    fixed: bool = False
    gated: list[int] = field(default_factory=list)
    joined: Channels | None = None

    def root(self) -> Channels:
        """The group that it is part of by now."""
        return self if self.joined is None else self.joined.root()


def channel_groups(spec: NetworkSpec) -> list[Channels]:
    """Every group of a network's channels whose order is free."""
    walk = _Walk()
    walk.network(spec)
    groups = {id(group.root()): group.root() for group in walk.made}
    return [group for group in groups.values() if not group.fixed and group.uses]


class _Walk:
    """The network run on groups in place of maps."""

    def __init__(self) -> None:
        self.made: list[Channels] = []

    def network(self, spec: NetworkSpec) -> None:
        x = self._new(fixed=True)
        for number, conv in enumerate(spec.stem_convs, 1):
            x = self._convolution(f"stem.{numbered('conv', number)}", x, conv.bias)
            if conv.norm:
                self._norm(f"stem.{numbered('norm', number)}", x)
        for number, block in enumerate(spec.blocks):
            x = self._block(number, block, x)
        self._head(spec.head, x)

    def _new(self, fixed: bool = False) -> Channels:
        self.made.append(Channels(fixed=fixed))
        return self.made[-1]

    def _join(self, one: Channels, other: Channels) -> Channels:
        one, other = one.root(), other.root()
        if one is not other:
            other.joined = one
            one.uses += other.uses
            one.gated += other.gated
            one.fixed |= other.fixed
        return one

    def _fix(self, *groups: Channels) -> None:
        for group in groups:
            group.root().fixed = True

    def _use(self, group: Channels, *uses: Use) -> None:
        group.root().uses += uses

    def _norm(self, name: str, x: Channels) -> None:
        self._use(x, *(Use(f"{name}.{part}", 0) for part in ("weight", "bias", "running_mean", "running_var")))

    def _convolution(self, name: str, x: Channels, bias: bool) -> Channels:
        y = self._new()
        self._use(x, Use(f"{name}.weight", 1, reads=True))
        self._use(y, Use(f"{name}.weight", 0), *([Use(f"{name}.bias", 0)] if bias else []))
        return y

    def _layer(self, prefix: str, layer: Layer, x: Channels) -> Channels:
        name = f"{prefix}.{layer.name}"
        if layer.kernels or 1 < layer.groups < layer.in_channels or layer.groups > layer.out_channels:
            self._fix(x)
            return self._new(fixed=True)
        if layer.groups > 1:  # depthwise
            self._use(x, Use(f"{name}.weight", 0), *([Use(f"{name}.bias", 0)] if layer.bias else []))
            y = x
            if layer.out_channels != layer.in_channels:
                self._fix(x)
        else:
            y = self._convolution(name, x, layer.bias)
        if layer.norm:
            self._norm(f"{name}_norm", y)
        if layer.shuffle > 1:
            self._fix(y)
        return y

    def _block(self, number: int, block: BlockSpec, x: Channels) -> Channels:
        """As `layers.blocks.run_plan`, step by step."""
        plan, prefix = block_plan(block), f"blocks.{number}"
        if plan.entry_channels:
            self._norm(f"{prefix}.entry_norm", x)
        self._attend(number, block, "pre", x)
        y = x
        if plan.branches or plan.whole is not None:
            self._fix(x)
            y = self._new(fixed=True)
            for branch in plan.branches:
                self._branch(prefix, branch.layers, x)
        for layer in plan.body:
            y = self._layer(prefix, layer, y)
        self._attend(number, block, "inside", y)
        if plan.last is not None:
            y = self._layer(prefix, plan.last, y)
        self._attend(number, block, "standard", y)
        if plan.skip != "none":
            y = self._joined(prefix, number, block, plan, x, y)
        self._attend(number, block, "post", y)
        return y

    def _branch(self, prefix: str, layers: tuple[Layer, ...], x: Channels) -> None:
        y = x
        for layer in layers:
            y = self._layer(prefix, layer, y)
        self._fix(y)  # it is put beside the others

    def _joined(
        self, prefix: str, number: int, block: BlockSpec, plan: BlockPlan, x: Channels, y: Channels
    ) -> Channels:
        skip = x if plan.shortcut is None else self._layer(prefix, plan.shortcut, x)
        self._attend(number, block, "identity", skip)
        if plan.skip in ("pad", "pool"):
            self._fix(skip, y)
            return self._new(fixed=True)
        return self._join(skip, y)

    def _attend(self, number: int, block: BlockSpec, position: str, x: Channels) -> None:
        if block.se is None or block.se.position != position:
            return
        code = ATTENTION[block.se.kind].elastic
        kind: Any = ElasticKind if code is None else imported(code)
        dimensions: Mapping[str, str] | None = kind.dimensions
        if dimensions is None:
            self._fix(x)
            return
        hidden = self._new()
        for tensor, letters in dimensions.items():
            for dim, letter in enumerate(letters):
                group = {"C": x, "H": hidden}[letter]
                reads = letters == "CH" and letter == "H"
                self._use(group, Use(f"blocks.{number}.se.{tensor}", dim, reads))
        if position == "inside":
            x.root().gated.append(number)

    def _head(self, head: HeadSpec, x: Channels) -> None:
        if head.norm:
            self._norm("head.norm", x)
        if head.width:
            x = self._convolution("head.conv.conv", x, bias=False)
            self._norm("head.conv.norm", x)
        if head.flatten and head.pooled_resolution > 1:
            self._fix(x)
        for number in range(1, len(head.linears) + 1):
            x = self._convolution(f"head.{numbered('hidden', number)}", x, head.hidden_bias)
        self._use(x, Use("head.classifier.weight", 1, reads=True))
