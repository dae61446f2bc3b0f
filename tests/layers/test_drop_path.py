"""Stochastic depth: timm's draws and rates, off in evaluation, and nothing in a state dict."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from se_nas.layers.blocks import Block
from se_nas.layers.drop_path import DropPath
from se_nas.layers.network import Network
from se_nas.layers.torchvision_guard import import_timm
from se_nas.space.search_space import SearchSpace
from tests.helpers.example_blocks import block_spec

timm = import_timm()

RESIDUAL = block_spec("mbconv", 6, 6, resolution=5, expanded=12, activation="silu")


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("training", [True, False])
def test_it_is_timm_s(rate: float, training: bool) -> None:
    x = torch.randn(64, 3, 2, 2)
    ours, theirs = DropPath(rate).train(training), timm.layers.DropPath(rate).train(training)
    torch.manual_seed(0)
    expected, next_draw = theirs(x), torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(ours(x), expected)
    assert torch.equal(torch.rand(1), next_draw)


def test_an_image_s_branch_is_left_out_whole_or_scaled_up() -> None:
    torch.manual_seed(0)
    block = Block(RESIDUAL).train()
    x = torch.randn(2000, 6, 1, 1)
    branch = block(x) - x
    block.drop_path.rate = 0.25
    dropped = block(x) - x
    kept = dropped.flatten(1).any(1)
    assert 0.22 < 1 - kept.float().mean().item() < 0.28
    torch.testing.assert_close(dropped[kept], branch[kept] / 0.75, rtol=1e-3, atol=1e-5)


def test_only_a_block_with_a_skip_connection_has_it() -> None:
    for changed in ({"stride": 2}, {"out_channels": 8}):
        assert not any(isinstance(m, DropPath) for m in Block(dataclasses.replace(RESIDUAL, **changed)).modules())


def test_the_rates_of_a_network_are_timm_s(tiny_space: SearchSpace) -> None:
    """EfficientNet-B0's, on blocks at the same places."""
    theirs = timm.create_model("efficientnet_b0", drop_path_rate=0.2)
    blocks = [block for stage in theirs.blocks for block in stage]
    *_, architecture = tiny_space.enumerate()
    spec = tiny_space.resolve(architecture)
    network = Network(dataclasses.replace(spec, blocks=(dataclasses.replace(spec.blocks[0]),) * len(blocks)))
    assert all(block.spec.keeps_shape for block in network.blocks)
    network.set_drop_path(0.2)
    skips = [(block, plain) for block, plain in zip(network.blocks, blocks, strict=True) if plain.has_skip]
    assert len(skips) == 9
    for ours, plain in skips:
        assert ours.drop_path.rate == pytest.approx(plain.drop_path.drop_prob)
    assert network.blocks[0].drop_path.rate == 0


def test_it_changes_training_alone_and_no_state_dict(tiny_space: SearchSpace) -> None:
    torch.manual_seed(0)
    *_, architecture = tiny_space.enumerate()
    network = Network(tiny_space.resolve(architecture))
    plain = copy.deepcopy(network)
    network.set_drop_path(0.5)
    network.set_dropout(0.5)
    plain.load_state_dict(network.state_dict())
    assert list(plain.state_dict()) == list(network.state_dict())
    x = torch.randn(8, 1, 8, 8)
    assert torch.equal(network.eval()(x), plain.eval()(x))
    assert not torch.equal(network.train()(x), plain.train()(x))
    network.set_drop_path(0)
    network.set_dropout(0)
    assert torch.equal(network(x), plain(x))


def test_dropout_can_be_set(tiny_space: SearchSpace) -> None:
    network = Network(tiny_space.resolve(next(tiny_space.enumerate())))
    assert network.head.dropout.p == 0
    network.set_dropout(0.3)
    assert network.head.dropout.p == 0.3
    assert copy.deepcopy(network).head.dropout.p == 0.3
