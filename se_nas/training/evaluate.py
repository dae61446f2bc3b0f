"""Accuracy of a network on images that are not augmented."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from se_nas.data.batches import DeviceImages
from se_nas.training.device import autocast_for


@torch.inference_mode()
def accuracy(network: nn.Module, images: DeviceImages, indices: Tensor, batch_size: int = 500) -> float:
    """Share of the images at `indices` that the network, put into evaluation mode for it, classifies correctly."""
    mode = network.training
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=images.device)
    for x, y in images.evaluate_batches(indices, batch_size):
        with autocast_for(images.device, True):
            logits = network(x)
        correct += (logits.argmax(1) == y).sum()
    network.train(mode)
    return int(correct) / max(1, len(indices))
