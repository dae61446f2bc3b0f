"""Files are written atomically and by the umask, and what is damaged is one error."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from se_nas.errors import ConfigError, OutputError
from se_nas.records.files import read_json, write_atomic, write_json
from se_nas.records.run_log import read_log
from se_nas.search.black_box.evaluators.table import TableEvaluator
from se_nas.search.black_box.storage import hold_file
from se_nas.space.search_space import SearchSpace


@pytest.fixture(params=[0o022, 0o077, 0o007], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_has_the_mode_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    assert _mode(write_atomic(tmp_path / "a", "text")) == 0o666 & ~umask


def test_a_private_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = write_atomic(tmp_path / "a", "public")
    assert _mode(write_atomic(path, "secret", private=True)) == 0o600
    assert path.read_text() == "secret"


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_atomic(tmp_path / "a", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_as_long_as_a_file_system_allows(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / ("n" * 255), "text").read_text() == "text"


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, True], "b": {"c": "ü"}}
    assert read_json(write_json(tmp_path / "a.json", value)) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be JSON"),
        (b"{", "must be JSON"),
        (b"\xff\xfe", "must be JSON"),
        (b"\x00" * 100, "must be JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b"9" * 5_000, "must be JSON"),
        (b'{"a": NaN}', "must be JSON, but got: NaN"),
        (b"[" * 101 + b"]" * 101, "nested too deeply"),
    ],
    ids=lambda value: str(value[:12]),
)
def test_damage_is_one_short_error_that_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_json(path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < len(str(path)) + 300


def test_what_is_no_regular_file_is_refused_before_it_could_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigError, match="must be a regular file"):
            read_json(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_regular_file_is_never_waited_for(tmp_path: Path, kind: str, tiny_space: SearchSpace) -> None:
    path = tmp_path / "log.jsonl"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    for read in (
        read_json,
        read_log,
        lambda path: TableEvaluator.load(path, tiny_space),
        lambda path: hold_file(path, alone=True),
    ):
        with pytest.raises(ConfigError, match="must be a regular file, but it is not"):
            read(path)
