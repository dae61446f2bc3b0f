"""The resolution as a choice: what a file may say, what an architecture keeps, and what a scaling makes of it."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from se_nas.errors import ConfigError
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, save_architecture
from se_nas.space.choice import Place
from se_nas.space.scaling import resolve_scaled
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import dump_space, parse_space
from tests.conftest import TINY_SPACE


def space_with(**more: Any) -> SearchSpace:
    return parse_space({**copy.deepcopy(TINY_SPACE), **more}, "sides")


def test_one_resolution_is_no_choice_however_it_is_written(tiny_space: SearchSpace) -> None:
    assert space_with(resolution=[8]) == tiny_space
    assert space_with(resolution=[8]).digest == tiny_space.digest


def test_a_list_of_resolutions_is_the_first_choice_of_the_space() -> None:
    space = space_with(resolution=[8, 12])
    first, *others = space.choices
    assert (first.name, first.options) == ("resolution", (8, 12))
    assert others == list(space_with().choices)
    assert Place.named("resolution") == first.place
    assert len({space.digest, space_with().digest, space_with(resolution=[12, 8]).digest}) == 3
    assert parse_space(yaml.safe_load(dump_space(space)), "dumped") == space
    odd = space_with(resolution=[9, 12], stem={"width": 8, "stride": 2})
    assert [slot.ops[0].side.values for slot in odd.slots] == [(5, 6), (5, 6), (5, 6)]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"resolution": []}, "resolution: must not be empty"),
        ({"resolution": [8, 8]}, "resolution: options must be distinct"),
        ({"resolution": [8, 0]}, "resolution[1]: must be greater than or equal to 1, but got 0"),
        ({"resolution": [8, 12.5]}, "resolution[1]: "),
        ({"resolution": [8, 10**9]}, "resolution[1]: must be at most 16,384"),
        ({"resolution": list(range(8, 80))}, "resolution: must be at most 64 numbers"),
        (
            {"resolution": [8, 12], "head": {"flatten": True}},
            "resolution: must be one number where the head flattens its map, as its linear layer reads every pixel, "
            "but got [8, 12]",
        ),
        (
            {"resolution": [8, 12], "scaling": {"imagenet": {"resolution": [64, 96, 128]}}},
            "scaling.imagenet.resolution: must be one number or a list of 2, one for each of the space's, "
            "but got [64, 96, 128]",
        ),
        (
            {"scaling": {"imagenet": {"resolution": [64, 96]}}},
            "scaling.imagenet.resolution: must be one number, but got [64, 96]",
        ),
        (
            {"resolution": [8, 1], "stem": {"width": 8, "pool": "ceil"}},
            "stem.pool: must not be ceil where a map has one pixel",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_its_place(more: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        space_with(**more)
    assert [line for line in error.value.problems if line.startswith(problem)], error.value.problems
    assert len(error.value.problems) == 1


def test_an_architecture_keeps_its_resolution_in_its_file(tmp_path: Path) -> None:
    space = space_with(resolution=[8, 12], scaling={"one": {"resolution": 64}, "each": {"resolution": [32, 48]}})
    rng = np.random.default_rng(0)
    for _ in range(6):
        architecture = space.sample(rng)
        side = architecture["resolution"]
        file = ArchitectureFile.of(space, architecture)
        read = load_architecture(save_architecture(tmp_path / "architecture.json", file))
        assert read == file
        assert read.network.resolution == side
        assert read.scaled["one"].resolution == 64
        assert read.scaled["each"].resolution == {8: 32, 12: 48}[int(side)]


def test_a_scaling_to_as_many_resolutions_gives_each_its_own() -> None:
    space = space_with(resolution=[8, 12], scaling={"each": {"resolution": [12, 8]}})
    for architecture in list(space.enumerate())[::9]:
        picks = architecture.as_dict()
        swapped = space.architecture({**picks, "resolution": 20 - int(picks["resolution"])})
        assert resolve_scaled(space, architecture, "each") == space.resolve(swapped)


def test_neighbours_of_an_architecture_are_at_other_resolutions_too() -> None:
    space = space_with(resolution=[8, 12, 16])
    architecture = space.sample(np.random.default_rng(0))
    changed = [other for other in space.neighbours(architecture) if other["resolution"] != architecture["resolution"]]
    assert len(changed) == 2
    same = {dataclasses.replace(a, picks=a.picks[1:]) for a in (architecture, *changed)}
    assert len(same) == 1
