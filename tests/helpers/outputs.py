"""Networks told apart by what they compute."""

from __future__ import annotations

import torch

from se_nas.layers.network import Network
from se_nas.space.search_space import SearchSpace


def outputs(space: SearchSpace) -> set[bytes]:
    """What each network computes of one input with weights that depend on their order and shapes alone."""
    x = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    results = set()
    for architecture in space.enumerate():
        network = Network(space.resolve(architecture)).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(1, parameter[0].numel()) ** 0.5)
            results.add(network(x).numpy().tobytes())
    return results
