"""NASWOT against its definition, by brute force."""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from se_nas.layers.network import Network
from se_nas.search.zero_cost.naswot import naswot, untrained
from se_nas.space.search_space import SearchSpace

CPU = torch.device("cpu")


class TwoLayers(nn.Module):
    """One activation module that two layers share, as those of a block do."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 5)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm(self.first(x)))
        return cast(Tensor, self.activation(self.second(x.mean((2, 3)))))


def score(network: nn.Module, images: Tensor) -> float:
    return naswot(cast(Network, network), images)


def determinant(matrix: list[list[int]]) -> int:
    """By Leibniz's formula, in whole numbers."""
    total = 0
    for order in itertools.permutations(range(len(matrix))):
        inversions = sum(a > b for a, b in itertools.combinations(order, 2))
        total += (-1) ** inversions * math.prod(matrix[i][j] for i, j in enumerate(order))
    return total


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Hardswish()])
def test_it_is_the_log_determinant_of_how_many_units_two_images_switch_alike(activation: nn.Module) -> None:
    torch.manual_seed(3)
    network, images = TwoLayers(activation), torch.randn(4, 2, 5, 5)
    x = network.first(images)
    x = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    hidden = network.second(activation(x).mean((2, 3)))
    codes = [[bool(unit > 0) for unit in (*a.flatten(), *b)] for a, b in zip(x, hidden, strict=True)]
    kernel = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in codes] for one in codes]
    assert score(network, images) == pytest.approx(math.log(abs(determinant(kernel))), rel=1e-12)


def test_images_that_a_network_cannot_tell_apart_have_no_finite_score() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
    for _ in range(40):  # rounding makes the determinant of some of their kernels another number than 0
        images = torch.randn(16, 3, 8, 8)
        assert math.isfinite(score(network, images))
        images[8] = images[1]
        assert score(network, images) == -math.inf
    assert score(nn.Sequential(nn.Conv2d(3, 2, 3)), images[:2]) == -math.inf  # nothing switches


def test_a_seed_gives_one_network_whatever_was_drawn_before_and_leaves_the_generators(
    tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("those of GPUs are not put back"))
    spec = tiny_space.resolve(tiny_space.sample(np.random.default_rng(0)))
    images = torch.randn(8, 1, 8, 8)
    before = torch.get_rng_state()
    found = [naswot(untrained(spec, CPU, seed), images) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1] != found[2]


def test_every_network_of_a_space_has_a_finite_score_and_keeps_its_weights(tiny_space: SearchSpace) -> None:
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    scores = set()
    for architecture in itertools.islice(tiny_space.enumerate(), 0, None, 5):
        network = untrained(tiny_space.resolve(architecture), CPU, 0)
        weights: dict[str, Any] = {name: value.clone() for name, value in network.named_parameters()}
        scores.add(naswot(network, images))
        assert all(torch.equal(value, weights[name]) for name, value in network.named_parameters())
        assert not any(module._forward_pre_hooks for module in network.modules())
    assert all(map(math.isfinite, scores))
    assert len(scores) > 5
