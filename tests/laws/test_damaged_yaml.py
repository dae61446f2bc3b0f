"""Law 4, of files that a person writes: whatever stands where a value must, the file is read or refused in short lines.

Places of every shipped space, published network and run file get values of `VALUES`, drawn from a quarter of a million
pairs: some by default, thousands in the slow test.
"""

from __future__ import annotations

import copy
import datetime
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from se_nas.errors import ConfigError
from se_nas.records.shipped import run_files, spaces
from se_nas.records.yaml_input import read_yaml
from se_nas.runs.run_file import parse_run
from se_nas.space.yaml.file import parse_space
from tests.helpers.nested import places_in

VALUES: list[Any] = [
    *(None, True, False, "", [], {}, [[]], {"a": 1}, [None], -1, 0, 1, 2, 3, 1.5, 101, [1, 2], [3, 3], ["a", 1]),
    *(float("nan"), float("inf"), -float("inf"), 10**6, 10**9, 10**30, 10**400, -(10**400), 1e300, 1e-300, "1e400"),
    *({1: 2}, {None: 1}, (1,), {"strategy": []}, b"x", "\x00", "x", "none", "no", datetime.date(2024, 1, 1)),
    *("x" * 30_000, "a\nb\n" * 500, list(range(5000)), {f"k{number}": number for number in range(5000)}),
]
#: Changes of one file by default, and in the slow test.
FEW, MANY = 12, 300

FILES: dict[str, tuple[Path, Callable[[Any, str], object]]] = {
    **{name: (path, parse_space) for name, path in spaces().items()},
    **{f"run {name}": (path, parse_run) for name, path in run_files().items()},
}


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    value = copy.deepcopy(value)
    at = value
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = copy.deepcopy(new)
    return value


def try_all(name: str, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    path, parse = FILES[name]
    value = read_yaml(path)
    for place, new in changes:
        try:
            parse(changed(value, place, new), name)
        except ConfigError as error:
            lines = str(error).splitlines()
            assert len(lines) <= 21, (place, new)
            assert max(map(len, lines)) < 500, (place, new)


def some_changes(name: str, count: int) -> list[tuple[tuple[Any, ...], Any]]:
    every = [(place, new) for place in places_in(read_yaml(FILES[name][0])) for new in VALUES]
    return random.Random(f"{name} {count}").sample(every, min(count, len(every)))


@pytest.mark.parametrize("name", FILES)
def test_a_value_that_nobody_meant_is_read_or_refused_in_short_lines(name: str) -> None:
    try_all(name, some_changes(name, FEW))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_thousands_of_such_values_are_read_or_refused_in_short_lines(name: str) -> None:
    try_all(name, some_changes(name, MANY))
