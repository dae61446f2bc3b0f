"""A law: one bit changed anywhere in a file of weights that we wrote is refused in one line by whatever reads it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from se_nas.errors import CheckpointError, SeNasError
from se_nas.export.plain_module import WEIGHTS, write_plain_module
from se_nas.export.timm_folder import load_timm_folder, write_timm_folder
from se_nas.export.torch_program import FILE, write_program
from se_nas.export.write import export_network
from se_nas.layers.network import Network
from se_nas.records.checkpoint import load_checkpoint, save_checkpoint
from se_nas.records.checksum import checksum_fault
from se_nas.space.architecture_file import ArchitectureFile
from se_nas.space.search_space import SearchSpace
from se_nas.training.initial_weights import read_initial_weights
from se_nas.training.trained_network import network_with, save_weights
from tests.export.trained import trained

Reader = Callable[[Path], object]


@pytest.fixture(scope="module")
def exported(tiny_space: SearchSpace) -> tuple[Network, ArchitectureFile]:
    file = ArchitectureFile.of(tiny_space, next(tiny_space.enumerate()))
    return trained(file.network).eval(), file


def _check(path: Path) -> None:
    with path.open("rb") as file:
        if (fault := checksum_fault(file)) is not None:
            raise CheckpointError(f"{path}: {fault}")


def _written(kind: str, exported: tuple[Network, ArchitectureFile], folder: Path) -> tuple[Path, Reader]:
    """A file of the kind, and what reads it."""
    network, file = exported
    if kind == "trained":
        save_weights(folder / "network.pt", network, None)
        return folder / "network.pt", lambda path: network_with(network.spec, path)
    if kind == "supernet":
        save_checkpoint(folder / "supernet.pt", {"supernet": network.state_dict()})
        return folder / "supernet.pt", load_checkpoint
    if kind == "plain":
        write_plain_module(network, {}, folder)
        return folder / WEIGHTS, lambda path: read_initial_weights(path, network.spec)
    if kind == "program":
        write_program(network, {}, folder)
        return folder / FILE, _check
    write_timm_folder(network, file, folder)
    return folder / "weights.pth", lambda path: load_timm_folder(path.parent)


@pytest.mark.parametrize("kind", ["trained", "supernet", "plain", "timm", "program"])
def test_one_changed_bit_is_refused_in_one_line(
    kind: str, exported: tuple[Network, ArchitectureFile], tmp_path: Path
) -> None:
    path, read = _written(kind, exported, tmp_path)
    read(path)
    whole = path.read_bytes()
    rng = random.Random(0)
    bits = [rng.randrange(8 * len(whole)) for _ in range(50)]
    bits += [8 * place + rng.randrange(8) for place in (0, 3, 10, -1, -70, -78, -79, -80, -90, -100)]  # header and end
    for bit in bits:
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(SeNasError) as error:
            read(path)
        (line,) = str(error.value).splitlines()
        assert line.startswith(f"{path}: "), bit


@pytest.mark.parametrize("cut", [1, 22, 78, 100, 500])
def test_a_file_cut_short_is_refused(cut: int, exported: tuple[Network, ArchitectureFile], tmp_path: Path) -> None:
    path, read = _written("plain", exported, tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(CheckpointError):
        read(path)


def test_a_checkpoint_of_before_there_was_a_sum_is_read_and_its_members_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"kind": "se_nas checkpoint", "version": 1, "state": {"a": torch.zeros(100)}}, path)
    assert torch.equal(load_checkpoint(path)["a"], torch.zeros(100))
    content = bytearray(path.read_bytes())
    content[content.index(bytes(400)) + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="its content is altered"):
        load_checkpoint(path)


def test_an_altered_form_is_not_kept_by_a_later_export(
    exported: tuple[Network, ArchitectureFile], tmp_path: Path
) -> None:
    export_network(*exported, tmp_path, ["plain"], say=lambda line: None)
    content = bytearray((tmp_path / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(SeNasError, match=f"{WEIGHTS}: must be as the export of plain wrote it, but is altered"):
        export_network(*exported, tmp_path, ["timm"], say=lambda line: None)
    report = export_network(*exported, tmp_path, ["plain"], say=lambda line: None)
    assert set(report.forms["plain"].sha256) == set(report.forms["plain"].files)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_others_that_are_no_numbers_are_named(
    value: float, exported: tuple[Network, ArchitectureFile], tmp_path: Path
) -> None:
    network, file = exported
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["blocks.0.depthwise.weight"].view(-1)[3] = value
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"finite numbers, but some of blocks\.0\.depthwise\.weight are not"):
        read_initial_weights(tmp_path / "weights.pth", network.spec)
    write_timm_folder(network, file, tmp_path / "timm")
    torch.save(state, tmp_path / "timm/weights.pth")
    with pytest.raises(CheckpointError, match=r"some of blocks\.0\.depthwise\.weight are not"):
        load_timm_folder(tmp_path / "timm")
