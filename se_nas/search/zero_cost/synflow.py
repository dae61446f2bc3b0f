"""SynFlow (Tanaka et al., arXiv 2006.05467, eq. 2 and 4), summed over the weights (arXiv 2101.08134, section 3.1)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def synflow(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over the parameters of weight * dR/dweight, where R is what comes of an image of ones through |weights|.

    There are no batch norms, as in Abdelfattah et al.; computed in float64, as R grows with the depth.

    Args:
        images: (B, C, H, W), of which the size of an image and the device are used alone.
        labels: not looked at.
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
