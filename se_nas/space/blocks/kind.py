"""What an entry of BLOCKS knows: everything of one kind of block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from se_nas.errors import ConfigError
from se_nas.records.registry import Code
from se_nas.space.blocks.plan import BlockPlan
from se_nas.space.blocks.shape import FORM, BlockShape
from se_nas.space.counts import Counts

#: What a block with a convolution has; "activation", "expansion" and the fields of `BlockForm` come on top.
KERNEL_AND_SE = frozenset({"kernel", "se"})
#: With an activation of its own, which may be a choice.
OF_CONVOLUTIONS = KERNEL_AND_SE | {"activation"}

#: What the options that only one kind has may not be called.
RESERVED = frozenset({"kind", "name", "kernel", "expansion", "activation", "se", "form", *FORM})
_MARK = 7  # letters that a box of a drawing has room for


def _side_by_side(side: int) -> str:
    return f"{side}\u00d7{side}"


def _no_fault(shape: BlockShape) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class BlockKind:
    """One kind of block: its options, and how it is built, counted, sliced, mixed, drawn and exported.

    A kind has a `plan`, from which all of that follows, or a `layer`: a module of a user's own, of which each
    combination of options has weights of its own and which a mixture runs and weights by its probability.

    Attributes:
        name: what files call it.
        title: what people call it.
        options: what may be given: "kernel", "se", "expansion", "activation", and the fields of `BlockForm`. Without
            "activation" a block has its stage's, which must be one then.
        expansion_of: whose channels its expansion ratio multiplies.
        plan: the plan of a block of this kind.
        layer: makes the module of a BlockShape, which maps (B, in_channels, H, W) to (B, out_channels, H / stride,
            W / stride), rounded up.
        own_options: a pydantic model of options that only this kind has, each with a default; `BlockShape.own_options`
            gives them to the layer. Options of several values, say a choice between them, are blocks of their own name.
        counts: of a block with a layer, closed form; None: the layer is run once and what it does is counted.
        plain: the `PlainLayer` of a block with a layer, source code that needs torch alone; None: there is none.
        middle: what the channels of its kxk convolution are called, where they are its own.
        one_expansion: whether its expansion is no choice, because a prefix of its channels is no block of its kind.
        one_width: whether the channels of its input and output are no choice, for the same reason.
        concatenates: whether its input is put beside its branch, not added, where it changes the shape.
        passes_through: whether it is nothing but a way through, with no activation and, where the shape stays, no part.
        fault: what its sizes must be and are not; None for a sound one.
        describe: a block in plain words without its sizes; None: its title, kernel and so on.
    """

    name: str
    title: str
    options: frozenset[str] = KERNEL_AND_SE
    expansion_of: Literal["block_input", "block_output"] = "block_input"
    plan: Callable[[BlockShape], BlockPlan] | None = None
    layer: Code | None = None
    own_options: type[BaseModel] | None = None
    counts: Callable[[BlockShape], Counts] | None = None
    plain: Code | None = None
    middle: str = ""
    one_expansion: bool = False
    one_width: bool = False
    concatenates: bool = False
    passes_through: bool = False
    fault: Callable[[BlockShape], str | None] = _no_fault
    describe: Callable[[BlockShape], str] | None = None

    def __post_init__(self) -> None:
        if (self.plan is None) == (self.layer is None):
            raise ConfigError(f"block {self.name}", ["plan: must be given, or a layer, and not both"])
        own = self.own_options.model_fields if self.own_options is not None else {}
        if taken := sorted(own.keys() & RESERVED):
            raise ConfigError(f"block {self.name}", [f"own_options: {taken[0]} must have a name of its own"])
        if bare := sorted(name for name, part in own.items() if part.is_required()):
            raise ConfigError(f"block {self.name}", [f"own_options: {bare[0]} must have a default"])

    def plan_of(self, shape: BlockShape) -> BlockPlan:
        """The plan of a block of this kind."""
        return BlockPlan(whole=shape.without_attention) if self.plan is None else self.plan(shape)

    def mark(self, shape: BlockShape) -> str:
        """What a drawing writes in its box: its kernel, or what else it is."""
        if self.plan_of(shape).is_empty:
            return "id"
        if self.passes_through:
            return _side_by_side(1)
        return _side_by_side(shape.kernel) if "kernel" in self.options else self.title[:_MARK]

    def words(self, shape: BlockShape, change: str) -> str:
        """A block in plain words.

        Args:
            change: its channels, resolution and stride in plain words.
        """
        if self.describe is not None:
            return f"{self.describe(shape)}, {change}"
        kernel = f" kernel {shape.kernel}" if "kernel" in self.options else ""
        inner = f"{shape.expanded} {self.middle} channels, " if self.middle else ""
        variants = "".join(f", {part}" for part in shape.form.words())
        return f"{self.title}{kernel}, {inner}{change}, {shape.activation}{variants}"
