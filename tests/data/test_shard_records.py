"""Damage to the files beside the tar files: the images are those that were written, or one error says where."""

from __future__ import annotations

import json
import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from se_nas.data.in_memory.parts import load_parts, save_parts, split_parts
from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.data.on_disk.shard_writing import write_shards
from se_nas.errors import ConfigError, DataError
from tests.helpers.jpeg_folders import write_folder

_FILES = ("shards.json", "train-000001.json", "classes.json", "parts.json")
_LABELS = torch.arange(3).repeat(20)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    write_shards(write_folder(tmp_path / "source"), out, images_per_shard=4)
    save_parts(out / "parts.json", split_parts(_LABELS, {"a": 0.5, "b": 0.5}, 0), _LABELS, 0)
    return out


def _contents(root: Path) -> list[object]:
    train, val = open_encoded_images(root)
    images = [(half.name(i), half.read(i), int(half.labels[i])) for half in (train, val) for i in range(len(half))]
    return [images, [part.tolist() for part in load_parts(root / "parts.json", _LABELS).values()]]


def _swapped(value: Any, other: object) -> Iterator[Any]:
    """`value` with `other` in place of it, or of one value in it."""
    yield other
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: changed} for changed in _swapped(inner, other))
            yield {k: v for k, v in value.items() if k != key}
    elif isinstance(value, list) and value:
        yield from ([changed, *value[1:]] for changed in _swapped(value[0], other))


def _damages(content: bytes) -> Iterator[bytes]:
    rng = random.Random(0)
    for _ in range(60):
        place = rng.randrange(len(content))
        yield content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    for size in (0, 1, len(content) // 2, len(content) - 2):
        yield content[:size]
        yield content[:size] + b"\0" * (len(content) - size)
    for opening in (b"[", b'{"a":'):
        yield opening * 100_000
    whole = json.loads(content)
    for other in (None, True, -1, 1.5, 2**63, 10**400, "x", [], [[]], {}, {"a": []}, "\ud800"):
        for changed in _swapped(whole, other):
            yield json.dumps(changed).encode()
    yield content.replace(b": 4", b": NaN").replace(b":4", b":Infinity")


@pytest.mark.parametrize("name", _FILES)
def test_whatever_befalls_a_file_the_images_are_the_same_or_it_is_named(written: Path, name: str) -> None:
    path, expected = written / name, _contents(written)
    before = path.read_bytes()
    errors = []
    for damaged in _damages(before):
        path.write_bytes(damaged)
        try:
            assert _contents(written) == expected, damaged[:500]
        except (ConfigError, DataError) as error:
            errors.append(str(error))
    assert all(error.startswith(str(written)) for error in errors)
    assert len(errors) > 60 or name.startswith("train")  # of which the tar file itself tells what is in it


def test_a_call_is_not_resumed_over_a_damaged_plan(written: Path, tmp_path: Path) -> None:
    (written / "shards.json").write_bytes((written / "shards.json").read_bytes().replace(b'"seed": 0', b'"seed": "0"'))
    with pytest.raises(ConfigError, match=r"shards.json: seed: must be a whole number, but got '0'"):
        write_shards(tmp_path / "source", written, images_per_shard=4)


def test_files_of_before_there_was_a_digest_are_read_and_kept(written: Path, tmp_path: Path) -> None:
    """Written as the version before wrote them, to the byte."""
    expected = _contents(written)
    for path in written.glob("*-0*.json"):
        index = json.loads(path.read_text())
        assert list(index)[-1] == "sha256"
        del index["sha256"]
        path.write_text(json.dumps(index) + "\n")
    plan = json.loads((written / "shards.json").read_text())
    parts = json.loads((written / "parts.json").read_text())
    (written / "parts.json").write_text(json.dumps(parts) + "\n")
    assert _contents(written) == expected
    assert write_shards(tmp_path / "source", written, images_per_shard=4).kept == 6
    del plan["finished"]
    (written / "shards.json").write_text(json.dumps(plan, indent=2) + "\n")
    assert write_shards(tmp_path / "source", written, images_per_shard=4).kept == 6
    assert _contents(written) == expected


def test_names_that_are_not_utf_8_are_written_and_read(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source")
    (source / "train" / "class_a" / "\udce9.jpg").write_bytes(b"no image")
    summary = write_shards(source, tmp_path / "out", images_per_shard=4)
    assert list(summary.damaged) == ["train/class_a/\\xe9.jpg"]
    assert write_shards(source, tmp_path / "out", images_per_shard=4).kept == 6


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o027, 0o640), (0o002, 0o664)])
def test_every_file_keeps_the_umask(tmp_path: Path, umask: Callable[[int], int], mask: int, mode: int) -> None:
    source = write_folder(tmp_path / "source")
    umask(mask)
    write_shards(source, tmp_path / "out", workers=1)
    save_parts(tmp_path / "out" / "parts.json", {"a": _LABELS}, _LABELS, 0)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()} == {mode}


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    """Sets the umask for one test."""
    before = os.umask(0)
    os.umask(before)
    yield os.umask
    os.umask(before)
