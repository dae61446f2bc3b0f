"""ECA: an expansion of fewer channels has the middle of the widest kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from se_nas.layers.attention.eca import eca_gate
from se_nas.space.attention.eca import eca_kernel
from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.attention.kind import ElasticKind, Units
from se_nas.supernet.mixture import GatePart, crop_masks

_ALL = slice(None)


class ECATensors(NamedTuple):
    """The weight of ECA, (1,), and its kernel (1, 1, width)."""

    weights: Tensor
    across: Tensor


def _gates(
    activation: Callable[[Tensor], Tensor], gate: Callable[[Tensor], Tensor], z: Tensor, given: ECATensors
) -> Tensor:
    return given.weights * eca_gate(gate, z, given.across)


class ElasticECA(ElasticKind):
    """ECA, of which there is one option."""

    part = GatePart(ECATensors, _gates)
    masks: Tensor

    def __init__(self, units: Units, largest: AttentionUnit) -> None:
        super().__init__(units, largest)
        self.register_buffer("masks", crop_masks([eca_kernel(unit.channels) for unit in units[0]]), persistent=False)

    def cuts(self, unit: AttentionUnit) -> dict[str, tuple[slice, ...]]:
        """See `ElasticKind`."""
        width = eca_kernel(self.largest.channels)
        rim = (width - eca_kernel(unit.channels)) // 2
        return {"across": (_ALL, _ALL, slice(rim, width - rim))}

    def tensors(self, shared: nn.Module, weights: Tensor, expansions: Tensor) -> ECATensors:
        """See `ElasticKind`."""
        crop = torch.mv(self.masks.t(), expansions)
        return ECATensors(weights, cast(nn.Conv1d, shared.across).weight * crop)
