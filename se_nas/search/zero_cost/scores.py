"""The zero-cost scores, by name, and how one is taken of an architecture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from se_nas.layers.network import Network, build
from se_nas.search.zero_cost.naswot import naswot
from se_nas.space.specs import NetworkSpec

#: A function of an untrained network and of one batch of images (B, C, H, W) with their labels (B,), on its device.
Score = Callable[[Network, Tensor, Tensor], float]

SCORES: dict[str, Score] = {"naswot": naswot}


def score_untrained(score: Score, spec: NetworkSpec, images: Tensor, labels: Tensor, seed: int) -> float:
    """The score of a network whose weights are drawn from the seed; torch's generators are left as they were.

    Args:
        images: normalised, of the network's resolution, on the device where the score is to be computed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(spec)
        network.to(images.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return score(network, images, labels)
