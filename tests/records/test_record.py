"""A record comes back as it was written, and every fault of a damaged one is named with its path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from se_nas.errors import ConfigError
from se_nas.records.record import Record, read_record, write_record


class _Part(Record):
    name: str
    share: float


class _Whole(Record):
    format: Literal["a test's record"] = "a test's record"
    version: Literal[1] = 1
    parts: tuple[_Part, ...]


WHOLE = _Whole(parts=(_Part(name="weights", share=0.5), _Part(name="choices", share=0.1)))


def test_it_comes_back(tmp_path: Path) -> None:
    assert read_record(_Whole, write_record(tmp_path / "a.json", WHOLE)) == WHOLE


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        ({"version": 2}, ["version: must be 1, but got 2"]),
        ({"format": "another"}, ["format: must be"]),
        ({"more": 1}, ["more: unknown key"]),
        ({"parts": [{"name": 3, "share": "much"}, {}]}, ["parts[0].name", "parts[0].share", "parts[1].name", "parts"]),
        ({"parts": [{"name": "a", "share": float("inf")}]}, ["parts[0].share: must be a finite number"]),
    ],
)
def test_every_fault_is_told_at_once(tmp_path: Path, change: dict[str, object], faults: list[str]) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(WHOLE.plain() | change).replace("Infinity", "1e999"))  # which JSON can say
    with pytest.raises(ConfigError) as error:
        read_record(_Whole, path)
    lines = str(error.value).splitlines()
    assert len(lines) == len(faults)
    for line, fault in zip(lines, faults, strict=True):
        assert line.startswith(f"{path}: {fault}"), line
