"""ECA: an expansion of fewer channels has the middle of the widest kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from se_nas.layers.attention.eca import eca_excitation
from se_nas.space.attention.eca import eca_kernel
from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.attention.kind import ElasticKind, Units
from se_nas.supernet.mixture import GatePart, UnitFunctions, crop_masks

_ALL = slice(None)


class ECATensors(NamedTuple):
    """The kernel of ECA, (1, 1, width)."""

    across: Tensor


def _excitations(activation: Callable[[Tensor], Tensor], z: Tensor, given: ECATensors) -> Tensor:
    return eca_excitation(z, given.across)[None]


class ElasticECA(ElasticKind):
    """ECA, of which there is one option."""

    part = GatePart(ECATensors, _excitations)
    masks: Tensor

    def __init__(self, units: Units, largest: AttentionUnit, functions: UnitFunctions) -> None:
        super().__init__(units, largest, functions)
        self.register_buffer("masks", crop_masks([eca_kernel(unit.channels) for unit in units[0]]), persistent=False)

    def cuts(self, unit: AttentionUnit) -> dict[str, tuple[slice, ...]]:
        """See `ElasticKind`."""
        width = eca_kernel(self.largest.channels)
        rim = (width - eca_kernel(unit.channels)) // 2
        return {"across": (_ALL, _ALL, slice(rim, width - rim))}

    def tensors(self, shared: nn.Module, expansions: Tensor) -> ECATensors:
        """See `ElasticKind`."""
        across = cast(nn.Conv1d, shared.across).weight
        return ECATensors(across if len(expansions) == 1 else across * torch.mv(self.masks.t(), expansions))
