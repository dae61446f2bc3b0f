"""CBAM at every ratio in one pass: their channel gates are averaged before the one look at positions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from se_nas.layers.squeeze_excite import squeeze_scale
from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.attention.kind import PlaceMixture, Units
from se_nas.supernet.attention.se import ElasticTwoLinears
from se_nas.supernet.attention.spatial import at_positions
from se_nas.supernet.mixed_gate import FUNCTIONS, Activation, MixedGate, UnitFunctions
from se_nas.supernet.two_linears import TwoLinears


class CBAMLinears(TwoLinears):
    """The maps of CBAM's channel gates, whose excitations are sums of those of means and of maxima, z (2 * B, C)."""

    def excitations(self, activation: Activation, z: Tensor, *tensors: Tensor) -> tuple[Tensor, Any]:
        """See `GatePart`."""
        of_both, kept = super().excitations(activation, z, *tensors)
        return of_both.view(of_both.shape[0], 2, -1, of_both.shape[2]).sum(1), kept

    def gradients(
        self, activation: Activation, z: Tensor, tensors: Sequence[Tensor], kept: Any, grad: Tensor
    ) -> tuple[Tensor, ...]:
        """See `GatePart`."""
        return super().gradients(activation, z, tensors, kept, torch.cat((grad, grad), 1))


class ElasticCBAM(ElasticTwoLinears):
    """CBAM of every ratio."""

    opening = ("expand", "spatial")

    def __init__(self, units: Units, largest: AttentionUnit, functions: UnitFunctions) -> None:
        super().__init__(units, largest, functions)
        self._linears = CBAMLinears(self.widths, largest.channels)

    def mixed(self, shared: nn.Module, x: Tensor, weights: Tensor, at: PlaceMixture) -> Tensor:
        """See `ElasticKind`."""
        total = weights.sum()
        shares = torch.where(total > 0, weights / total.clamp(min=1e-12), 1 / len(weights))
        # of what SE squeezes by, CBAM says nothing: it has both
        functions = self.functions._replace(squeezes=("mean_and_max",))
        several = [at.functions[part] for part in FUNCTIONS[1:] if part in at.functions]
        gate = MixedGate(False, at.mask is not None, functions, (self._linears,))
        tensors = [*([] if at.mask is None else [at.mask]), *several, shares, *self.tensors(shared, at.sizes)]
        y = squeeze_scale(x, gate, *tensors, squeeze="mean_and_max")
        return at_positions(cast(nn.Conv2d, shared.spatial), partial(self.gate, at), y, total, at.mask)
