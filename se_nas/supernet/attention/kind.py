"""How one kind of attention runs in a supernet: sliced for one option, or mixed over all of its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from se_nas.layers.activations import ACTIVATIONS, GATES
from se_nas.layers.attention import build_attention
from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.mixture import GatePart

Units = Sequence[Sequence[AttentionUnit]]
"""The unit of each option of a kind (rows) beside each expansion of the block (columns)."""


class ElasticKind(nn.Module):
    """The options of one kind at one place, run on the layers that the kinds there share.

    The layers are those of the kind's plain unit at its largest, under their names there; two kinds with a layer of one
    name share it. A subclass says how an option cuts them, and how its options are mixed: either `part` and `tensors`,
    for a kind that scales channels alone and is mixed with others in one pass over the map, or `mixed`.

    Args:
        units: of its options.
        largest: the unit whose layers there are, wide enough for every kind of the place.
    """

    opening: ClassVar[tuple[str, ...]] = ()
    """Layers whose bias opens the gates."""

    part: ClassVar[GatePart | None] = None
    """What it adds to the gate that is mixed with those of other kinds; None where it is mixed by itself."""

    def __init__(self, units: Units, largest: AttentionUnit) -> None:
        super().__init__()
        self.units, self.largest = units, largest
        self.activation, self.gate = ACTIVATIONS[largest.activation]().forward, GATES[largest.gate]
        # on no device: the weights come with each call
        with torch.device("meta"):
            self._plain = (build_attention(units[0][0]),)  # in a tuple, so that it is no part of this module

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
        for layer, _ in self._plain[0].named_children():
            for name, tensor in shared.get_submodule(layer).named_parameters():
                views[f"{layer}.{name}"] = tensor[cuts[layer][: tensor.dim()]] if layer in cuts else tensor
        return views

    def run_sliced(self, shared: nn.Module, x: Tensor, unit: AttentionUnit) -> Tensor:
        """One unit: (B, C, H, W) to the same shape, C its channels."""
        attended: Tensor = functional_call(self._plain[0], self.sliced(shared, unit), (x,))
        return attended

    def tensors(self, shared: nn.Module, weights: Tensor, expansions: Tensor) -> tuple[Tensor, ...]:
        """The tensors of `part`.

        Args:
            weights, expansions: the probabilities of its options and of the block's expansions.
        """
        raise NotImplementedError

    def mixed(self, shared: nn.Module, x: Tensor, weights: Tensor, expansions: Tensor, mask: Tensor | None) -> Tensor:
        """The sum of its options, each times its weight: (B, C, H, W) to the same shape.

        Args:
            mask: (C,) of the channels that are present, where the expansions decide on that; they are 0 in the result.
        """
        raise NotImplementedError
