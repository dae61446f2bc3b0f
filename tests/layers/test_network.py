"""Whole networks: shapes, heads and first weights; that they cost what is counted is law 2, in tests/laws."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional as F

from se_nas.layers.attention.se import SqueezeExcite
from se_nas.layers.network import Head, Network, build_stem, initialise
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import ConvSpec, HeadSpec, NetworkSpec, SESpec
from tests.helpers.example_blocks import block_spec, head_of_every_part
from tests.helpers.strategies import spaces_with_architectures


@given(spaces_with_architectures())
def test_images_become_logits(drawn: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = drawn
    network = Network(space.resolve(architecture))
    side = network.spec.resolution
    logits = network(torch.randn(2, space.channels, side, side))
    assert logits.shape == (2, space.classes)
    assert logits.isfinite().all()
    assert len(network.blocks) == len(network.spec.blocks)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("resolution", [1, 7, 8, 9])
def test_a_stem_with_pooling_is_its_formula(stride: int, resolution: int) -> None:
    torch.manual_seed(0)
    spec = ConvSpec(
        in_channels=3, out_channels=8, kernel=5, stride=stride, activation="silu", resolution=resolution, pool=True
    )
    stem = build_stem([spec]).eval()
    x = torch.randn(2, 3, resolution, resolution)
    y = F.silu(F.conv2d(x, stem.conv.weight, stride=stride, padding=2) / math.sqrt(1 + 1e-5))
    assert y.shape == (2, 8, spec.conv_resolution, spec.conv_resolution)
    y = F.max_pool2d(F.pad(y, (1, 1, 1, 1), value=-math.inf), 3, 2)
    assert y.shape == (2, 8, spec.out_resolution, spec.out_resolution)
    torch.testing.assert_close(stem(x), y)


@pytest.mark.parametrize("resolution", [2, 7, 8])
def test_a_stem_of_several_convolutions_is_its_formula(resolution: int) -> None:
    torch.manual_seed(0)
    first = ConvSpec(
        in_channels=3,
        out_channels=4,
        kernel=3,
        stride=1,
        activation="silu",
        resolution=resolution,
        pool="ceil",
        bias=True,
    )
    second = ConvSpec(
        in_channels=4,
        out_channels=6,
        kernel=1,
        stride=1,
        activation="relu",
        resolution=first.out_resolution,
        norm=False,
    )
    stem = build_stem([first, second]).eval()
    x = torch.randn(2, 3, resolution, resolution)
    y = F.silu(F.conv2d(x, stem.conv.weight, stem.conv.bias, padding=1) / math.sqrt(1 + 1e-5))
    beyond = resolution % 2 == 0  # Caffe's last window reaches one pixel further where it would not fit
    y = F.max_pool2d(F.pad(y, (0, 1, 0, 1), value=-math.inf) if beyond else y, 3, 2)
    assert y.shape[2:] == (first.out_resolution, first.out_resolution)
    torch.testing.assert_close(stem(x), F.relu(F.conv2d(y, stem.conv2.weight)))
    assert not hasattr(stem, "norm2")


def test_a_head_of_every_part_is_its_formula() -> None:
    torch.manual_seed(0)
    spec = head_of_every_part(in_channels=6, width=4, hidden=5, activation="silu", dropout=0.5, classes=3, resolution=7)
    head = Head(spec).eval()
    scale = 1 / math.sqrt(1 + 1e-5)
    x = torch.randn(2, 6, 7, 7)
    y = F.max_pool2d(F.pad(F.silu(x * scale), (0, 1, 0, 1), value=-math.inf), 2)
    y = F.silu(F.conv2d(y, head.conv.conv.weight) * scale).flatten(1)
    assert y.shape[1] == spec.pooled == 4 * 4 * 4
    y = F.silu(head.hidden2(F.silu(head.hidden(y))))
    torch.testing.assert_close(head(x), head.classifier(y))


@pytest.mark.parametrize("width", [0, 12])
@pytest.mark.parametrize("hidden", [0, 7])
@pytest.mark.parametrize("biases", [{}, {"hidden_bias": False}, {"classifier_bias": False}])
def test_a_head_is_its_formula(width: int, hidden: int, biases: dict[str, bool]) -> None:
    torch.manual_seed(0)
    sizes = {"in_channels": 6, "width": width, "hidden": hidden, "classes": 4, "resolution": 3}
    head = Head(HeadSpec(**sizes, activation="silu", dropout=0.5, **biases)).eval()
    x = torch.randn(2, 6, 3, 3)
    y = x
    if width:
        y = F.silu(F.conv2d(y, head.conv.conv.weight) / math.sqrt(1 + 1e-5))
    y = y.mean((2, 3))
    if hidden:
        y = F.silu(y @ head.hidden.weight.T + (head.hidden.bias if biases.get("hidden_bias", True) else 0))
    y = y @ head.classifier.weight.T + (head.classifier.bias if biases.get("classifier_bias", True) else 0)
    torch.testing.assert_close(head(x), y)


def test_dropout_is_before_the_classifier_and_off_in_evaluation() -> None:
    torch.manual_seed(0)
    head = Head(HeadSpec(in_channels=1000, width=0, hidden=0, activation="relu", dropout=0.25, classes=1, resolution=1))
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


def test_zero_last_starts_every_residual_block_at_its_shortcut() -> None:
    torch.manual_seed(0)
    kept = block_spec("mbconv", 8, 8, resolution=6, expanded=16, se=SESpec(ratio=2))
    wider = block_spec(
        "bottleneck",
        8,
        12,
        stride=2,
        resolution=6,
        expanded=6,
        se=SESpec(ratio=2, ratio_of="block_output", divisor=1, position="standard"),
    )
    changes = [
        block_spec("mbconv", 12, 8, resolution=3, expanded=24),
        block_spec("identity", 8, 12, resolution=3, kernel=1, expanded=8, activation="identity"),
    ]
    blocks = (kept, wider, *changes)
    head = HeadSpec(in_channels=12, width=0, hidden=0, activation="relu", dropout=0.0, classes=3, resolution=3)
    network = Network(
        NetworkSpec(
            resolution=6,
            in_channels=3,
            stem=ConvSpec(in_channels=3, out_channels=8, kernel=3, stride=1, activation="relu", resolution=6),
            blocks=blocks,
            head=head,
        )
    )
    initialise(network, zero_last=True)
    network.eval()
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(network.blocks[0](x), x)
    torch.testing.assert_close(network.blocks[1](x), F.relu(network.blocks[1].shortcut(x) / math.sqrt(1 + 1e-5)))
    for block in network.blocks[2:]:  # they have no shortcut to start as
        assert block.project_norm.weight.all()
    initialise(network)
    assert all(block.project_norm.weight.all() for block in network.blocks)
