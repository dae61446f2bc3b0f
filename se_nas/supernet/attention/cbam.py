"""CBAM at every ratio in one pass: their channel gates are averaged before the one look at positions."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from se_nas.layers.squeeze_excite import squeeze_scale
from se_nas.supernet.attention.kind import PlaceMixture
from se_nas.supernet.attention.se import ElasticTwoLinears
from se_nas.supernet.attention.spatial import at_positions
from se_nas.supernet.mixed_gate import FUNCTIONS, Activation, MixedGate
from se_nas.supernet.two_linears import TwoLinears


class CBAMTensors(TwoLinears):
    """The maps of CBAM's channel gates, whose excitations are sums of those of means and of maxima."""

    def excitations(self, activation: Activation, z: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `GateTensors`; z is (2, B, C)."""
        of_both, kept = super().excitations(activation, z)
        return of_both.sum(1), kept

    def gradients(
        self, activation: Activation, z: Tensor, kept: tuple[Tensor, ...], grad: Tensor
    ) -> tuple[Tensor, ...]:
        """See `GateTensors`."""
        return super().gradients(activation, z, kept, torch.stack((grad, grad), 1))


class ElasticCBAM(ElasticTwoLinears):
    """CBAM of every ratio."""

    opening = ("expand", "spatial")

    def mixed(self, shared: nn.Module, x: Tensor, weights: Tensor, at: PlaceMixture) -> Tensor:
        """See `ElasticKind`."""
        total = weights.sum()
        shares = torch.where(total > 0, weights / total.clamp(min=1e-12), 1 / len(weights))
        # of what SE squeezes by, CBAM says nothing: it has both
        functions = self.functions._replace(squeezes=("mean_and_max",))
        several = [at.functions[part] for part in FUNCTIONS[1:] if part in at.functions]
        gate = MixedGate(False, at.mask is not None, functions, (CBAMTensors,))
        tensors = [*([] if at.mask is None else [at.mask]), *several, shares, *self.tensors(shared, at.sizes)]
        y = squeeze_scale(x, gate, *tensors, squeeze="mean_and_max")
        return at_positions(cast(nn.Conv2d, shared.spatial), partial(self.gate, at), y, total, at.mask)
