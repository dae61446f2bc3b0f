"""Norm of the gradient (Abdelfattah et al., arXiv 2101.08134, section 3.1, `grad_norm`)."""

from __future__ import annotations

from torch import Tensor, nn

from se_nas.search.zero_cost.gradients import weight_gradients


def gradient_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over the layers of the Euclidean norms of their weights' gradients, on one batch.

    Args:
        images, labels: as for `weight_gradients`.
    """
    return float(sum(g.double().norm() for _, g in weight_gradients(network, images, labels)))
