"""Effective SE: an expansion of fewer channels has the first of them, in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.attention.kind import ElasticKind
from se_nas.supernet.mixed_gate import Activation, GateTensors, sum_of_rows


@dataclass(frozen=True)
class EffectiveSETensors(GateTensors):
    """The linear map of effective SE (C, C), (C,)."""

    w: Tensor
    b: Tensor

    def excitations(self, activation: Activation, z: Tensor) -> tuple[Tensor, None]:
        """See `GateTensors`."""
        return F.linear(z, self.w, self.b)[None], None

    def gradients(self, activation: Activation, z: Tensor, kept: None, grad: Tensor) -> tuple[Tensor, ...]:
        """See `GateTensors`."""
        rows = grad.flatten(0, -2)
        return torch.mm(rows, self.w).view(z.shape), torch.mm(rows.t(), z.flatten(0, -2)), sum_of_rows(rows)


class ElasticEffectiveSE(ElasticKind):
    """Effective SE, of which there is one option."""

    opening = ("excite",)
    part = EffectiveSETensors

    def cuts(self, unit: AttentionUnit) -> dict[str, tuple[slice, ...]]:
        """See `ElasticKind`."""
        channels = slice(unit.channels)
        return {"excite": (channels, channels)}

    def tensors(self, shared: nn.Module, sizes: Tensor) -> tuple[Tensor, ...]:
        """See `ElasticKind`."""
        excite = cast(nn.Linear, shared.excite)
        return excite.weight, excite.bias
