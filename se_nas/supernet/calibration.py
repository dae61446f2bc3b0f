"""Batch-norm statistics of one subnet: reset, then averaged over training images; never a momentum update."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace every batch norm's running statistics by their plain average over these batches; weights stay.

    The shared statistics of a supernet are those of no subnet (BigNAS, arXiv 2003.11142, section 3.3).

    Args:
        network: a plain network, as `SuperNet.export` gives it; left in the mode that it was in.
        batches: images (B, C, H, W), on the network's device; at least one batch.

    Raises:
        ValueError: a norm saw no batch, which would leave it without statistics.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    modes = [(layer, layer.training) for layer in network.modules()]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    try:
        for number, batch in enumerate(batches, 1):
            for norm in norms:
                norm.momentum = 1 / number  # cumulative average; of None torch asks the device for the number
            network(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for layer, mode in modes:
            layer.training = mode
    seen = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    if seen and not all(torch.stack(seen).tolist()):
        raise ValueError("every norm must see a batch: recalibrate an exported network, on one batch or more")
