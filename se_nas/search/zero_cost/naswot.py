"""NASWOT: in how many ways an untrained network can tell a batch's images apart.

Mellor et al., "Neural Architecture Search without Training" (ICML 2021, arXiv 2006.04647), section 3: a ReLU is on or
off for an image, all of a network's are a binary code of it, and of codes that differ more a training can make more.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from se_nas.layers.activations import ACTIVATIONS
from se_nas.layers.network import Network, build
from se_nas.space.specs import NetworkSpec

_SWITCHES = tuple(type(make()) for name, make in ACTIVATIONS.items() if name != "identity")


def untrained(spec: NetworkSpec, device: torch.device, seed: int) -> Network:
    """The network of a specification on a device, initialised from the seed; torch's generators stay as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch's own seeds those of GPUs too
        network = build(spec)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def naswot(network: Network, images: Tensor) -> float:
    """log |det K|, where K[i, j] counts the units that are on for both images i and j or off for both (equation 2).

    A unit is an element of what an activation is given, and on where that is above 0; SE's own are left out, as they
    have no module. Batch norms take the statistics of the batch, as in the authors' code.

    Args:
        network: untrained; its running statistics change.
        images: (B, C, H, W), B at least 2, normalised, of the network's dtype and device.

    Returns:
        Higher is better; -inf where two images have one code.
    """
    agreeing = [images.new_zeros(len(images), len(images))]

    def count(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        signs = torch.where(inputs[0].flatten(1) > 0, 1.0, -1.0)  # whose product is 1 where both agree, and else -1
        agreeing.append((signs @ signs.T).add(signs.shape[1]).div(2))

    network.train()
    hooks = [m.register_forward_pre_hook(count) for m in network.modules() if isinstance(m, _SWITCHES)]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    kernel = torch.stack(agreeing).cpu().double().sum(0)  # not every device has float64
    units = kernel[0, 0]
    if int((kernel == units).sum()) > len(kernel):  # also beside the diagonal
        return -math.inf  # where rounding might leave a finite logarithm
    return float(torch.linalg.slogdet(kernel).logabsdet)
