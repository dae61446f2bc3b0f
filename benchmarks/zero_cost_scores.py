"""Zero-cost scores that `zero_cost.py` measures beside the package's NASWOT, each a function of an untrained network
and of a batch: images (B, C, H, W), B at least 4, normalised, of the network's dtype, on its device, with classes (B,).

They are read by their papers, with the summary over a network's weights of Abdelfattah et al. (arXiv 2101.08134), who
compared them first. Each leaves the network as it is.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.blocks import Block
from se_nas.layers.network import Network

#: Of the noise that Zen-score adds to images.
NOISE = 0.01


def weight_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(weight, gradient of the mean cross-entropy) of each convolution and linear layer that the classes depend on.

    Batch norms take the statistics of the batch, as in training.
    """
    trained = copy.deepcopy(network).train()
    weights = [layer.weight for layer in trained.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    loss = F.cross_entropy(trained(images), labels)
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    return [(w.detach(), g) for w, g in zip(weights, gradients, strict=True) if g is not None]


def gradient_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over the layers of the Euclidean norms of their weights' gradients (arXiv 2101.08134, section 3.1)."""
    return float(sum(g.double().norm() for _, g in weight_gradients(network, images, labels)))


def snip(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over the weights of |gradient * weight|: by how much the loss changes, to first order, without each.

    SNIP: Lee et al., arXiv 1810.02340, equation 4.
    """
    return float(sum((g * w).double().abs().sum() for w, g in weight_gradients(network, images, labels)))


def zico(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over the layers of log(sum over their weights of mean |gradient| / its deviation), over the batch's halves.

    ZiCo: Li et al., arXiv 2301.11300, section 3.3. As in the authors' code the deviation is that of the gradients with
    their signs, a weight whose deviation is 0 has no part in its layer's sum, and a layer without any other has none.
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


def synflow(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over the parameters of weight * dR/dweight, where R is what comes of an image of ones through |weights|.

    SynFlow: Tanaka et al., arXiv 2006.05467, section 6. There are no batch norms, as in arXiv 2101.08134. Of the images
    the shape and device are used alone; in float64, as R grows with the depth.
    """
    linear = copy.deepcopy(network).double().eval()
    for module in list(linear.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.abs_()
    parameters = list(linear.parameters())
    flow = linear(torch.ones_like(images[:1], dtype=torch.float64)).sum()
    gradients = torch.autograd.grad(flow, parameters, allow_unused=True)
    return float(sum((p.detach() * g).sum() for p, g in zip(parameters, gradients, strict=True) if g is not None))


def zen(network: Network, images: Tensor, labels: Tensor) -> float:
    """log of the mean change of the last map by a little noise, and the logs of the batch norms' deviations.

    Zen-score: Lin et al., arXiv 2102.01063, algorithm 1. Weights and images are standard normal, drawn from torch's
    global generator; shortcuts that are added are left out. Of the images the shape and device are used alone.
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
        noisy, clear = (_last_map(plain, x + NOISE * torch.randn_like(x)), _last_map(plain, x))
    change = float((noisy - clear).double().abs().flatten(1).sum(1).mean())
    norms = [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)]
    return math.log(change) + sum(math.log(float(norm.running_var.mean())) / 2 for norm in norms)


def _last_map(network: Network, x: Tensor) -> Tensor:
    x = network.stem(x)
    for block in network.blocks:
        x = block(x)
    return network.head.convolved(x)
