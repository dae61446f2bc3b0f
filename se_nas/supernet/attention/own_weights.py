"""A kind of attention that says nothing of shared weights: options have their own, and a mixture runs them all."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.attention import build_attention
from se_nas.space.attention import ATTENTION
from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.attention.kind import ElasticKind, PlaceMixture, Units
from se_nas.supernet.mixed_gate import FUNCTIONS, UnitFunctions


class OwnWeights(ElasticKind):
    """One plain unit for each number of channels and of hidden units that an option has, and for all functions."""

    def __init__(self, units: Units, largest: AttentionUnit, functions: UnitFunctions) -> None:
        super().__init__(units, largest, functions)
        kind = ATTENTION[largest.kind]
        #: The functions that a unit of this kind reads; of the others it has the first.
        self._read = UnitFunctions(
            functions.squeezes if kind.reads_squeeze else functions.squeezes[:1],
            functions.activations if kind.has_ratio else functions.activations[:1],
            functions.gates,
        )
        every = {self._key(unit): unit for unit in (each for row in units for one in row for each in self._each(one))}
        self.by_size = nn.ModuleDict({key: build_attention(unit) for key, unit in every.items()})
        uses = torch.tensor(
            [
                [[[self._key(each) == key for each in self._each(unit)] for unit in row] for row in units]
                for key in every
            ]
        )
        self.register_buffer("uses", uses.float(), persistent=False)
        self.channels = [unit.channels for unit in every.values()]

    uses: Tensor

    def layers(self) -> Mapping[str, nn.Module]:
        """None that another kind could share."""
        return {}

    def sliced(self, shared: nn.Module, unit: AttentionUnit) -> dict[str, Tensor]:
        """The weights and statistics of one unit, under its own names."""
        own: dict[str, Tensor] = self._module(unit).state_dict(keep_vars=True)
        return own

    def run_sliced(self, shared: nn.Module, x: Tensor, unit: AttentionUnit) -> Tensor:
        """See `ElasticKind`."""
        attended: Tensor = self._module(unit)(x)
        return attended

    def mixed(self, shared: nn.Module, x: Tensor, weights: Tensor, at: PlaceMixture) -> Tensor:
        """See `ElasticKind`; a unit for fewer channels runs on the first of them."""
        functions = self._probabilities(at.functions, weights)
        shares = torch.einsum("uoef,o,e,f->u", self.uses, weights, at.sizes, functions)
        total = torch.zeros_like(x)
        for module, channels, share in zip(self.by_size.values(), self.channels, shares, strict=True):
            part = module(x[:, :channels])
            total = total + F.pad(part * share.to(part.dtype), (0, 0, 0, 0, 0, x.shape[1] - channels)).to(x.dtype)
        return total

    def _module(self, unit: AttentionUnit) -> nn.Module:
        return self.by_size[self._key(unit)]

    def _each(self, unit: AttentionUnit) -> list[AttentionUnit]:
        """The unit with every combination of functions."""
        return [
            replace(unit, **cast(Any, dict(zip(FUNCTIONS, names, strict=True))))
            for names in itertools.product(*self._read)
        ]

    def _probabilities(self, functions: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """Of the combinations, in the order of `_each`."""
        total = like.new_ones(1)
        for part, read in zip(FUNCTIONS, self._read, strict=True):
            total = torch.outer(total, functions[part] if len(read) > 1 else like.new_ones(1)).flatten()
        return total

    def _key(self, unit: AttentionUnit) -> str:
        """The name of its module; functions are told where several are read."""
        own = (unit.squeeze, unit.activation, unit.gate)
        told = [f"_{name}" for name, names in zip(own, self._read, strict=True) if len(names) > 1]
        return f"channels{unit.channels}_hidden{unit.hidden}" + "".join(told)
