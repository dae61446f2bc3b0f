"""How one kind of attention runs in a supernet: sliced for one option, or mixed over all of its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from se_nas.layers.activations import GATES
from se_nas.layers.attention import build_attention
from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.mixed_gate import GatePart, UnitFunctions

Units = Sequence[Sequence[AttentionUnit]]
"""The unit of each option of a kind (rows) beside each expansion of the block (columns)."""


@dataclass(frozen=True)
class PlaceMixture:
    """What the options of all kinds at a place are mixed by, beside their own probabilities.

    Attributes:
        sizes: the probabilities of the block's sizes.
        mask: (C,) of the channels that are present, where the sizes decide on that; the others are 0 in the result.
        functions: the probabilities of squeezes, activations and gates, by part (see FUNCTIONS), where there are
            several.
    """

    sizes: Tensor
    mask: Tensor | None = None
    functions: Mapping[str, Tensor] = field(default_factory=dict)


class ElasticKind(nn.Module):
    """The options of one kind at one place, run on the layers that the kinds there share.

    The layers are those of the kind's plain unit at its largest, under their names there; two kinds with a layer of one
    name share it. A subclass says how an option cuts them, and how its options are mixed: either `part` and `tensors`,
    for a kind that scales channels alone and is mixed with others in one pass over the map, or `mixed`.

    Args:
        units: of its options, with the first squeeze, activation and gate.
        largest: the unit whose layers there are, wide enough for every kind of the place.
        functions: the squeezes, activations and gates that the units choose among.
    """

    opening: ClassVar[tuple[str, ...]] = ()
    """Layers whose bias opens the gates."""

    dimensions: ClassVar[Mapping[str, str] | None] = None
    """What each dimension of its tensors counts, "C" for channels and "H" for hidden units, where both may stand in any
    order; tensors that are not named have neither. None where their order says something, or is not known to say
    nothing."""

    part: GatePart | None = None
    """What it adds to the gate that is mixed with those of other kinds; None where it is mixed by itself."""

    def __init__(self, units: Units, largest: AttentionUnit, functions: UnitFunctions) -> None:
        super().__init__()
        self.units, self.largest, self.functions = units, largest, functions
        self._plains: dict[tuple[str, ...], nn.Module] = {}  # in a dict, so that they are no part of this module

    def layers(self) -> Mapping[str, nn.Module]:
        """The layers to share, by name."""
        return dict(build_attention(self.largest).named_children())

    def cuts(self, unit: AttentionUnit) -> dict[str, tuple[slice, ...]]:
        """How the weight of each layer is cut for one unit; layers that are not named are taken whole."""
        return {}

    def sliced(self, shared: nn.Module, unit: AttentionUnit) -> dict[str, Tensor]:
        """Views of the weights of one unit, under the plain unit's names.

        Args:
            shared: has the layers.
        """
        cuts, views = self.cuts(unit), {}
        for layer, _ in self._plain(unit).named_children():
            for name, tensor in shared.get_submodule(layer).named_parameters():
                views[f"{layer}.{name}"] = tensor[cuts[layer][: tensor.dim()]] if layer in cuts else tensor
        return views

    def run_sliced(self, shared: nn.Module, x: Tensor, unit: AttentionUnit) -> Tensor:
        """One unit: (B, C, H, W) to the same shape, C its channels."""
        attended: Tensor = functional_call(self._plain(unit), self.sliced(shared, unit), (x,))
        return attended

    def _plain(self, unit: AttentionUnit) -> nn.Module:
        """A unit that computes as this one does, on no device: the weights come with each call."""
        functions = (unit.squeeze, unit.activation, unit.gate)
        if functions not in self._plains:
            with torch.device("meta"):
                self._plains[functions] = build_attention(unit)
        return self._plains[functions]

    def tensors(self, shared: nn.Module, sizes: Tensor) -> tuple[Tensor, ...]:
        """The tensors of `part`, in its order.

        Args:
            sizes: the probabilities of the block's sizes.
        """
        raise NotImplementedError

    def gate(self, at: PlaceMixture, x: Tensor) -> Tensor:
        """The gates of excitations, of which there are few, by the gate function or the average of several."""
        names, shares = self.functions.gates, at.functions.get("gate")
        if shares is None:
            return GATES[names[0]](x)
        averaged: Tensor = torch.tensordot(shares.to(x.dtype), torch.stack([GATES[name](x) for name in names]), 1)
        return averaged

    def mixed(self, shared: nn.Module, x: Tensor, weights: Tensor, at: PlaceMixture) -> Tensor:
        """The sum of its options, each times its weight: (B, C, H, W) to the same shape.

        Args:
            weights: the probabilities of its options.
        """
        raise NotImplementedError
