"""YAML of a user: what is no YAML, or nested beyond all sense, is one error that names the file."""

from __future__ import annotations

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


def test_names_that_double_at_every_level_are_read_at_once(tmp_path: Path) -> None:
    """A value of 2^60 parts takes no longer than its text."""
    path = tmp_path / "a.yaml"
    path.write_text("a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)))
    assert len(read_yaml(path)) == 60
