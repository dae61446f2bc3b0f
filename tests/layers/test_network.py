"""Whole networks: shapes, heads and first weights; that they cost what is counted is law 2, in tests/laws."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional as F

from se_nas.layers.network import Head, Network, initialise
from se_nas.layers.squeeze_excite import SqueezeExcite
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import HeadSpec
from tests.strategies import spaces_with_architectures


@given(spaces_with_architectures())
def test_images_become_logits(drawn: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = drawn
    network = Network(space.resolve(architecture))
    logits = network(torch.randn(2, space.channels, space.resolution, space.resolution))
    assert logits.shape == (2, space.classes)
    assert logits.isfinite().all()
    assert len(network.blocks) == len(network.spec.blocks)


@pytest.mark.parametrize("width", [0, 12])
@pytest.mark.parametrize("hidden", [0, 7])
def test_a_head_is_its_formula(width: int, hidden: int) -> None:
    torch.manual_seed(0)
    head = Head(HeadSpec(6, width, hidden, "silu", 0.5, 4, 3)).eval()
    x = torch.randn(2, 6, 3, 3)
    y = x
    if width:
        y = F.silu(F.conv2d(y, head.conv.conv.weight) / math.sqrt(1 + 1e-5))
    y = y.mean((2, 3))
    if hidden:
        y = F.silu(head.hidden(y))
    torch.testing.assert_close(head(x), y @ head.classifier.weight.T + head.classifier.bias)


def test_dropout_is_before_the_classifier_and_off_in_evaluation() -> None:
    torch.manual_seed(0)
    head = Head(HeadSpec(1000, 0, 0, "relu", 0.25, 1, 1))
    nn.init.ones_(head.classifier.weight)
    nn.init.zeros_(head.classifier.bias)
    x = torch.ones(1, 1000, 1, 1)
    kept = head(x).item() * 0.75
    assert 700 < kept < 800
    assert head.eval()(x).item() == pytest.approx(1000)


def test_first_weights(tiny_space: SearchSpace) -> None:
    torch.manual_seed(0)
    *_, largest = tiny_space.enumerate()
    spec = tiny_space.resolve(largest)
    network = Network(dataclasses.replace(spec, head=dataclasses.replace(spec.head, width=200, hidden=300)))
    se_before = [p.clone() for m in network.modules() if isinstance(m, SqueezeExcite) for p in m.parameters()]
    initialise(network)
    conv = network.head.conv.conv
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / 200), rel=0.05)
    for block in network.blocks:
        root_mean_square = block.depthwise.weight.square().mean().sqrt().item()
        assert root_mean_square == pytest.approx(math.sqrt(2) / block.depthwise.kernel_size[0], rel=0.25)
    for linear in (network.head.hidden, network.head.classifier):
        assert linear.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert not linear.bias.any()
    se_after = [p for m in network.modules() if isinstance(m, SqueezeExcite) for p in m.parameters()]
    assert len(se_after) == 12
    assert all(torch.equal(a, b) for a, b in zip(se_before, se_after, strict=True))
