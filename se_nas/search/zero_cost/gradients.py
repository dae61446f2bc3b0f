"""Gradients of the weights of an untrained network, of which several scores are made."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def weight_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(weight, gradient) of the mean cross-entropy, for each convolution and linear layer that the classes depend on.

    Batch norms take the statistics of the batch, as in training; the network itself is left as it is.

    Args:
        images: (B, C, H, W), B at least 2, normalised, of the network's dtype and device.
        labels: (B,) int64 classes, on the same device.
    """
    trained = copy.deepcopy(network).train()
    weights = [layer.weight for layer in trained.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    loss = F.cross_entropy(trained(images), labels)
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    return [(w.detach(), g) for w, g in zip(weights, gradients, strict=True) if g is not None]
