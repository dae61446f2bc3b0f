"""Choices, canonical architectures, sizes, walking and resolving of search spaces."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_nas.errors import ArchitectureError
from se_nas.space.architecture import Architecture
from se_nas.space.block_plan import block_plan
from se_nas.space.choice import Choice, Option, Place
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec
from se_nas.space.yaml.file import parse_space
from tests.helpers.strategies import architectures, spaces, spaces_with_architectures


def network_key(space: SearchSpace, architecture: Architecture) -> tuple[object, ...]:
    """What makes two networks of a space one: resolution, widths and blocks, with SE's hidden width for its ratio."""
    network = space.resolve(architecture)
    ends = (
        network.resolution,
        *(conv.out_channels for conv in network.stem_convs),
        network.head.width,
        network.head.hidden,
    )
    blocks = tuple(
        (
            block.kind,
            block.in_channels,
            block.expanded,
            block.out_channels,
            block.kernel,
            block.activation,
            block.stride,
            block.se_hidden,
            block.se and unit_key(block),
        )
        for block in network.blocks
    )
    return (ends, blocks)


def unit_key(block: BlockSpec) -> tuple[object, ...]:
    """What of its SE makes a difference, and behind which of its parts it stands."""
    unit, plan = block.se, block_plan(block)
    assert unit is not None
    behind = ["pre", *["inside"] * (plan.last is not None), "standard", *["identity", "post"] * (plan.skip != "none")]
    functions = {
        "se": (unit.squeeze, unit.activation),
        "cbam": (unit.activation,),
        "eca": (unit.squeeze,),
        "ese": (unit.squeeze,),
        "spatial": (),
    }
    return (unit.kind, unit.gate, functions[unit.kind], unit.position if unit.position in behind else "standard")


def every_pick(space: SearchSpace) -> list[dict[str, Option]]:
    names = [choice.name for choice in space.choices]
    return [
        dict(zip(names, options, strict=True)) for options in itertools.product(*(c.options for c in space.choices))
    ]


@given(spaces(most_picks=2000))
def test_size_is_the_number_of_architectures_and_of_distinct_networks(space: SearchSpace) -> None:
    members = list(space.enumerate())
    assert len(set(members)) == len(members) == space.size
    assert len({network_key(space, member) for member in members}) == space.size


@given(spaces(most_picks=500))
def test_equal_networks_are_equal_architectures(space: SearchSpace) -> None:
    members: dict[tuple[object, ...], Architecture] = {}
    for picks in every_pick(space):
        member = space.architecture(picks)
        assert members.setdefault(network_key(space, member), member) == member
    assert len(set(members.values())) == len(members)


@given(spaces_with_architectures())
def test_canonicalising_twice_changes_nothing(drawn: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = drawn
    again = space.architecture(architecture.as_dict())
    assert again == architecture
    assert hash(again) == hash(architecture)
    assert [name for name, _ in architecture.picks] == [choice.name for choice in space.choices]


@given(st.data(), spaces())
def test_samples_and_neighbours_are_canonical_members(data: st.DataObject, space: SearchSpace) -> None:
    architecture = data.draw(architectures(space))
    sampled = space.sample(np.random.default_rng(data.draw(st.integers(0, 99))))
    neighbours = space.neighbours(architecture)
    assert architecture not in neighbours
    assert len(set(neighbours)) == len(neighbours)
    for member in (sampled, *neighbours):
        assert space.architecture(member.as_dict()) == member
    networks = {network_key(space, member) for member in (architecture, *neighbours)}
    assert len(networks) == 1 + len(neighbours)
    assert bool(neighbours) == (space.size > 1)


@given(spaces(most_picks=300))
def test_neighbours_reach_the_whole_space(space: SearchSpace) -> None:
    start = space.sample(np.random.default_rng(0))
    seen, frontier = {start}, [start]
    while frontier:
        for neighbour in space.neighbours(frontier.pop()):
            if neighbour not in seen:
                seen.add(neighbour)
                frontier.append(neighbour)
    assert len(seen) == space.size


def test_the_tiny_space_has_the_choices_and_the_size_it_shows(tiny_space: SearchSpace) -> None:
    assert tiny_space.choices == (
        Choice(Place(1, None, "depth"), (1, 2)),
        Choice(Place(1, 1, "kernel"), (3, 5)),
        Choice(Place(1, 1, "se"), ("none", "r2")),
        Choice(Place(1, 2, "kernel"), (3, 5)),
        Choice(Place(1, 2, "se"), ("none", "r2")),
        Choice(Place(2, 1, "block"), ("identity", "mbconv k3 e2-3")),
        Choice(Place(2, 1, "expansion", "mbconv k3 e2-3"), (2, 3)),
        Choice(Place(2, 1, "se", "mbconv k3 e2-3"), ("none", "r2", "r4")),
    )
    assert tiny_space.size == (4 + 4 * 4) * (1 + 2 * 3)


def test_samples_repeat_with_the_seed_and_take_every_option(tiny_space: SearchSpace) -> None:
    def draw(seed: int) -> list[Architecture]:
        rng = np.random.default_rng(seed)
        return [tiny_space.sample(rng) for _ in range(200)]

    assert draw(3) == draw(3) != draw(4)
    for choice in tiny_space.choices:
        assert {member[choice.name] for member in draw(3)} == set(choice.options)


def space_with(stage: dict[str, Any], **more: Any) -> SearchSpace:
    data = {"name": "one", "resolution": 8, "stem": {"width": 16}, "stages": [{"width": 16, **stage}], **more}
    return parse_space(data, "one")


def test_ratios_of_one_hidden_width_are_one_option() -> None:
    """16 channels under divisor 8: ratios 2, 4, 8 and 16 all have 8 hidden units."""
    space = space_with({"se": {"options": ["none", 1, 2, 4, 8, 16]}})
    assert space.choices == (Choice(Place(1, 1, "se"), ("none", "r1", "r2")),)
    assert space.size == 3


def test_every_attention_is_an_option_of_one_choice_by_its_name() -> None:
    options = ["none", 2, 4.0, "eca", "ese", "spatial", "cbam/2", "cbam/4.0", "cbam/2.5"]
    space = space_with({"se": {"options": options, "divisor": 1}})
    names = ("none", "r2", "r4", "eca", "ese", "spatial", "cbam2", "cbam4", "cbam2.5")
    assert space.choices == (Choice(Place(1, 1, "se"), names),)
    assert space.size == len(names)
    units = [space.resolve(space.architecture({"stage1.block1.se": name})).blocks[0].se for name in names]
    assert [unit and (unit.kind, unit.ratio, unit.label) for unit in units[:4]] == [
        None,
        ("se", 2, "r2"),
        ("se", 4, "r4"),
        ("eca", 1, "eca"),
    ]
    assert [unit and unit.label for unit in units[1:]] == list(names[1:])
    assert units[-1] is not None
    assert (units[-1].kind, units[-1].ratio) == ("cbam", 2.5)


def test_options_are_merged_by_what_is_built() -> None:
    """16 channels under divisor 8: ratios 2 and 16 are one SE and one CBAM, which stay two options."""
    space = space_with({"se": {"options": [2, 16, "cbam/2", "cbam/16", "eca"]}})
    assert space.choices == (Choice(Place(1, 1, "se"), ("r2", "cbam2", "eca")),)


def test_a_block_without_a_sum_has_no_attention_on_its_shortcut() -> None:
    stage = {"stride": 2, "depth": 2, "se": {"options": [2, 4, "eca"], "divisor": 1, "position": "identity"}}
    space = space_with(stage)
    assert space.choices == (Choice(Place(1, 2, "se"), ("r2", "r4", "eca")),)
    first, second = space.resolve(space.architecture({"stage1.block2.se": "eca"})).blocks
    assert (first.se, second.se and second.se.label) == (None, "eca")
    shared = space_with({**stage, "share": ["se"]})
    assert shared.choices == (Choice(Place(1, None, "se"), ("r2", "r4", "eca")),)
    assert shared.size == 3


def test_ratios_that_an_expansion_merges_are_one_architecture() -> None:
    space = space_with({"expansion": [2, 8], "se": {"options": [2, 4, 8], "divisor": 16}})
    by_expansion = {
        expansion: {
            space.architecture({"stage1.block1.expansion": expansion, "stage1.block1.se": se})
            for se in ("r2", "r4", "r8")
        }
        for expansion in (2, 8)
    }
    assert [len(members) for members in by_expansion.values()] == [1, 3]
    assert space.size == 4


def test_one_choice_shared_by_a_stage_is_drawn_once() -> None:
    free = space_with({"depth": 3, "kernel": [3, 5]})
    shared = space_with({"depth": 3, "kernel": [3, 5], "share": ["kernel"]})
    assert (free.size, shared.size) == (8, 2)
    assert [choice.name for choice in shared.choices] == ["stage1.kernel"]
    member = shared.architecture({"stage1.kernel": 5})
    assert [block.kernel for block in shared.resolve(member).blocks] == [5, 5, 5]


def test_resolving_follows_strides_widths_and_rounding() -> None:
    space = space_with({"width": 24, "stride": 2, "depth": 2, "expansion": 2.5}, resolution=9, channel_divisor=8)
    first, second = space.resolve(space.architecture({})).blocks
    assert (first.in_channels, first.expanded, first.out_channels) == (16, 40, 24)
    assert (second.in_channels, second.expanded, second.out_channels) == (24, 64, 24)
    assert (first.resolution, first.stride, second.resolution, second.stride) == (9, 2, 5, 1)
    assert space.head_spec.resolution == 5


def test_a_bottleneck_s_expansion_is_of_its_output_and_may_shrink() -> None:
    block = {"kind": "bottleneck", "expansion": [0.25, 1], "se": {"options": [4], "ratio_of": "expanded", "divisor": 1}}
    data = {"width": 64, "stride": 2, "depth": 2, "blocks": [block]}
    space = space_with(data, resolution=16, stem={"width": 16, "stride": 2, "pool": True})
    picks = {"stage1.block1.expansion": 0.25, "stage1.block2.expansion": 1}
    spec = space.resolve(space.architecture(picks))
    assert (spec.stem.conv_resolution, spec.stem.out_resolution) == (8, 4)
    first, second = spec.blocks
    assert (first.in_channels, first.expanded, first.out_channels, first.se_hidden) == (16, 16, 64, 4)
    assert (second.in_channels, second.expanded, second.out_channels, second.se_hidden) == (64, 64, 64, 16)
    assert (first.resolution, second.resolution, space.head_spec.resolution) == (4, 2, 2)


@given(spaces_with_architectures())
def test_a_resolved_network_is_connected(drawn: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = drawn
    spec = space.resolve(architecture)
    channels, resolution = spec.in_channels, spec.resolution
    for conv in spec.stem_convs:
        assert (conv.in_channels, conv.resolution) == (channels, resolution)
        channels, resolution = conv.out_channels, conv.out_resolution
    for block in spec.blocks:
        assert (block.in_channels, block.resolution) == (channels, resolution)
        channels, resolution = block.out_channels, block.out_resolution
    assert (spec.head.in_channels, spec.head.resolution) == (channels, resolution)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage1.depth": 3}, "'stage1.depth' must be one of 1, 2, but got 3"),
        ({"stage9.depth": 1}, "'stage9.depth' is no choice of the space"),
        ({"stage1.block1.se": None}, "'stage1.block1.se' must be one of none, r2, but got None"),
    ],
)
def test_a_wrong_pick_is_said(tiny_space: SearchSpace, change: dict[str, Any], message: str) -> None:
    picks = next(tiny_space.enumerate()).as_dict()
    with pytest.raises(ArchitectureError) as error:
        tiny_space.architecture({**picks, **change})
    assert str(error.value) == f"space tiny: {message}"


def test_all_missing_picks_are_said_at_once(tiny_space: SearchSpace) -> None:
    with pytest.raises(ArchitectureError) as error:
        tiny_space.architecture({})
    assert all(f"'{choice.name}' must be picked" in str(error.value) for choice in tiny_space.choices)


def test_an_architecture_of_another_space_is_refused(tiny_space: SearchSpace) -> None:
    other = space_with({"kernel": [3, 5]})
    stranger = next(other.enumerate())
    for use in (tiny_space.check, tiny_space.resolve, tiny_space.neighbours):
        with pytest.raises(ArchitectureError, match=f"space tiny: .*{tiny_space.digest}.*{other.digest}"):
            use(stranger)


def test_the_digest_tells_every_property() -> None:
    base = {"kernel": [3, 5], "se": {"options": ["none", 4]}}
    variants = [
        space_with(base),
        space_with({**base, "kernel": [5, 3]}),
        space_with({**base, "activation": "silu"}),
        space_with({**base, "se": {"options": ["none", 4], "gate": "sigmoid"}}),
        space_with({**base, "share": ["kernel"]}),
        space_with(base, classes=11),
        space_with(base, head={"dropout": 0.1}),
        space_with(base, stem={"width": 16, "pool": True}),
    ]
    assert len({space.digest for space in variants}) == len(variants)
    assert space_with(base).digest == variants[0].digest


def test_spaces_and_counts_need_no_torch() -> None:
    program = "import sys, se_nas.space.yaml.file, se_nas.cost.counts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("options", [(), (1,), (1, 1), (1, 1.0)])
def test_a_choice_has_two_or_more_distinct_options(options: tuple[Option, ...]) -> None:
    with pytest.raises(ValueError, match=r"stage1\.depth: a choice must have two or more distinct options, but got"):
        Choice(Place(1, None, "depth"), options)
