"""Spatial attention: one convolution whatever the channels, of which it sees those that are present."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from se_nas.layers.attention.spatial import spatial_gate
from se_nas.supernet.attention.kind import ElasticKind, PlaceMixture


class ElasticSpatial(ElasticKind):
    """Spatial attention, of which there is one option."""

    opening = ("spatial",)
    dimensions: ClassVar[Mapping[str, str] | None] = {}

    def mixed(self, shared: nn.Module, x: Tensor, weights: Tensor, at: PlaceMixture) -> Tensor:
        """See `ElasticKind`."""
        present = x if at.mask is None else x * at.mask.to(x.dtype)[:, None, None]
        return at_positions(cast(nn.Conv2d, shared.spatial), partial(self.gate, at), present, weights, at.mask)


def at_positions(
    spatial: nn.Conv2d, gate: Callable[[Tensor], Tensor], x: Tensor, weight: Tensor, mask: Tensor | None
) -> Tensor:
    """Spatial attention times a weight; its gates see the channels of x (B, C, H, W) that are present."""
    if mask is None:
        mean, maximum = x.mean(1), x.amax(1)
    else:
        mean = x.sum(1) / mask.sum()
        maximum = x.masked_fill((mask == 0)[:, None, None], -torch.inf).amax(1)
    gates = spatial_gate(gate, mean, maximum, spatial)
    return x * (weight * gates).to(x.dtype)
