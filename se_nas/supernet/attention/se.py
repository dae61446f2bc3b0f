"""SE: ratios hold a prefix of the hidden units of one pair of linear maps, and are mixed as gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from torch import Tensor, nn

from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.attention.kind import ElasticKind, Units
from se_nas.supernet.mixed_gate import UnitFunctions
from se_nas.supernet.mixture import expected, hidden_masks
from se_nas.supernet.two_linears import TwoLinears


class ElasticTwoLinears(ElasticKind):
    """A kind whose options are prefixes of the hidden units between two linear maps."""

    opening: ClassVar[tuple[str, ...]] = ("expand",)
    dimensions: ClassVar[Mapping[str, str] | None] = {
        "reduce.weight": "HC",
        "reduce.bias": "H",
        "expand.weight": "CH",
        "expand.bias": "C",
    }
    masks: Tensor

    def __init__(self, units: Units, largest: AttentionUnit, functions: UnitFunctions) -> None:
        super().__init__(units, largest, functions)
        widths = [[unit.hidden for unit in row] for row in units]
        #: The hidden units that each option has at the most.
        self.widths = [max(row) for row in widths]
        self.register_buffer("masks", hidden_masks(widths, largest.hidden), persistent=False)

    def cuts(self, unit: AttentionUnit) -> dict[str, tuple[slice, ...]]:
        """See `ElasticKind`."""
        channels, hidden = slice(unit.channels), slice(unit.hidden)
        return {"reduce": (hidden, channels), "expand": (channels, hidden)}

    def tensors(self, shared: nn.Module, sizes: Tensor) -> tuple[Tensor, ...]:
        """See `ElasticKind`; those of `TwoLinears`."""
        reduce, expand = cast(nn.Linear, shared.reduce), cast(nn.Linear, shared.expand)
        return expected(self.masks, sizes), reduce.weight, reduce.bias, expand.weight, expand.bias


class ElasticSE(ElasticTwoLinears):
    """SE of every ratio."""

    def __init__(self, units: Units, largest: AttentionUnit, functions: UnitFunctions) -> None:
        super().__init__(units, largest, functions)
        self.part = TwoLinears(self.widths, largest.channels)
