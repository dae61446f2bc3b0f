"""Laws 2 and 7: tables, closed forms, built networks, thop and torch's counter agree; SE costs exactly its formula."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from se_nas.cost.counts import block_counts, network_counts
from se_nas.cost.cross_check import cross_check_counts
from se_nas.cost.metrics import METRICS
from se_nas.cost.table import count_tables
from se_nas.layers.network import Network
from se_nas.space.architecture import Architecture
from se_nas.space.attention import ATTENTION
from se_nas.space.attention.eca import eca_kernel
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec, SESpec
from se_nas.space.vocabulary import Position, Squeeze
from se_nas.space.yaml.file import load_space
from tests.helpers.example_blocks import block_spec
from tests.helpers.strategies import spaces_with_architectures
from tests.helpers.thop_counts import thop_counts
from tests.laws.shipped import SHIPPED


def check_every_count(space: SearchSpace, architecture: Architecture) -> None:
    spec = space.resolve(architecture)
    counts = network_counts(spec)
    tables = count_tables(space)
    assert tables["macs"].cost(architecture) == counts.macs
    assert tables["params"].cost(architecture) == counts.params
    network = Network(spec).eval()
    for name, metric in METRICS.items():
        if metric.counted:
            assert tables[name].cost(architecture) == metric.of(spec)
            assert metric.built is None or metric.built(network) == metric.of(spec)
    assert sum(p.numel() for p in network.parameters()) == counts.params
    assert torch_macs(network, spec) == counts.macs
    check = cross_check_counts(network, spec)
    assert check.agree, check
    assert (check.built_macs, check.built_params) == (counts.macs, counts.params)
    if importlib.util.find_spec("thop"):
        assert thop_counts(network, spec) == counts


def torch_macs(network: Network, spec: NetworkSpec) -> int:
    """Multiply-accumulates of convolutions and matrix products as torch sees them run; it counts nothing else here."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, spec.in_channels, spec.resolution, spec.resolution))
    operations = counter.get_total_flops()
    assert operations % 2 == 0
    return operations // 2


@given(spaces_with_architectures())
def test_every_count_agrees(drawn: tuple[SearchSpace, Architecture]) -> None:
    check_every_count(*drawn)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_count_agrees_in_the_shipped_spaces(path) -> None:
    space = load_space(path)
    check_every_count(space, space.sample(np.random.default_rng(0)))


def test_cross_check_leaves_the_network_alone_and_sees_a_wrong_specification(tiny_space: SearchSpace) -> None:
    first, *_, last = tiny_space.enumerate()
    network = Network(tiny_space.resolve(first)).train()
    before = [name for name, _ in network.named_buffers()]
    assert cross_check_counts(network, network.spec).agree
    assert not cross_check_counts(network, tiny_space.resolve(last)).agree
    assert [name for name, _ in network.named_buffers()] == before
    assert all(layer.training and not layer._forward_hooks for layer in network.modules())


@settings(max_examples=60)
@given(
    kind=st.sampled_from(("mbconv", "bottleneck")),
    ratio=st.sampled_from((1, 1.5, 2, 4, 16, 1000)),
    ratio_of=st.sampled_from(("block_input", "expanded", "block_output")),
    divisor=st.sampled_from((1, 8)),
    position=st.sampled_from(get_args(Position)),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 99)),
)
def test_se_adds_exactly_its_formula(kind, ratio, ratio_of, divisor, position, channels) -> None:
    block_input, block_output, expanded = channels
    plain = block_spec(kind, block_input, block_output, resolution=4, expanded=expanded)
    unit = SESpec(ratio=ratio, ratio_of=ratio_of, divisor=divisor, position=position)
    excited = dataclasses.replace(plain, se=unit)
    hidden = unit.hidden(block_input, expanded, block_output)
    scaled = {"inside": expanded, "pre": block_input}.get(position, block_output)
    assert hidden >= 1
    extra = block_counts(excited).params - block_counts(plain).params
    assert extra == 2 * scaled * hidden + scaled + hidden
    assert block_counts(excited).macs - block_counts(plain).macs == 2 * scaled * hidden


@given(
    spaces_with_architectures(),
    st.sampled_from(list(ATTENTION)),
    st.sampled_from(("inside", "standard", "pre", "post")),
    st.sampled_from(get_args(Squeeze)),
)
def test_attention_in_one_block_of_a_network_adds_exactly_its_formula(
    drawn: tuple[SearchSpace, Architecture], kind: str, position: Position, squeeze: Squeeze
) -> None:
    space, architecture = drawn
    spec = space.resolve(architecture)
    places = [i for i, block in enumerate(spec.blocks) if block.kind != "identity"]
    for i in places[:2]:
        plain, excited = (
            dataclasses.replace(
                spec,
                blocks=(*spec.blocks[:i], dataclasses.replace(spec.blocks[i], se=se), *spec.blocks[i + 1 :]),
            )
            for se in (None, SESpec(ratio=4, position=position, squeeze=squeeze, kind=kind))
        )
        channels, hidden = excited.blocks[i].se_channels, excited.blocks[i].se_hidden
        linears = 2 * channels * hidden + channels + hidden
        formula = {
            "se": linears,
            "eca": eca_kernel(channels),
            "ese": channels**2 + channels,
            "cbam": linears + 2 * 7**2 + 1,
            "spatial": 2 * 7**2 + 1,
        }
        networks = [Network(s).eval() for s in (plain, excited)]
        built = [sum(p.numel() for p in network.parameters()) for network in networks]
        assert built[1] - built[0] == formula[kind]
        assert network_counts(excited).params - network_counts(plain).params == built[1] - built[0]
        assert torch_macs(networks[1], excited) == network_counts(excited).macs
        assert cross_check_counts(networks[1], excited).agree
