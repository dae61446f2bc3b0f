"""NASWOT (Mellor et al., arXiv 2006.04647, section 3, eq. 2): how differently the activations of images are switched."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from se_nas.layers.activations import ACTIVATIONS

_KINDS = tuple(type(make()) for name, make in ACTIVATIONS.items() if name != "identity")


def naswot(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """log |det K|, where K counts for each two images the units that are on for both or off for both.

    A unit is an element of what an activation module is given, and on where it is above 0, which for ReLU is the
    paper's. Batch norms take the statistics of the batch, as in the authors' code.

    Args:
        images: (B, C, H, W), B at least 2, normalised, of the network's dtype and device.
        labels: not looked at.

    Returns:
        -inf where two images switch everything alike.
    """
    switched = copy.deepcopy(network).train()
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        signs = torch.where(inputs[0].flatten(1) > 0, 1.0, -1.0)  # of two equal ones the product is 1, of others -1
        kernel.add_((signs @ signs.T).double().add(signs.shape[1]).div(2))

    for module in switched.modules():
        if isinstance(module, _KINDS):
            module.register_forward_pre_hook(count)
    with torch.no_grad():
        switched(images)
    return float(torch.linalg.slogdet(kernel).logabsdet)
