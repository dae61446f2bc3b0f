"""Channels in the order of their importance, and which channels of a network may be put in another order at all."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from se_nas.layers.network import Network
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from se_nas.supernet.warm_start.channels import channel_groups
from se_nas.supernet.warm_start.sorting import sort_channels
from tests.laws.families import FAMILIES, family_space


def with_widths(se: str | int = 2) -> SearchSpace:
    stage = {"stride": 2, "depth": 2, "kernel": 3, "expansion": [2, 4], "se": {"options": [se], "divisor": 4}}
    stages = [{**stage, "width": [8, 16]}, {**stage, "width": 16}]
    return parse_space(
        {"name": "widths", "resolution": 16, "classes": 4, "stem": {"width": [8, 16]}, "stages": stages}, "here"
    )


def largest(space: SearchSpace) -> Any:
    return space.architecture({choice.name: choice.options[-1] for choice in space.choices})


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_with_its_free_channels_in_any_order_computes_what_it_did(name: str) -> None:
    torch.manual_seed(0)
    space = family_space(name, "pre" if "mbconv" in name else "standard")
    spec = space.resolve(space.architecture({choice.name: choice.options[-1] for choice in space.choices}))
    network = Network(spec).double().eval()
    image = torch.randn(2, spec.in_channels, spec.resolution, spec.resolution, dtype=torch.float64)
    state = network.state_dict()
    for value in state.values():
        if value.dim() == 1:
            torch.nn.init.uniform_(value, 0.5, 1.5)
    with torch.no_grad():
        expected = network(image)
        groups = channel_groups(spec)
        for group in groups:
            size = state[group.uses[0].tensor].shape[group.uses[0].dim]
            order = torch.randperm(size)
            for use in group.uses:
                state[use.tensor].copy_(state[use.tensor].index_select(use.dim, order))
        assert torch.allclose(network(image), expected, atol=1e-9)
    assert groups


def test_the_channels_that_weigh_most_come_first_in_expansions_widths_and_hidden_units() -> None:
    space = with_widths()
    network = Network(space.resolve(largest(space))).eval()
    touched = sort_channels(network, space, largest(space))
    blocks = cast(Any, network.blocks)
    for weight in (blocks[0].project.weight, blocks[3].project.weight, blocks[1].se.expand.weight):
        weights = weight.abs().transpose(0, 1).flatten(1).sum(1)
        assert torch.equal(weights, weights.sort(descending=True).values)
    of_stage = blocks[1].expand.weight.abs().sum((0, 2, 3)) + blocks[2].expand.weight.abs().sum((0, 2, 3))
    assert torch.equal(of_stage, of_stage.sort(descending=True).values)
    assert "blocks.3.project_norm.weight" not in touched  # of a stage with one width
    assert {"stem.conv.weight", "blocks.1.project_norm.running_mean", "blocks.0.depthwise.weight"} <= touched


def test_a_channel_whose_gate_is_shut_comes_last_however_much_weighs_what_reads_it() -> None:
    space = with_widths()
    torch.manual_seed(0)
    network = Network(space.resolve(largest(space))).eval()
    block = cast(Any, network.blocks)[0]
    with torch.no_grad():
        block.project.weight[:, 3] *= 100
        block.se.expand.bias[3] = -50
        kept = block.depthwise.weight[3].clone()
    images = [torch.randn(4, 3, 16, 16)]
    sort_channels(network, space, largest(space), images)
    assert torch.equal(block.depthwise.weight[-1], kept)
