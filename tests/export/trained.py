"""Networks as training leaves them: with statistics and biases that are not those of a fresh one."""

from __future__ import annotations

import torch
from torch import nn

from se_nas.layers.network import Network, initialise
from se_nas.space.specs import NetworkSpec


def trained(spec: NetworkSpec, seed: int = 0) -> Network:
    """A network in training mode whose every weight and buffer matters to its logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(spec)
        initialise(network)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for tensor in (layer.weight.data, layer.running_var):
                    tensor.uniform_(0.5, 1.5)
                for tensor in (layer.bias.data, layer.running_mean):
                    tensor.normal_(0, 0.1)
            elif isinstance(layer, nn.Linear) and layer.bias is not None:
                layer.bias.data.normal_(0, 0.1)
    return network
