"""SNIP (Lee et al., arXiv 1810.02340, eq. 4), summed over the weights (Abdelfattah et al., arXiv 2101.08134, eq. 1)."""

from __future__ import annotations

from torch import Tensor, nn

from se_nas.search.zero_cost.gradients import weight_gradients


def snip(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over the weights of |gradient * weight|: by how much the loss changes, to first order, without each.

    Args:
        images, labels: as for `weight_gradients`.
    """
    return float(sum((g * w).double().abs().sum() for w, g in weight_gradients(network, images, labels)))
