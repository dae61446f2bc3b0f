"""Closed forms against numbers worked out by hand."""

from __future__ import annotations

import dataclasses

import pytest

from se_nas.cost.counts import (
    attention_counts,
    block_counts,
    conv_norm_counts,
    head_counts,
    network_counts,
    stem_counts,
)
from se_nas.space.blocks.shape import BlockForm
from se_nas.space.counts import Counts, linear_counts
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec, NetworkSpec, SESpec
from tests.helpers.example_blocks import block_spec, head_of_every_part


def test_parts() -> None:
    assert conv_norm_counts(3, 16, 3, 10) == Counts(3 * 16 * 9 * 100, 3 * 16 * 9 + 32)
    assert linear_counts(7, 5) == Counts(35, 40)


ATTENTION = {
    "se": Counts(2 * 96 * 24, 2 * 96 * 24 + 96 + 24),
    "eca": Counts(3 * 96, 3),  # (log2(96) + 1) / 2 is 3.8
    "ese": Counts(96 * 96, 96 * 96 + 96),
    "spatial": Counts(98 * 16, 98 + 1),
    "cbam": Counts(4 * 96 * 24 + 98 * 16, 2 * 96 * 24 + 96 + 24 + 98 + 1),
}
"""Of 96 channels on 4x4 positions, with 24 hidden units."""


@pytest.mark.parametrize("kind", ATTENTION)
def test_attention(kind: str) -> None:
    block = block_spec("mbconv", 16, 20, stride=2, resolution=8, expanded=96)
    assert attention_counts(block) == Counts(0, 0)
    assert attention_counts(dataclasses.replace(block, se=SESpec(ratio=4, kind=kind))) == ATTENTION[kind]


@pytest.mark.parametrize("kind", ["se", "eca", "ese"])
def test_without_a_squeeze_the_maps_run_at_every_position(kind: str) -> None:
    block = block_spec(
        "mbconv", 16, 20, stride=2, resolution=8, expanded=96, se=SESpec(ratio=4, squeeze="none", kind=kind)
    )
    assert attention_counts(block) == Counts(16 * ATTENTION[kind].macs, ATTENTION[kind].params)
    before = dataclasses.replace(block, se=SESpec(ratio=1, ratio_of="block_input", squeeze="none", position="pre"))
    assert attention_counts(before) == Counts(64 * 2 * 16 * 16, 2 * 16 * 16 + 32)


def test_an_inverted_residual() -> None:
    block = block_spec("mbconv", 8, 12, stride=2, expanded=16)
    expand, depthwise, project = 8 * 16, 16 * 9, 16 * 12
    norms = 2 * (16 + 16 + 12)
    assert block_counts(block) == Counts(expand * 49 + (depthwise + project) * 16, expand + depthwise + project + norms)
    excited = dataclasses.replace(block, se=SESpec(ratio=4, divisor=1))
    assert block_counts(excited) == block_counts(block) + Counts(2 * 16 * 4, 2 * 16 * 4 + 16 + 4)


def test_without_expansion_there_is_no_expansion_convolution() -> None:
    block = block_spec("mbconv", 8, 8, resolution=4, kernel=5, expanded=8)
    assert block_counts(block) == Counts((8 * 25 + 64) * 16, 8 * 25 + 64 + 2 * 16)


def test_a_bottleneck() -> None:
    block = block_spec("bottleneck", 8, 12, stride=2, expanded=6)
    reduce, spatial, project, shortcut = 8 * 6, 6 * 6 * 9, 6 * 12, 8 * 12
    norms = 2 * (6 + 6 + 12 + 12)
    macs = reduce * 49 + (spatial + project + shortcut) * 16
    assert block_counts(block) == Counts(macs, reduce + spatial + project + shortcut + norms)
    kept = dataclasses.replace(block, in_channels=12, stride=1)
    weights = 12 * 6 + spatial + project
    assert block_counts(kept) == Counts(weights * 49, weights + 2 * (6 + 6 + 12))
    excited = dataclasses.replace(kept, se=SESpec(ratio=4, ratio_of="block_output", divisor=1, position="standard"))
    assert block_counts(excited) == block_counts(kept) + Counts(2 * 12 * 3, 2 * 12 * 3 + 12 + 3)


def test_pooling_after_the_stem_costs_nothing() -> None:
    stem = ConvSpec(in_channels=3, out_channels=8, kernel=3, stride=2, activation="relu", resolution=9)
    assert stem_counts([dataclasses.replace(stem, pool=True)]) == stem_counts([stem])
    assert stem_counts([stem]).macs == 3 * 8 * 9 * 25


def test_identity_costs_nothing_or_its_projection() -> None:
    kept = block_spec("identity", 8, 8, resolution=5, kernel=1, expanded=8, activation="identity")
    assert block_counts(kept) == Counts(0, 0)
    assert block_counts(dataclasses.replace(kept, stride=2)) == Counts(64 * 9, 64 + 16)
    assert block_counts(dataclasses.replace(kept, out_channels=4)) == Counts(32 * 25, 32 + 8)


def test_heads() -> None:
    head = HeadSpec(in_channels=24, width=0, hidden=0, activation="relu", dropout=0.0, classes=10, resolution=4)
    assert head_counts(head) == Counts(240, 250)
    with_conv = dataclasses.replace(head, width=64)
    assert head_counts(with_conv) == Counts(24 * 64 * 16 + 640, 24 * 64 + 128 + 650)
    with_both = dataclasses.replace(with_conv, hidden=32)
    assert head_counts(with_both) == Counts(24 * 64 * 16 + 64 * 32 + 320, 24 * 64 + 128 + 65 * 32 + 330)


def test_a_network_is_the_sum_of_its_parts() -> None:
    block = block_spec("mbconv", 8, 8, resolution=4, expanded=16)
    head = HeadSpec(in_channels=8, width=0, hidden=0, activation="relu", dropout=0.0, classes=10, resolution=4)
    spec = NetworkSpec(
        resolution=8,
        in_channels=3,
        stem=ConvSpec(in_channels=3, out_channels=8, kernel=3, stride=2, activation="relu", resolution=8),
        blocks=(block, block),
        head=head,
    )
    stem = conv_norm_counts(3, 8, 3, 4)
    assert network_counts(spec) == stem + block_counts(block) + block_counts(block) + head_counts(head)


@pytest.mark.parametrize(
    ("block", "macs", "weights", "others"),
    [
        (  # 3x3 of stride 2, 3x3, shortcut 1x1
            block_spec("basic", 8, 12, stride=2, expanded=10),
            (8 * 10 * 9 + 10 * 12 * 9 + 8 * 12) * 16,
            8 * 10 * 9 + 10 * 12 * 9 + 8 * 12,
            2 * (10 + 12 + 12),
        ),
        (  # the first norm is of the input, and none is after the last convolution or the shortcut
            block_spec("basic", 8, 12, stride=2, expanded=10, form=BlockForm(preactivation=True)),
            (8 * 10 * 9 + 10 * 12 * 9 + 8 * 12) * 16,
            8 * 10 * 9 + 10 * 12 * 9 + 8 * 12,
            2 * (8 + 10),
        ),
        (
            block_spec("basic", 8, 12, stride=2, expanded=10, form=BlockForm(shortcut="pad")),
            (8 * 10 * 9 + 10 * 12 * 9) * 16,
            8 * 10 * 9 + 10 * 12 * 9,
            2 * (10 + 12),
        ),
        (  # two groups of four channels each, of the two that the 1x1 puts out for each; 3x3 shortcut
            block_spec(
                "bottleneck",
                8,
                12,
                stride=2,
                expanded=8,
                form=BlockForm(group_width=4, entry=0.5, stride_at="1x1", shortcut="conv3x3"),
            ),
            (8 * 4 + 2 * 8 * 9 + 8 * 12 + 8 * 12 * 9) * 16,
            8 * 4 + 2 * 8 * 9 + 8 * 12 + 8 * 12 * 9,
            2 * (4 + 8 + 12 + 12),
        ),
        (
            block_spec("conv", 8, 12, stride=2, expanded=12),
            8 * 12 * 9 * 16,
            8 * 12 * 9,
            12 + 2 * 12,
        ),
        (
            block_spec("separable", 8, 12, stride=2, expanded=8),
            (72 + 96) * 16,
            72 + 96,
            2 * (8 + 12),
        ),
        (
            block_spec("fused_mbconv", 8, 12, stride=2, expanded=16),
            (8 * 16 * 9 + 16 * 12) * 16,
            8 * 16 * 9 + 16 * 12,
            2 * (16 + 12),
        ),
        (  # two groups; what is put behind the pooled input is 12 channels
            block_spec("shuffle", 8, 20, stride=2, expanded=6, form=BlockForm(groups=2)),
            4 * 6 * 49 + (6 * 9 + 3 * 12) * 16,
            4 * 6 + 6 * 9 + 3 * 12,
            2 * (6 + 6 + 12),
        ),
        (
            block_spec(
                "inception", 8, 15, resolution=4, expanded=15, form=BlockForm(branches=((4,), (2, 6)), pool_width=5)
            ),
            (8 * 4 + 8 * 2 + 2 * 6 * 9 + 8 * 5) * 16,
            8 * 4 + 8 * 2 + 2 * 6 * 9 + 8 * 5,
            2 * (4 + 2 + 6 + 5),
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, BlockSpec) else "",
)
def test_other_families(block: BlockSpec, macs: int, weights: int, others: int) -> None:
    assert block_counts(block) == Counts(macs, weights + others)


def test_a_stem_and_a_head_of_every_part() -> None:
    first = ConvSpec(
        in_channels=3, out_channels=8, kernel=3, stride=2, activation="relu", resolution=9, pool=True, bias=True
    )
    second = ConvSpec(
        in_channels=8,
        out_channels=6,
        kernel=1,
        stride=1,
        activation="relu",
        resolution=first.out_resolution,
        norm=False,
    )
    assert stem_counts([first, second]) == Counts(216 * 25 + 48 * 9, 216 + 3 * 8 + 48)
    head = head_of_every_part(
        in_channels=24, width=6, hidden=32, activation="relu", dropout=0.0, classes=10, resolution=3
    )
    linears = 24 * 32 + 32 * 32 + 32 * 10  # of 6 channels at 2x2
    params = 2 * 24 + 24 * 6 + 12 + linears + 32 + 32 + 10
    assert head_counts(head) == Counts(24 * 6 * 4 + linears, params)
