"""Effective SE: an expansion of fewer channels has the first of them, in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.attention.kind import ElasticKind
from se_nas.supernet.mixed_gate import Activation, GatePart


class EffectiveSEPart(GatePart):
    """Effective SE's gates. Its tensors are the linear map's, (C, C) and (C,)."""

    count = 2

    def excitations(self, activation: Activation, z: Tensor, *tensors: Tensor) -> tuple[Tensor, None]:
        """See `GatePart`."""
        return F.linear(z, *tensors)[None], None

    def gradients(
        self, activation: Activation, z: Tensor, tensors: Sequence[Tensor], kept: None, grad: Tensor
    ) -> tuple[Tensor, ...]:
        """See `GatePart`."""
        (rows,) = grad.unbind()
        return torch.mm(rows, tensors[0]), torch.mm(rows.t(), z), rows.sum(0)


class ElasticEffectiveSE(ElasticKind):
    """Effective SE, of which there is one option."""

    opening = ("excite",)
    dimensions: ClassVar[Mapping[str, str] | None] = {"excite.weight": "CC", "excite.bias": "C"}
    part = EffectiveSEPart()

    def cuts(self, unit: AttentionUnit) -> dict[str, tuple[slice, ...]]:
        """See `ElasticKind`."""
        channels = slice(unit.channels)
        return {"excite": (channels, channels)}

    def tensors(self, shared: nn.Module, sizes: Tensor) -> tuple[Tensor, ...]:
        """See `ElasticKind`."""
        excite = cast(nn.Linear, shared.excite)
        return excite.weight, excite.bias
