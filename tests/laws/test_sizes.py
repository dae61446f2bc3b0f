"""Law: a space is as large as the networks that it builds are many, told apart by what they compute."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import pytest

from se_nas.errors import ConfigError
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from tests.helpers.outputs import outputs


def se(position: str) -> dict[str, Any]:
    unit = {"options": ["none", 2, 3, "eca"], "position": position, "activation": "silu", "gate": "sigmoid"}
    return {"se": {**unit, "divisor": 1, "ratio_of": "block_output"}}


BASIC, BOTTLENECK, SHUFFLE = ({"kind": kind, "expansion": 1} for kind in ("basic", "bottleneck", "shuffle"))
INCEPTION = {"kind": "inception", "kernel": [3, 5]}
POSITIONS = ("inside", "standard", "pre", "post", "identity")

#: Blocks of every kind with each of their variants; those of one group may stand in one stage.
GROUPS: dict[str, list[dict[str, Any]]] = {
    "inverted": [
        *({"kind": "mbconv", "expansion": [1, 2], **se(position)} for position in POSITIONS),
        {"kind": "mbconv", "kernel": [3, 5], "expansion": 3},
        {"kind": "mbconv", "kernel": [3, 5], "expansion": 3, "activation": ["silu", "relu"]},
        {"kind": "mbconv", "mixed_kernels": [3, 5], "expansion": 3},
        {"kind": "mbconv", "expand_parts": 2, "expansion": 3},
        {"kind": "mbconv", "project_parts": 2, "kernel": [3, 5], "expansion": 3},
        {"kind": "fused_mbconv", "kernel": [1, 3], "expansion": [1, 2]},
        {"kind": "fused_mbconv", "expansion": 2, **se("inside")},
        {"kind": "mbconv", "expansion": [1, 2], "always_expands": True},
        *({"kind": kind, "expansion": [1, 2], "skip": False} for kind in ("mbconv", "fused_mbconv")),
        {"kind": "identity"},
    ],
    "plain": [
        *({"kind": "conv", **se(position)} for position in POSITIONS),
        *({"kind": "separable", **se(position)} for position in POSITIONS),
        {"kind": "conv", "kernel": [1, 3, 5]},
        *({"kind": "residual_conv", **se(position)} for position in POSITIONS),
        {"kind": "residual_conv", "kernel": [1, 5], "skip": False},
        {"kind": "separable", "kernel": [3, 5]},
    ],
    "basic": [
        *({**BASIC, **se(position)} for position in POSITIONS),
        *({**BASIC, "shortcut": shortcut} for shortcut in ("pad", "conv3x3", "pooled")),
        *({**BASIC, "preactivation": True, "shortcut": shortcut} for shortcut in ("pad", "projection")),
        {**BASIC, "kernel": [1, 3], "expansion": [0.5, 1]},
        {**BASIC, "activation": ["gelu", "mish"], **se("post")},
    ],
    "bottleneck": [
        *({**BOTTLENECK, "stride_at": "1x1", "group_width": width} for width in (0, 4, 8)),
        *({**BOTTLENECK, "group_width": width} for width in (0, 4, 8)),
        *({**BOTTLENECK, "shortcut": shortcut} for shortcut in ("pad", "conv3x3")),
        {**BOTTLENECK, "preactivation": True},
        {**BOTTLENECK, "entry": 0.5, **se("inside")},
        {**BOTTLENECK, "expansion": [0.5, 1], "entry": 0.5},
    ],
    "shuffle": [
        *({**SHUFFLE, "groups": groups, "dense_reduction": dense} for groups in (1, 2) for dense in (False, True)),
        *({**SHUFFLE, **se(position)} for position in POSITIONS),
    ],
    "inception": [
        {**INCEPTION, "branches": [[2], [4]], "pool_width": 2},
        {**INCEPTION, "kernel": 7, "branches": [[2], [4]], "pool_width": 2},
        {**INCEPTION, "branches": [[2], [4]], "pool_width": 2, "pool": "max"},
        *({**INCEPTION, "branches": [[2], [3, 4]], "pool_width": 2, **se(position)} for position in POSITIONS),
    ],
}
#: Stages of 8 channels behind a stem of so many, with their stride.
PLACES = {"kept": (8, 1), "wider": (4, 1), "strided": (8, 2)}
PAIRS = [(group, place) for group in GROUPS for place in PLACES]


def space_of(place: str, *blocks: dict[str, Any], depth: Any = 1) -> SearchSpace:
    before, stride = PLACES[place]
    named = [{**block, "name": f"block{i}"} for i, block in enumerate(blocks)]
    stage = {"width": 8, "stride": stride, "depth": depth, "activation": "silu", "blocks": named}
    stem = {"width": before, "activation": "silu"}
    return parse_space({"name": "tiny", "resolution": 6, "channels": 2, "stem": stem, "stages": [stage]}, "tiny")


@cache
def built(group: str, number: int, place: str) -> frozenset[bytes] | None:
    """The networks of a stage of one such block; None where it cannot stand there."""
    try:
        space = space_of(place, GROUPS[group][number])
    except ConfigError:
        return None
    found = outputs(space)
    assert space.size == len(found) == len(set(space.enumerate()))
    return frozenset(found)


@pytest.mark.parametrize(("group", "place"), PAIRS)
def test_two_blocks_of_a_stage_build_no_network_twice(group: str, place: str) -> None:
    """Such a stage is refused exactly where they would, and is as large as both together elsewhere."""
    for a, b in itertools.combinations(range(len(GROUPS[group])), 2):
        one, other = built(group, a, place), built(group, b, place)
        if one is None or other is None:
            continue
        if one & other:
            with pytest.raises(ConfigError, match=r"must give no network that blocks\[0\] gives too"):
                space_of(place, GROUPS[group][a], GROUPS[group][b])
        else:
            assert space_of(place, GROUPS[group][a], GROUPS[group][b]).size == len(one) + len(other)


@pytest.mark.parametrize(("group", "place"), PAIRS)
def test_a_stage_of_varied_depth_is_as_large_as_it_builds_networks(group: str, place: str) -> None:
    for number in range(0, len(GROUPS[group]), 3):
        if built(group, number, place) is not None and GROUPS[group][number]["kind"] != "identity":
            space = space_of(place, GROUPS[group][number], depth=[1, 2])
            assert len(outputs(space)) == space.size


def test_a_border_between_stages_is_seen_by_what_is_built() -> None:
    stage = {"width": 8, "depth": [1, 2], "blocks": [BASIC]}
    padded = {**stage, "blocks": [{**BASIC, "shortcut": "pad"}]}
    data = {"name": "tiny", "resolution": 6, "stem": {"width": 4}, "stages": [stage, padded]}
    with pytest.raises(ConfigError, match=r"stages\[1\].depth: must be one number"):
        parse_space(data, "tiny")
