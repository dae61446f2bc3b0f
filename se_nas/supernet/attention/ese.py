"""Effective SE: an expansion of fewer channels has the first of them, in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.attention.kind import ElasticKind
from se_nas.supernet.mixture import GatePart


class EffectiveSETensors(NamedTuple):
    """The linear map of effective SE (C, C), (C,)."""

    w: Tensor
    b: Tensor


def _excitations(activation: Callable[[Tensor], Tensor], z: Tensor, given: EffectiveSETensors) -> Tensor:
    return F.linear(z, given.w, given.b)[None]


class ElasticEffectiveSE(ElasticKind):
    """Effective SE, of which there is one option."""

    opening = ("excite",)
    part = GatePart(EffectiveSETensors, _excitations)

    def cuts(self, unit: AttentionUnit) -> dict[str, tuple[slice, ...]]:
        """See `ElasticKind`."""
        channels = slice(unit.channels)
        return {"excite": (channels, channels)}

    def tensors(self, shared: nn.Module, expansions: Tensor) -> EffectiveSETensors:
        """See `ElasticKind`."""
        excite = cast(nn.Linear, shared.excite)
        return EffectiveSETensors(excite.weight, excite.bias)
