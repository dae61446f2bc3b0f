"""CBAM at every ratio in one pass: their channel gates are averaged before the one look at positions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from se_nas.layers.squeeze_excite import squeeze_scale
from se_nas.supernet.attention.se import ElasticTwoLinears
from se_nas.supernet.attention.spatial import at_positions
from se_nas.supernet.mixture import TwoLinears, weighted


class ElasticCBAM(ElasticTwoLinears):
    """CBAM of every ratio."""

    opening = ("expand", "spatial")

    def mixed(self, shared: nn.Module, x: Tensor, weights: Tensor, expansions: Tensor, mask: Tensor | None) -> Tensor:
        """See `ElasticKind`."""
        total = weights.sum()
        shares = torch.where(total > 0, weights / total.clamp(min=1e-12), 1 / len(weights))
        maps = self.two_linears(shared, shares, expansions)
        gate = partial(mixed_cbam_gate, self.activation, self.gate)
        y = squeeze_scale(x, gate, *maps, *([] if mask is None else [mask]), squeeze="mean_and_max")
        return at_positions(cast(nn.Conv2d, shared.spatial), self.gate, y, total, mask)


def mixed_cbam_gate(
    activation: Callable[[Tensor], Tensor], gate: Callable[[Tensor], Tensor], z: Tensor, *tensors: Tensor
) -> Tensor:
    """The weighted sum of the channel gates of CBAM's ratios.

    Args:
        z: means and maxima of the channels (2, B, C).
        tensors: those of `TwoLinears`, and at most one mask (C,) of the channels that are present.

    Returns:
        The scale (B, C), the channel mask included.
    """
    count = len(TwoLinears._fields)
    maps, masks = TwoLinears(*tensors[:count]), tensors[count:]
    for mask in masks:
        z = z * mask
    scale = weighted(maps.weights, gate(maps.excitations(activation, z).sum(1)))
    for mask in masks:
        scale = scale * mask
    return scale
