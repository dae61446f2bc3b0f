"""Scaling to another data set: every pick by its value, the rest as the scaling says, and no other space for it."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from se_nas.cost.counts import network_counts
from se_nas.errors import ArchitectureError, ConfigError
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, network_for
from se_nas.space.channels import round_channels
from se_nas.space.scaling import resolve_scaled, scaled_to
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import Scaling
from se_nas.space.yaml.file import dump_space, load_space, parse_space
from tests.conftest import TINY_SPACE
from tests.helpers.strategies import spaces_with_architectures

ROOT = Path(__file__).parents[2]


def with_scaling(**scaling: Any) -> dict[str, Any]:
    return {**copy.deepcopy(TINY_SPACE), "scaling": {"imagenet": scaling}}


@st.composite
def scaled_spaces(draw: st.DrawFn) -> tuple[SearchSpace, Architecture]:
    """A space with a scaling, and an architecture of the space."""
    space, architecture = draw(spaces_with_architectures())
    # their channels fit one width and stride alone
    bound = any(op.kind in ("inception", "shuffle") for stage in space.stages for op in stage.ops)
    strides = st.lists(st.sampled_from((1, 2)), min_size=len(space.stages), max_size=len(space.stages))
    several = len(space.resolutions) > 1 and draw(st.booleans())
    scaling = Scaling(
        "imagenet",
        draw(st.sampled_from(((16, 24), (64, 48)))) if several else draw(st.integers(8, 64)),
        draw(st.none() | st.integers(2, 1000)),
        draw(st.none() | st.sampled_from((1, 2))),
        None if bound else draw(st.none() | strides.map(tuple)),
        1.0 if bound else draw(st.sampled_from((0.5, 1.0, 1.5, 3.0))),
    )
    return dataclasses.replace(space, scaling=(scaling,)), architecture


@given(scaled_spaces())
def test_a_scaling_survives_the_yaml_and_is_no_part_of_the_digest(drawn: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = drawn
    text = dump_space(space)
    assert parse_space(yaml.safe_load(text), "dumped") == space
    assert dump_space(parse_space(yaml.safe_load(text), "dumped")) == text
    assert dataclasses.replace(space, scaling=()).digest == space.digest == architecture.space_digest


@given(spaces_with_architectures())
def test_scaling_to_the_same_size_changes_nothing(drawn: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = drawn
    same = dataclasses.replace(space, scaling=(Scaling("same", space.resolution),))
    assert scaled_to(same, "same") == space
    assert resolve_scaled(same, architecture, "same") == space.resolve(architecture)


@given(scaled_spaces())
def test_every_pick_carries_over_and_the_rest_is_the_scaling_s(drawn: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = drawn
    (scaling,) = space.scaling
    before, after = space.resolve(architecture), resolve_scaled(space, architecture, "imagenet")
    resolution = scaling.resolution
    if isinstance(resolution, tuple):  # for each of the space's its own
        resolution = resolution[space.resolutions.index(before.resolution)]
    assert (after.resolution, after.in_channels) == (resolution, before.in_channels)
    assert after.stem.stride == (scaling.stem_stride or before.stem.stride)
    assert after.head.classes == (scaling.classes or before.head.classes)
    assert after.head.hidden == before.head.hidden
    picks, strides = architecture.as_dict(), scaling.strides or tuple(stage.stride for stage in space.stages)
    places = [slot for slot in space.slots if slot.index < slot.depth.picked(picks)]
    assert [b.stride for b in after.blocks] == [strides[slot.stage] if slot.index == 0 else 1 for slot in places]

    def wider(width: int) -> int:
        return width if scaling.width == 1 else round_channels(width * scaling.width, space.channel_divisor)

    widths = [[conv.out_channels for conv in network.stem_convs] for network in (before, after)]
    # what is multiplied is the scaled width, which is rounded first
    slack = 0 if space.width_multiplier == (1,) else 2 * space.channel_divisor
    assert all(abs(new - wider(old)) <= slack for old, new in zip(*widths, strict=True))
    assert abs(after.head.width - wider(before.head.width)) <= slack if before.head.width else after.head.width == 0
    channels, resolution = after.stem_convs[-1].out_channels, after.stem_convs[-1].out_resolution
    for old, new in zip(before.blocks, after.blocks, strict=True):
        assert (new.kind, new.kernel, new.activation) == (old.kind, old.kernel, old.activation)
        on_shortcut = old.se is not None and old.se.position == "identity"
        # two widths may be one when scaled: the block then has a shortcut, where its SE was to stand
        gained = old.se is None and new.has_sum and not old.has_sum
        assert (gained and new.se and new.se.position == "identity") or (
            new.se == (None if on_shortcut and not new.has_sum else old.se)
        )
        assert (new.in_channels, new.resolution) == (channels, resolution)
        assert abs(new.out_channels - wider(old.out_channels)) <= slack
        channels, resolution = new.out_channels, new.out_resolution
    assert (after.head.in_channels, after.head.resolution) == (channels, resolution)


def test_the_tiny_space_at_another_size_by_hand() -> None:
    scaling = {"resolution": 64, "classes": 7, "stem_stride": 2, "strides": [2, 1], "width": 3}
    space = parse_space(with_scaling(**scaling), "tiny")
    *_, largest = space.enumerate()
    network = resolve_scaled(space, largest, "imagenet")
    assert [(b.in_channels, b.expanded, b.out_channels, b.stride, b.resolution) for b in network.blocks] == [
        (24, 48, 24, 2, 32),
        (24, 48, 24, 1, 16),
        (24, 72, 48, 1, 16),
    ]
    assert [b.se_hidden for b in network.blocks] == [24, 24, 20]
    assert (network.stem.out_channels, network.head.in_channels, network.head.classes) == (24, 48, 7)


@pytest.mark.parametrize(("width", "small", "scaled"), [(4.0, (8, 8), (32, 16)), (0.25, (32, 16), (8, 8))])
def test_ratios_that_one_of_the_sizes_does_not_tell_apart(
    width: float, small: tuple[int, int], scaled: tuple[int, int]
) -> None:
    """Two ratios are one option where they give one hidden width; the network has the ratio that was picked."""
    channels = 16 if width > 1 else 64
    block = {"width": channels, "expansion": 1, "se": {"options": [2, 4]}}
    space = parse_space(
        {
            "name": "ratios",
            "resolution": 8,
            "stem": {"width": channels},
            "stages": [block],
            "scaling": {"imagenet": {"resolution": 8, "width": width}},
        },
        "ratios",
    )
    merged = small[0] == small[1]
    assert space.size == (1 if merged else 2)
    for number, architecture in enumerate(space.enumerate()):
        assert space.resolve(architecture).blocks[0].se_hidden == small[number]
        assert resolve_scaled(space, architecture, "imagenet").blocks[0].se_hidden == scaled[number]


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ({}, "scaling.imagenet.resolution: must be given"),
        ({"resolution": 0}, "scaling.imagenet.resolution: "),
        ({"resolution": 224, "size": 3}, "scaling.imagenet.size: unknown key"),
        ({"resolution": 224, "classes": 1}, "scaling.imagenet.classes: "),
        ({"resolution": 224, "stem_stride": 3}, "scaling.imagenet.stem_stride: "),
        ({"resolution": 224, "strides": [1, 3]}, "scaling.imagenet.strides[1]: "),
        ({"resolution": 224, "strides": [1]}, "scaling.imagenet.strides: must be one for each of the 2 stages, but "),
        ({"resolution": 224, "width": 0}, "scaling.imagenet.width: "),
        ({"resolution": 224, "width": float("inf")}, "scaling.imagenet.width: "),
    ],
)
def test_faults(scaling: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_space(with_scaling(**scaling), "space.yaml")
    assert str(error.value).startswith(f"space.yaml: {expected}")
    assert "\n" not in str(error.value)


def test_what_the_space_does_not_say(tiny_space: SearchSpace) -> None:
    architecture = next(tiny_space.enumerate())
    with pytest.raises(ArchitectureError, match="space tiny: `scaling:` must have imagenet, but it has none"):
        resolve_scaled(tiny_space, architecture, "imagenet")
    space = parse_space(with_scaling(resolution=64), "tiny")
    with pytest.raises(ArchitectureError, match="must have coco, but it has imagenet"):
        scaled_to(space, "coco")
    other = dataclasses.replace(architecture, space_digest="0")
    with pytest.raises(ArchitectureError, match="must be of this space"):
        resolve_scaled(space, other, "imagenet")


@pytest.mark.parametrize(("name", "middle"), [("mbconv_cifar", 216e6), ("mbconv_cifar_small", 143e6)])
def test_a_shipped_space_scales_to_a_mobile_size_with_a_feature_pyramid(name: str, middle: float) -> None:
    space, rng = load_space(ROOT / f"search_spaces/{name}.yaml"), np.random.default_rng(0)
    networks = [resolve_scaled(space, space.sample(rng), "imagenet") for _ in range(50)]
    for network in networks:
        sides = {network.stem.out_resolution, *(block.out_resolution for block in network.blocks)}
        assert sides == {112, 56, 28, 14, 7}
        assert (network.resolution, network.head.classes) == (224, 1000)
    assert np.median([network_counts(network).macs for network in networks]) == pytest.approx(middle, rel=0.05)


@pytest.mark.parametrize("result", ["cifar10_cpu", "cifar10_optuna"])
def test_a_committed_answer_is_still_of_its_space_and_scales(result: str) -> None:
    file = load_architecture(ROOT / f"runs/results/{result}/architecture.json")
    space = load_space(ROOT / f"search_spaces/{file.space_name}.yaml")
    again = ArchitectureFile.of(space, file.architecture)
    assert again.network == file.network
    assert network_for(again, "imagenet").resolution == 224
