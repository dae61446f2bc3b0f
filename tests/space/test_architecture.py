"""The architecture file: self-contained, versioned, and refused in one line when it is not what it must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from se_nas.errors import ArchitectureError
from se_nas.space.architecture import ArchitectureFile, load_architecture, save_architecture
from se_nas.space.search_space import SearchSpace


@pytest.fixture
def file(tiny_space: SearchSpace) -> ArchitectureFile:
    *_, architecture = tiny_space.enumerate()
    return ArchitectureFile(architecture, tiny_space.name, tiny_space.resolve(architecture))


def test_holds_everything_in_plain_words(file: ArchitectureFile, tmp_path: Path) -> None:
    stored = json.loads(save_architecture(tmp_path / "new" / "architecture.json", file).read_text())
    assert (stored["format"], stored["version"]) == ("se_nas architecture", 1)
    assert stored["space"] == {"name": "tiny", "digest": file.architecture.space_digest}
    assert stored["picks"] == file.architecture.as_dict()
    assert stored["blocks"][-1] == (
        "MBConv kernel 3, 24 expanded channels, 8 to 16 channels at 8x8, stride 2, hard_swish, "
        "SE ratio 4 (24 to 8 channels)"
    )
    assert load_architecture(tmp_path / "new" / "architecture.json") == file


def changed(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        for step in path[:-1]:
            value = value[step]
        value[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (changed("format", to="another"), "'format' must be 'se_nas architecture'"),
        (changed("version", to=2), "'version' must be 1 for this release of se_nas, but got 2"),
        (lambda value: value.pop("version"), "'version' must be 1 for this release of se_nas, but got None"),
        (lambda value: value.pop("picks"), "picks: must be given"),
        (lambda value: value.pop("network"), "network: must be given"),
        (lambda value: value["space"].pop("digest"), "space.digest: must be given"),
        (changed("space", to=3), "space: "),
        (changed("picks", to=[1]), "picks: "),
        (changed("picks", "stage1.depth", to=[1]), "picks.stage1.depth."),
        (changed("network", "stem", "kernel", to="x"), "network.stem.kernel: "),
        (lambda value: value["network"]["blocks"][0].update(kind="conv"), "network.blocks.0.kind: "),
        (lambda value: value["network"]["blocks"][0].pop("expanded"), "network.blocks.0.expanded: must be given"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(
    file: ArchitectureFile, tmp_path: Path, change: Callable[[dict[str, Any]], Any], expected: str
) -> None:
    path = save_architecture(tmp_path / "architecture.json", file)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(ArchitectureError) as error:
        load_architecture(path)
    assert str(error.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe"])
def test_what_is_no_architecture_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "architecture.json"
    path.write_bytes(content)
    with pytest.raises(ArchitectureError, match=r"architecture\.json: "):
        load_architecture(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match="must be readable, but got: No such file"):
        load_architecture(tmp_path / "missing.json")
