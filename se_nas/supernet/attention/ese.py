"""Effective SE: an expansion of fewer channels has the first of them, in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

from torch import Tensor, nn

from se_nas.layers.attention.ese import ese_gate
from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.attention.kind import ElasticKind
from se_nas.supernet.mixture import GatePart


class EffectiveSETensors(NamedTuple):
    """The weight of effective SE, (1,), and its linear map (C, C), (C,)."""

    weights: Tensor
    w: Tensor
    b: Tensor


def _gates(
    activation: Callable[[Tensor], Tensor], gate: Callable[[Tensor], Tensor], z: Tensor, given: EffectiveSETensors
) -> Tensor:
    return given.weights * ese_gate(gate, z, given.w, given.b)


class ElasticEffectiveSE(ElasticKind):
    """Effective SE, of which there is one option."""

    opening = ("excite",)
    part = GatePart(EffectiveSETensors, _gates)

    def cuts(self, unit: AttentionUnit) -> dict[str, tuple[slice, ...]]:
        """See `ElasticKind`."""
        channels = slice(unit.channels)
        return {"excite": (channels, channels)}

    def tensors(self, shared: nn.Module, weights: Tensor, expansions: Tensor) -> EffectiveSETensors:
        """See `ElasticKind`."""
        excite = cast(nn.Linear, shared.excite)
        return EffectiveSETensors(weights, excite.weight, excite.bias)
