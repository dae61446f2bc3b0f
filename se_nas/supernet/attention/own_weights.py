"""A kind of attention that says nothing of shared weights: options have their own, and a mixture runs them all."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.attention import build_attention
from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.attention.kind import ElasticKind, Units


class OwnWeights(ElasticKind):
    """One plain unit for each number of channels and of hidden units that an option has."""

    def __init__(self, units: Units, largest: AttentionUnit) -> None:
        super().__init__(units, largest)
        every = {_key(unit): unit for row in units for unit in row}
        self.by_size = nn.ModuleDict({key: build_attention(unit) for key, unit in every.items()})
        uses = torch.tensor([[[_key(unit) == key for unit in row] for row in units] for key in every])
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

    def mixed(self, shared: nn.Module, x: Tensor, weights: Tensor, expansions: Tensor, mask: Tensor | None) -> Tensor:
        """See `ElasticKind`; a unit for fewer channels runs on the first of them."""
        shares = torch.einsum("uoe,o,e->u", self.uses, weights, expansions)
        total = torch.zeros_like(x)
        for module, channels, share in zip(self.by_size.values(), self.channels, shares, strict=True):
            part = module(x[:, :channels])
            total = total + F.pad(part * share.to(part.dtype), (0, 0, 0, 0, 0, x.shape[1] - channels)).to(x.dtype)
        return total

    def _module(self, unit: AttentionUnit) -> nn.Module:
        return self.by_size[_key(unit)]


def _key(unit: AttentionUnit) -> str:
    return f"channels{unit.channels}_hidden{unit.hidden}"
