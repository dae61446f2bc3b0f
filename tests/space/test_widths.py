"""Widths as choices: what they are called, what is refused, and how they carry over to other sizes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from se_nas.errors import ConfigError
from se_nas.space.choice import Choice, Place
from se_nas.space.scaling import resolve_scaled
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import dump_space, parse_space


def data_with(**more: Any) -> dict[str, Any]:
    stages = [{"width": [16, 24]}, {"width": [24, 32], "stride": 2, "depth": 2}]
    return {"name": "wide", "resolution": 8, "stem": {"width": [8, 16]}, "stages": stages, "head": {}, **more}


def space_with(**more: Any) -> SearchSpace:
    return parse_space(data_with(**more), "wide")


def faults(**more: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        space_with(**more)
    return [line.removeprefix("wide: ") for line in str(error.value).splitlines()]


def test_widths_of_stem_stages_and_head_are_choices_in_order_of_depth() -> None:
    space = space_with(head={"width": [48, 64], "hidden": [12, 20]})
    assert space.choices == (
        Choice(Place("stem", None, "width"), (8, 16)),
        Choice(Place(1, None, "width"), (16, 24)),
        Choice(Place(2, None, "width"), (24, 32)),
        Choice(Place("head", None, "width"), (48, 64)),
        Choice(Place("head", None, "hidden"), (12, 20)),
    )
    names = ["stem.width", "stage1.width", "stage2.width", "head.width", "head.hidden"]
    assert [choice.name for choice in space.choices] == names
    assert [Place.named(choice.name) for choice in space.choices] == [choice.place for choice in space.choices]
    assert space.size == 32
    network = space.resolve(space.architecture(dict(zip(space.choice_by_name, (8, 24, 32, 48, 20), strict=True))))
    channels = [network.stem.out_channels, *(block.out_channels for block in network.blocks), network.head.width]
    assert [*channels, network.head.hidden] == [8, 24, 32, 32, 48, 20]


def test_hidden_layers_are_multiplied_by_nothing_and_their_width_may_be_a_choice_beside_a_multiplier() -> None:
    space = space_with(stem={"width": 8}, stages=[{"width": 16}], head={"hidden": [12, 20]}, width_multiplier=[1, 2])
    network = space.resolve(space.architecture({"width_multiplier": 2, "head.hidden": 12}))
    assert (network.stem.out_channels, network.head.in_channels, network.head.hidden) == (16, 32, 12)
    assert (space.size, parse_space(yaml.safe_load(dump_space(space)), "again")) == (4, space)


def test_one_width_in_a_list_is_the_space_without_a_list() -> None:
    plain = {"stem": {"width": 8}, "stages": [{"width": 16}], "head": {"width": 32}}
    listed = {"stem": {"width": [8]}, "stages": [{"width": [16]}], "head": {"width": [32]}, "width_multiplier": [1.0]}
    assert space_with(**plain) == space_with(**listed)
    assert space_with(**plain).digest == space_with(**listed).digest


def test_a_choice_of_widths_survives_the_file_and_changes_the_digest() -> None:
    spaces = [space_with(), space_with(stem={"width": 16}), space_with(stem={"width": [16, 8]})]
    tied = {"stem": {"width": 16}, "stages": [{"width": 16}]}
    spaces += [space_with(**tied), *(space_with(**tied, width_multiplier=m) for m in (0.5, [0.5, 1], [1, 0.5]))]
    assert len({space.digest for space in spaces}) == len(spaces)
    for space in spaces:
        assert parse_space(yaml.safe_load(dump_space(space)), "again") == space


def test_ratios_that_differ_at_one_of_the_widths_are_two_options() -> None:
    """Hidden units of 64 channels: 32 and 16; of 16 channels, 8 and 8."""
    stage = {"se": {"options": ["none", 2, 4], "ratio_of": "block_output"}}
    narrow = space_with(stages=[{**stage, "width": 16}])
    both = space_with(stages=[{**stage, "width": [16, 64]}])
    assert narrow.choice_by_name["stage1.block1.se"].options == ("none", "r2")
    assert both.choice_by_name["stage1.block1.se"].options == ("none", "r2", "r4")
    picks = {"stem.width": 8, "stage1.width": 16, "stage1.block1.se": "r4"}
    assert both.architecture(picks)["stage1.block1.se"] == "r2"
    assert both.architecture(picks | {"stage1.width": 64})["stage1.block1.se"] == "r4"
    assert both.size == 2 * (2 + 3)


def test_the_scaling_multiplies_the_width_that_is_picked() -> None:
    space = space_with(
        stages=[{"width": [8, 16, 24]}],
        head={"width": [48, 64]},
        scaling={"imagenet": {"resolution": 32, "width": 0.5}},
    )
    picks = {"stem.width": 16, "stage1.width": 24, "head.width": 48}
    network = resolve_scaled(space, space.architecture(picks), "imagenet")
    assert [network.stem.out_channels, network.blocks[0].out_channels, network.head.width] == [8, 16, 24]


TIED = {"stem": {"width": 16}, "stages": [{"width": 24}], "head": {"width": 32}}
FAULTS = [
    ("equal widths", {"stages": [{"width": [16, 16]}]}, "stages[0].width: options must be distinct"),
    ("no width", {"stages": [{"width": []}]}, "stages[0].width: must not be empty"),
    ("a width that is none", {"stem": {"width": [8, 0]}}, "stem.width[1]: must be greater than or equal to 1"),
    ("no convolution as one width of two", {"head": {"width": [0, 8]}}, "head.width[0]: must be greater than or equal"),
    ("a width in words", {"stages": [{"width": "wide"}]}, "stages[0].width: must be a whole number, but got"),
    ("a hundred widths", {"head": {"width": list(range(1, 101))}}, "head.width: must be at most 64 numbers"),
    (
        "a choice further back in the stem",
        {"stem": {"width": 8, "then": [{"width": [8, 16]}]}},
        "stem.then[0].width: must be one number, as only the stem's first width may be a choice, but got [8, 16]",
    ),
    (
        "both kinds of choice",
        {**TIED, "head": {"width": [32, 48]}, "width_multiplier": [1, 2]},
        "head.width: must be one number where there is a width_multiplier, but got [32, 48]",
    ),
    (
        "multipliers that come to the same",
        {**TIED, "width_multiplier": [1, 1.01]},
        "width_multiplier: options must give distinct widths, but some of [1.0, 1.01] give the same",
    ),
    ("a multiplier of 0", {**TIED, "width_multiplier": [0, 1]}, "width_multiplier[0]: must be greater than 0"),
    (
        "a shuffle unit",
        {"stages": [{"width": [24, 32], "blocks": [{"kind": "shuffle"}]}]},
        "stages[0].blocks[0].kind: must be no shuffle where width is a choice, as a part of one is none",
    ),
    (
        "an Inception module behind a choice",
        {"stages": [{"width": 8, "blocks": [{"kind": "inception", "branches": [[8]], "pool_width": 0}]}]},
        "stages[0].blocks[0].kind: must be no inception where the width before is a choice, as a part of one is none",
    ),
    (
        "groups that a width cuts",
        {"stages": [{"width": [16, 24], "blocks": [{"kind": "bottleneck", "group_width": 16}]}]},
        "stages[0].blocks[0]: middle channels must be a multiple of group_width 16, but got 24 in block 1",
    ),
    (
        "expansions that are one at one width",
        {"stem": {"width": [4, 16]}, "stages": [{"width": 16, "expansion": [1.5, 2]}], "channel_divisor": 8},
        "stages[0].expansion: options must give distinct channel counts, but [1.5, 2] of 4 channels give [8, 8]",
    ),
    (
        "two stages that one network could be of",
        {"stages": [{"width": [16, 24], "depth": [1, 2]}, {"width": [24, 32], "depth": [1, 2]}]},
        "stages[1].depth: must be one number, because the stage before can have the same width",
    ),
]


@pytest.mark.parametrize(("change", "expected"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_fault_of_widths_is_told_in_one_line(change: dict[str, Any], expected: str) -> None:
    found = faults(**change)
    assert len(found) == 1
    assert found[0].startswith(expected)
