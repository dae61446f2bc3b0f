"""The architecture file: self-contained, versioned, and refused in one line when it is not what it must be."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from se_nas.errors import ArchitectureError
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, network_for, save_architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import Scaling


@pytest.fixture
def file(tiny_space: SearchSpace) -> ArchitectureFile:
    *_, architecture = tiny_space.enumerate()
    return ArchitectureFile.of(tiny_space, architecture)


@pytest.fixture
def scaled(tiny_space: SearchSpace) -> ArchitectureFile:
    *_, architecture = tiny_space.enumerate()
    space = dataclasses.replace(tiny_space, scaling=(Scaling("imagenet", 64, 7), Scaling("coco", 32)))
    return ArchitectureFile.of(space, architecture)


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


def test_the_scaled_networks_are_in_it_too(scaled: ArchitectureFile, tmp_path: Path) -> None:
    assert list(scaled.scaled) == ["imagenet", "coco"]
    read = load_architecture(save_architecture(tmp_path / "architecture.json", scaled))
    assert read == scaled
    assert hash(read) == hash(scaled)
    assert (read.scaled["imagenet"].resolution, read.scaled["imagenet"].head.classes) == (64, 7)


def test_a_file_from_before_there_was_scaling_loads(file: ArchitectureFile, tmp_path: Path) -> None:
    path = save_architecture(tmp_path / "architecture.json", file)
    value = json.loads(path.read_text())
    assert value.pop("scaled") == {}
    path.write_text(json.dumps(value))
    assert load_architecture(path) == file


def test_which_network_is_trained_on_full_size_images(file: ArchitectureFile, scaled: ArchitectureFile) -> None:
    assert network_for(scaled, "imagenet") is scaled.scaled["imagenet"]
    full_size = dataclasses.replace(file, network=dataclasses.replace(file.network, resolution=128))
    assert network_for(full_size, "imagenet") is full_size.network
    with pytest.raises(ArchitectureError) as error:
        network_for(file, "imagenet")
    assert str(error.value) == (
        "an architecture to be trained on imagenet must be scaled to it or be of at least 128x128 pixels, but this one "
        "of space tiny is of 8x8; give --space a file of that space whose `scaling:` has imagenet"
    )


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
        (changed("picks", "stage1.depth", to=[1]), "picks.stage1.depth: "),
        (changed("network", "stem", "kernel", to="x"), "network.stem.kernel: "),
        (lambda value: value["network"]["blocks"][0].update(kind="magic"), "network.blocks[0].kind: "),
        (lambda value: value["network"]["blocks"][0].pop("expanded"), "network.blocks[0].expanded: must be given"),
        (changed("scaled", to={"imagenet": {}}), "scaled.imagenet.resolution: must be given"),
        (changed("scaled", to=3), "scaled: "),
        (lambda value: value["network"].update(stem_mroe=[]), "network.stem_mroe: unknown key"),
        (lambda value: value["network"]["blocks"][1].update(stried=2), "network.blocks[1].stried: unknown key"),
        (changed("network", "stem", "out_channels", to=-1), "network.stem.out_channels: must be from 1 to 65,536, but"),
        (changed("network", "head", "classes", to=10**12), "network.head.classes: must be from 1 to 1,048,576, but"),
        (lambda value: value["network"]["blocks"][0].update(stride=0), "network.blocks[0].stride: must be from 1 to"),
        (lambda value: value["network"]["blocks"][0].update(kernel=4), "network.blocks[0].kernel: must be odd, but"),
        (
            lambda value: value["network"]["blocks"][-1].update(in_channels=9),
            "network.blocks[2].in_channels: must be the 8",
        ),
        (
            lambda value: value["network"]["blocks"][-1].update(resolution=9),
            "network.blocks[2].resolution: must be the 8",
        ),
    ],
)
def test_every_fault_of_a_malformed_file_is_one_line(
    file: ArchitectureFile, tmp_path: Path, change: Callable[[dict[str, Any]], Any], expected: str
) -> None:
    path = save_architecture(tmp_path / "architecture.json", file)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(ArchitectureError) as error:
        load_architecture(path)
    assert str(error.value).startswith(f"{path}: {expected}")
    assert all(line.startswith(f"{path}: ") and len(line) < 500 for line in str(error.value).splitlines())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe"])
def test_what_is_no_architecture_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "architecture.json"
    path.write_bytes(content)
    with pytest.raises(ArchitectureError, match=r"architecture\.json: "):
        load_architecture(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match="file: must be readable, but got: No such file"):
        load_architecture(tmp_path / "missing.json")
