"""YAML of a user: what is no YAML, or nested beyond all sense, is one error that names the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from se_nas.errors import ConfigError
from se_nas.records.yaml_input import read_yaml


@pytest.mark.parametrize("levels", [101, 300, 5_000])
@pytest.mark.parametrize(("before", "after"), [("[", "]"), ("{a: ", "}")])
def test_what_is_nested_too_deeply_is_one_error(tmp_path: Path, levels: int, before: str, after: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(before * levels + "1" + after * levels)
    with pytest.raises(ConfigError, match="nested too deeply") as error:
        read_yaml(path)
    assert len(error.value.problems) == 1


def test_many_names_for_one_value_are_not_depth(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a [1, 2]\nb: [*a, *a, [*a]]\n")
    assert read_yaml(path)["b"] == [[1, 2], [1, 2], [[1, 2]]]


def test_names_that_multiply_beyond_all_sense_are_refused_at_once(tmp_path: Path) -> None:
    """What walks or writes a value of 2^60 parts would never end."""
    path = tmp_path / "a.yaml"
    path.write_text("a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)))
    with pytest.raises(ConfigError, match=r"must be YAML, but got: with what its names .* has over 100,000 values"):
        read_yaml(path)


TWICE = {
    "seed: 1\nname: a\nseed: 2\n": ["seed: must be given once, but stands twice, in lines 1 and 3"],
    "budgets:\n  macs: 1\n  macs: 2\n": ["budgets.macs: must be given once, but stands twice, in lines 2 and 3"],
    "stages: [{width: 8}, {width: 8, width: 9}]": ["stages[1].width: must be given once, but stands twice, in line 1"],
    "a: 1\nb: {c: 1,\n c: 2}\na: 3": [
        "a: must be given once, but stands twice, in lines 1 and 4",
        "b.c: must be given once, but stands twice, in lines 2 and 3",
    ],
    "'1': x\n\"1\": y": ["1: must be given once, but stands twice, in lines 1 and 2"],
    "yes: x\ntrue: y": ["true: must be given once, but stands twice, in lines 1 and 2"],
    "a: &a {x: 1}\nb: {<<: *a, <<: *a}": ["b.<<: must be given once, but stands twice, in line 2"],
}


@pytest.mark.parametrize("text", TWICE)
def test_a_key_that_is_given_twice_is_refused_with_both_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert sorted(error.value.problems) == sorted(TWICE[text])


def test_a_key_may_replace_what_a_merged_mapping_has(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert read_yaml(path)["b"] == {"x": 1, "y": 3}


AT_FAULT = {
    "a: &a [*a]": "a name (*name) must not stand in what it names at line 1, column 4",
    "a: 1\nb: 2024-13-45": "month must be in 1..12, which '2024-13-45' is not at line 2, column 4",
    f"a: {'9' * 5000}": "a whole number must have at most 1,000 characters, which '9999",
    f"a: {':'.join(['1'] * 9000)}": "a whole number must have at most 1,000 characters, which '1:1:1",
    "seed: 010": "a whole number must be written in tens: YAML takes it for 8, which '010' is not at line 1, column 7",
    "epochs: 1:30": "a whole number must be written in tens: YAML takes it for 90, which '1:30' is not",
    "x: 1:30.5": "a number must be written in tens: YAML takes it for 90.5, which '1:30.5' is not",
    "a: &a [x]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1 if i else ''}]" for i in range(200)): "it is nested too deeply",
    "a: !!python/object:os.system x": "could not determine a constructor for the tag",
    "a: !!bool x": "what is tagged !!bool must be one, but got 'x' at line 1, column 4",
    "a: !!timestamp x": "what is tagged !!timestamp must be one, but got 'x' at line 1, column 4",
    "a: !!binary abc": "failed to decode base64 data",
    "a: \0": "special characters are not allowed",
    "? [1]\n: 2": "found unhashable key at line 1, column 3",
}


@pytest.mark.parametrize("text", AT_FAULT, ids=[text[:20] for text in AT_FAULT])
def test_what_yaml_cannot_mean_is_one_short_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert AT_FAULT[text] in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_what_is_no_regular_file_or_beyond_all_size_is_not_read(tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe.yaml", tmp_path / "large.yaml"
    os.mkfifo(pipe)  # reading it would wait for ever
    large.write_text("#" * (2**21 + 1))
    with pytest.raises(ConfigError, match="must be a regular file, but it is none"):
        read_yaml(pipe)
    with pytest.raises(ConfigError, match="must have at most 2,097,152 bytes, but has 2,097,153"):
        read_yaml(large)
