"""Zen-score (Lin et al., arXiv 2102.01063, algorithm 1): the Gaussian complexity of a network without its shortcuts."""

from __future__ import annotations

import copy
import math
from functools import partial

import torch
from torch import Tensor, nn

from se_nas.layers.blocks import Block
from se_nas.layers.network import Network

#: Of the noise that is added to the images.
_NOISE = 0.01


def zen(network: Network, images: Tensor, labels: Tensor) -> float:
    """log of the mean change of the last map by a little noise, and the logs of the batch norms' deviations.

    Weights and images are standard normal, drawn from torch's global generator; shortcuts that are added are left out.

    Args:
        images: (B, C, H, W), B at least 2, of which the shape, dtype and device are used alone.
        labels: not looked at.
    """
    plain = copy.deepcopy(network).train()
    for module in plain.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # it keeps the variances of the last batch
        elif isinstance(module, Block):
            module.join = lambda skip, y: y  # type: ignore[method-assign]
    x = torch.randn_like(images)
    with torch.no_grad():
        maps = [_last_map(plain, x + _NOISE * torch.randn_like(x)), _last_map(plain, x)]
    change = (maps[0] - maps[1]).double().abs().flatten(1).sum(1).mean()
    norms = (module for module in plain.modules() if isinstance(module, nn.BatchNorm2d))
    return math.log(float(change)) + sum(math.log(float(norm.running_var.mean())) / 2 for norm in norms)


def _last_map(network: Network, x: Tensor) -> Tensor:
    x = network.stem(x)
    for block in network.blocks:
        x = block(x)
    return network.head.convolved(x)
