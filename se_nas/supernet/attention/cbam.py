"""CBAM at every ratio in one pass: their channel gates are averaged before the one look at positions."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import cast

import torch
from torch import Tensor, nn

from se_nas.layers.squeeze_excite import squeeze_scale
from se_nas.supernet.attention.se import ElasticTwoLinears
from se_nas.supernet.attention.spatial import at_positions
from se_nas.supernet.mixture import TwoLinears, UnitFunctions, WeightedFunctions


class ElasticCBAM(ElasticTwoLinears):
    """CBAM of every ratio."""

    opening = ("expand", "spatial")

    def mixed(
        self,
        shared: nn.Module,
        x: Tensor,
        weights: Tensor,
        expansions: Tensor,
        mask: Tensor | None,
        functions: WeightedFunctions,
    ) -> Tensor:
        """See `ElasticKind`."""
        total = weights.sum()
        shares = torch.where(total > 0, weights / total.clamp(min=1e-12), 1 / len(weights))
        maps = self.two_linears(shared, expansions)
        names, of_names = functions.of_maps
        gate = partial(mixed_cbam_gate, names)
        y = squeeze_scale(x, gate, *of_names, shares, *maps, *([] if mask is None else [mask]), squeeze="mean_and_max")
        of_positions = names.of(iter(of_names)).gate
        return at_positions(cast(nn.Conv2d, shared.spatial), of_positions, y, total, mask)


def mixed_cbam_gate(functions: UnitFunctions, z: Tensor, *tensors: Tensor) -> Tensor:
    """The weighted sum of the channel gates of CBAM's ratios.

    Args:
        z: means and maxima of the channels (2, B, C).
        tensors: the weights of functions and of ratios, those of `TwoLinears`, and at most one mask (C,) of the
            channels that are present.

    Returns:
        The scale (B, C), the channel mask included.
    """
    left = iter(tensors)
    _, activation, gates = functions.of(left)
    weights, maps = next(left), TwoLinears(*islice(left, len(TwoLinears._fields)))
    masks = tuple(left)
    for mask in masks:
        z = z * mask
    scale = gates(weights, maps.excitations(activation, z).sum(1))
    for mask in masks:
        scale = scale * mask
    return scale
