"""Law 2 of memory: weights and live activations, by closed form, are those of the exported graph and of torch's run."""

from __future__ import annotations

import dataclasses
import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from se_nas.cost.metrics import FLOAT_BYTES, METRICS, PEAK
from se_nas.cost.peak_activation import block_peak
from se_nas.cost.running_schedule import schedule_of
from se_nas.layers.blocks import Block
from se_nas.layers.network import Network
from se_nas.space.architecture import Architecture
from se_nas.space.attention import ATTENTION
from se_nas.space.attention.kind import AttentionKind
from se_nas.space.blocks import BLOCKS
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec, NetworkSpec, SESpec
from se_nas.space.vocabulary import Position, Squeeze
from se_nas.space.yaml.file import load_space
from tests.helpers.example_blocks import example
from tests.helpers.onnx_live import exported, live_numbers, weight_numbers
from tests.helpers.strategies import spaces_with_architectures
from tests.laws.shipped import BASELINES, SHIPPED, reduced

POSITIONS = get_args(Position)


def check_on_the_exported_graph(spec: NetworkSpec) -> None:
    graph = exported(Network(spec))
    assert METRICS["weight_bytes"].of(spec) == FLOAT_BYTES * weight_numbers(graph)
    assert METRICS[PEAK].of(spec) == FLOAT_BYTES * live_numbers(graph)


def peak_by_running(block: BlockSpec) -> int:
    with torch.device("meta"):
        module = Block(block).eval()
        image = torch.empty(1, block.in_channels, block.resolution, block.resolution)
    schedule, output = schedule_of(module, image)
    return schedule.peak(output)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_memory_of_the_shipped_spaces_is_that_of_the_exported_graph(path) -> None:
    space = reduced(load_space(path))
    check_on_the_exported_graph(space.resolve(space.sample(np.random.default_rng(0))))


@pytest.mark.slow
@pytest.mark.parametrize("path", [*SHIPPED, *BASELINES], ids=lambda path: path.stem)
def test_memory_of_whole_networks_is_that_of_the_exported_graph(path) -> None:
    space = load_space(path)
    space = dataclasses.replace(space, resolution=min(*space.resolutions, 64))
    for seed in range(3 if space.size > 1 else 1):
        spec = space.resolve(space.sample(np.random.default_rng(seed)))
        if not spec.stem.norm and spec.blocks[0].form.preactivation:
            continue  # the exporter folds the first block's norm into the stem too
        check_on_the_exported_graph(spec)


@settings(max_examples=3)
@given(spaces_with_architectures())
def test_memory_of_drawn_networks_is_that_of_the_exported_graph(drawn: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = drawn
    spec = space.resolve(architecture)
    graph = exported(Network(spec))
    assert METRICS[PEAK].of(spec) == FLOAT_BYTES * live_numbers(graph)


def check_attention(kind: str, attention: str, squeeze: Squeeze, position: Position, stride: int) -> None:
    unit = SESpec(ratio=2, divisor=1, kind=attention, squeeze=squeeze, position=position)
    block = example(kind, stride=stride, se=unit)
    if position != "identity" or block.has_sum:
        assert block_peak(block) == peak_by_running(block), block


def test_attention_of_every_kind_in_every_kind_of_block_is_as_torch_runs_it() -> None:
    for number, (kind, attention) in enumerate(itertools.product(BLOCKS, ATTENTION)):
        squeeze, position = get_args(Squeeze)[number % 3], POSITIONS[number // 2 % 5]
        check_attention(kind, attention, squeeze, position, 1 + number % 2)


@pytest.mark.slow
@pytest.mark.parametrize("squeeze", get_args(Squeeze))
def test_attention_at_every_place_is_as_torch_runs_it(squeeze: Squeeze) -> None:
    for kind, attention, position, stride in itertools.product(BLOCKS, ATTENTION, POSITIONS, (1, 2)):
        check_attention(kind, attention, squeeze, position, stride)


def test_one_worst_block_is_the_network_s_peak_and_more_blocks_raise_it_no_further(tiny_space: SearchSpace) -> None:
    spec = tiny_space.resolve(tiny_space.sample(np.random.default_rng(1)))
    peaks = [FLOAT_BYTES * block_peak(block) for block in spec.blocks]
    assert METRICS[PEAK].of(spec) == max(*peaks, METRICS[PEAK].fixed(spec.stem_convs, spec.head))
    worst = spec.blocks[int(np.argmax(peaks))]
    assert METRICS[PEAK].of(dataclasses.replace(spec, blocks=(*spec.blocks, worst))) == METRICS[PEAK].of(spec)


def test_the_peak_of_a_residual_block_is_what_a_person_counts() -> None:
    """An MBConv of 6 channels, expanded to 12, on 7x7: its input waits for the sum while 12 channels become 12."""
    block = dataclasses.replace(example("mbconv"), out_channels=6)
    assert block_peak(block) == (6 + 12 + 12) * 49
    assert block_peak(dataclasses.replace(block, stride=2)) == max(6 + 12, 12 + 12 / 49 * 16) * 49


def test_attention_of_a_plugin_is_counted_as_torch_runs_it() -> None:
    class Doubling(torch.nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(channels, 2 * channels, 1)
            self.register_buffer("table", torch.zeros(5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            wide: torch.Tensor = self.conv(x)
            return x * wide.mean(1, keepdim=True)

    kind = AttentionKind(name="doubling", title="doubling", layer=lambda unit: Doubling(unit.channels))
    ATTENTION["doubling"] = kind
    try:
        block = example("conv", se=SESpec(ratio=1, kind="doubling", position="standard"))
        weights = METRICS["weight_bytes"].block
        assert weights is not None
        assert block_peak(block) == (10 + 20 + 1) * 49
        assert block_peak(block) == peak_by_running(block)
        plain = dataclasses.replace(block, se=None)
        assert weights(block) - weights(plain) == FLOAT_BYTES * (10 * 20 + 20 + 5)
    finally:
        del ATTENTION["doubling"]
