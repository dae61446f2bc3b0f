"""ZiCo, the inverse coefficient of variation of gradients (Li et al., arXiv 2301.11300, eq. 14)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from se_nas.search.zero_cost.gradients import weight_gradients


def zico(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over the layers of log(sum over their weights of mean |gradient| / its standard deviation), over two batches.

    The batches are the halves of the one given. As the authors' code has it, the deviation is that of the gradients with
    their signs, a weight whose deviation is 0 has no part in its layer's sum, and neither has a layer without any other.

    Args:
        images, labels: as for `weight_gradients`, of at least 4 images.
    """
    halves = zip(images.chunk(2), labels.chunk(2), strict=True)
    first, second = ([g for _, g in weight_gradients(network, x, y)] for x, y in halves)
    total = 0.0
    for a, b in zip(first, second, strict=True):
        each = torch.stack((a, b)).double()
        deviation, mean = each.std(0, correction=0), each.abs().mean(0)
        ratios = float((mean / deviation)[deviation > 0].sum())
        total += math.log(ratios) if ratios > 0 else 0.0
    return total
