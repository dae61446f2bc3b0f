"""What a specification derives from its fields."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest

from se_nas.space.attention import ATTENTION
from se_nas.space.blocks.shape import BlockForm
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec, SESpec
from se_nas.space.vocabulary import Position, RatioOf
from tests.helpers.example_blocks import block_spec

BLOCK = block_spec("mbconv", 16, 24, stride=2, resolution=9, expanded=64)


@pytest.mark.parametrize(
    ("ratio_of", "divisor", "expected"),
    [("block_input", 1, 4), ("expanded", 1, 16), ("block_output", 1, 6), ("block_output", 8, 8), ("expanded", 24, 24)],
)
def test_what_the_ratio_divides(ratio_of: RatioOf, divisor: int, expected: int) -> None:
    block = dataclasses.replace(BLOCK, se=SESpec(ratio=4, ratio_of=ratio_of, divisor=divisor))
    assert block.se_hidden == expected


def test_what_se_scales() -> None:
    found = {p: dataclasses.replace(BLOCK, se=SESpec(ratio=4, position=p)) for p in get_args(Position)}
    channels = {"inside": 64, "standard": 24, "pre": 16, "post": 24, "identity": 24}
    assert {p: block.se_channels for p, block in found.items()} == channels
    sides = {"inside": 5, "standard": 5, "pre": 9, "post": 5, "identity": 5}
    assert {p: block.se_resolution for p, block in found.items()} == sides
    assert (BLOCK.se_channels, BLOCK.se_hidden, BLOCK.se_built) == (0, 0, None)


@pytest.mark.parametrize("kind", ATTENTION)
def test_what_a_unit_is_built_of(kind: str) -> None:
    unit = SESpec(ratio=4, kind=kind)
    assert unit.hidden(16, 64, 24) == (16 if kind in ("se", "cbam") else 0)

    def built(**changed: Any) -> object:
        return dataclasses.replace(BLOCK, se=dataclasses.replace(unit, **changed)).se_built

    same = {
        "ratio": built(ratio=8) == built(),
        "squeeze": built(squeeze="max") == built(),
        "activation": built(activation="silu") == built(),
        "gate": built(gate="tanh") == built(),
        "position": built(position="pre") == built(),
    }
    unread = {
        "ratio": kind not in ("se", "cbam"),
        "squeeze": kind in ("cbam", "spatial"),
        "activation": kind not in ("se", "cbam"),
    }
    assert same == {**unread, "gate": False, "position": False}
    others = (other for other in ATTENTION if other != kind)
    assert all(built(kind=other) != built() for other in others)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (SESpec(ratio=4, squeeze="max"), "SE ratio 4 (64 to 16 channels) of maxima"),
        (
            SESpec(ratio=4, squeeze="none", position="pre"),
            "SE ratio 4 (16 to 16 channels) at every position before the block",
        ),
        (SESpec(ratio=1, kind="eca"), "ECA of 3 neighbours (64 channels)"),
        (SESpec(ratio=1, kind="ese", position="post"), "effective SE (24 channels) after the sum"),
        (SESpec(ratio=4, kind="cbam", squeeze="max"), "CBAM ratio 4 (64 to 16 channels)"),
        (SESpec(ratio=1, kind="spatial", position="identity"), "spatial attention on the shortcut"),
    ],
)
def test_words_of_attention(unit: SESpec, words: str) -> None:
    assert dataclasses.replace(BLOCK, se=unit).words().endswith(f", {words}")


def test_a_stride_rounds_the_side_up() -> None:
    assert BLOCK.out_resolution == 5
    assert not BLOCK.keeps_shape
    assert dataclasses.replace(BLOCK, stride=1, out_channels=16).keeps_shape
    assert not dataclasses.replace(BLOCK, stride=1).keeps_shape


@pytest.mark.parametrize(("resolution", "conv", "pooled"), [(224, 112, 56), (9, 5, 3), (1, 1, 1)])
def test_pooling_halves_the_side_again(resolution: int, conv: int, pooled: int) -> None:
    stem = ConvSpec(in_channels=3, out_channels=8, kernel=7, stride=2, activation="relu", resolution=resolution)
    assert (stem.conv_resolution, stem.out_resolution) == (conv, conv)
    assert dataclasses.replace(stem, pool=True).out_resolution == pooled


@pytest.mark.parametrize(("width", "hidden", "features"), [(0, 0, 24), (96, 0, 96), (0, 50, 50), (96, 50, 50)])
def test_inputs_of_the_classifier(width: int, hidden: int, features: int) -> None:
    assert (
        HeadSpec(
            in_channels=24, width=width, hidden=hidden, activation="relu", dropout=0.0, classes=10, resolution=4
        ).features
        == features
    )


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (BLOCK, "MBConv kernel 3, 64 expanded channels, 16 to 24 channels at 9x9, stride 2, relu, no SE"),
        (
            dataclasses.replace(BLOCK, se=SESpec(ratio=2.5)),
            "MBConv kernel 3, 64 expanded channels, 16 to 24 channels at 9x9, stride 2, relu, "
            "SE ratio 2.5 (64 to 24 channels)",
        ),
        (
            block_spec(
                "bottleneck",
                64,
                256,
                resolution=56,
                expanded=64,
                se=SESpec(ratio=16, ratio_of="block_output", position="standard"),
            ),
            "bottleneck kernel 3, 64 middle channels, 64 to 256 channels at 56x56, relu, "
            "SE ratio 16 (256 to 16 channels)",
        ),
        (
            block_spec(
                "bottleneck",
                8,
                12,
                resolution=4,
                expanded=8,
                form=BlockForm(group_width=4, entry=0.5, stride_at="1x1", shortcut="conv3x3", preactivation=True),
            ),
            "bottleneck kernel 3, 8 middle channels, 8 to 12 channels at 4x4, relu, groups of 4 channels, "
            "1x1 convolution to 0.5 of them, stride in the 1x1 convolution, 3x3 shortcut, pre-activation, no SE",
        ),
        (
            block_spec("basic", 8, 12, stride=2, resolution=4, expanded=8, form=BlockForm(shortcut="pooled")),
            "basic block kernel 3, 8 middle channels, 8 to 12 channels at 4x4, stride 2, relu, pooled shortcut, no SE",
        ),
        (
            block_spec("mbconv", 8, 8, resolution=4, expanded=8, form=BlockForm(always_expands=True, skip=False)),
            "MBConv kernel 3, 8 expanded channels, 8 to 8 channels at 4x4, relu, "
            "expansion convolution at expansion 1 too, no shortcut, no SE",
        ),
        (
            block_spec(
                "mbconv",
                8,
                12,
                resolution=4,
                kernel=7,
                expanded=24,
                form=BlockForm(mixed_kernels=(3, 5, 7), expand_parts=2, project_parts=2),
            ),
            "MBConv kernel 7, 24 expanded channels, 8 to 12 channels at 4x4, relu, mixed kernels 3, 5, 7, "
            "expansion of 2 parts, projection of 2 parts, no SE",
        ),
        (
            block_spec("conv", 8, 12, stride=2, resolution=4, expanded=12),
            "convolution kernel 3, 8 to 12 channels at 4x4, stride 2, relu, no SE",
        ),
        (
            block_spec(
                "shuffle", 8, 24, stride=2, resolution=4, expanded=6, form=BlockForm(groups=2, dense_reduction=True)
            ),
            "ShuffleNet unit kernel 3, 6 middle channels, 8 to 24 channels at 4x4, stride 2, relu, 2 groups, "
            "first convolution dense, no SE",
        ),
        (
            block_spec(
                "inception", 8, 14, resolution=4, expanded=14, form=BlockForm(branches=((4,), (2, 6)), pool_width=4)
            ),
            "Inception module kernel 3, 8 to 14 channels at 4x4, relu, branches of 4, 2-6, "
            "mean pooling to 4 channels, no SE",
        ),
        (
            block_spec("identity", 8, 8, resolution=4, kernel=1, expanded=8, activation="identity"),
            "identity, 8 to 8 channels at 4x4",
        ),
        (
            block_spec("identity", 8, 8, stride=2, resolution=4, kernel=1, expanded=8, activation="identity"),
            "1x1 convolution, 8 to 8 channels at 4x4, stride 2",
        ),
    ],
)
def test_words(block: BlockSpec, words: str) -> None:
    assert block.words() == words
