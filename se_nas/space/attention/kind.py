"""What an entry of ATTENTION knows: everything of one kind of attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from se_nas.records.registry import Code
from se_nas.space.attention.schedule import Schedule
from se_nas.space.counts import Counts
from se_nas.space.vocabulary import Activation, Gate, Squeeze


@dataclass(frozen=True, kw_only=True)
class AttentionUnit:
    """One unit at its place, with every size that building or counting it needs.

    Attributes:
        channels, resolution: of the map that it scales, whose sides have `resolution` pixels.
        hidden: width of its hidden layer; 0 for a kind without a ratio.
        squeeze, activation, gate: as in `SESpec`.
    """

    kind: str
    channels: int
    hidden: int
    resolution: int
    ratio: float = 1.0
    squeeze: Squeeze = "mean"
    activation: Activation = "relu"
    gate: Gate = "hard_sigmoid"

    @property
    def looks(self) -> int:
        """At how many summaries of the channels its maps look: one an image, or one a position."""
        return self.resolution**2 if self.squeeze == "none" else 1

    @property
    def numbers(self) -> int:
        """Of the map that it scales, for one image."""
        return self.channels * self.resolution**2

    def summary(self, schedule: Schedule, x: int) -> int:
        """What its maps look at: the channels' means or maxima, or, where nothing is lost, a view of the map."""
        return x if self.squeeze == "none" else schedule.run(self.channels, x)


@dataclass(frozen=True, kw_only=True)
class AttentionKind:
    """One kind of attention: what files call it, and how it is built, counted, mixed, drawn and exported.

    Attributes:
        name: what files call it: "eca", or "cbam/16" where it has a ratio.
        title: what people call it.
        layer: makes the module of an AttentionUnit, which maps (B, C, H, W) to the same shape. Its `gates(x)`, where it
            has one, says by what x is scaled; without it the unit cannot be studied.
        counts: of a unit, closed form; None: the layer is run once and what it does is counted.
        schedule: appends a unit's operations on a value and returns the result; None: those that the layer runs.
        short: what its options begin with ("r16"); its name where empty.
        has_ratio: whether its gates come from a hidden layer, whose width a reduction ratio says.
        reads_squeeze: whether it looks at channels by the slot's `squeeze`.
        one_gate_a_position: whether all channels of a position have one gate.
        describe: a unit in plain words; None: its title and its channels.
        elastic: the `ElasticKind` that slices and mixes it with shared weights; None: each of its options has weights
            of its own, and is run and weighted by its probability.
        plain: the `PlainLayer` of a unit, source code that needs torch alone; None: there is no such source.
        tone: its colour on light and on dark paper; None: a neutral one.
    """

    name: str
    title: str
    layer: Code
    counts: Callable[[AttentionUnit], Counts] | None = None
    schedule: Callable[[AttentionUnit, Schedule, int], int] | None = None
    short: str = ""
    has_ratio: bool = False
    reads_squeeze: bool = False
    one_gate_a_position: bool = False
    describe: Callable[[AttentionUnit], str] | None = None
    elastic: Code | None = None
    plain: Code | None = None
    tone: tuple[str, str] | None = None

    @property
    def begins(self) -> str:
        """What the names of its options begin with."""
        return self.short or self.name

    def label(self, ratio: float) -> str:
        """The name of an option: "r16", "eca", "cbam16"."""
        if not self.has_ratio:
            return self.begins
        return f"{self.begins}{int(ratio) if ratio == int(ratio) else ratio}"

    def words(self, unit: AttentionUnit) -> str:
        """A unit in plain words."""
        if self.describe is not None:
            return self.describe(unit)
        if self.has_ratio:
            return f"{self.title} ratio {unit.ratio:g} ({unit.channels} to {unit.hidden} channels)"
        return f"{self.title} ({unit.channels} channels)"
