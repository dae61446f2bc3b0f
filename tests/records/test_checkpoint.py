from __future__ import annotations

from collections import OrderedDict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from se_nas.errors import CheckpointError, OutputError
from se_nas.records.checkpoint import (
    KIND,
    VERSION,
    discard_checkpoint,
    has_checkpoint,
    load_checkpoint,
    load_latest,
    previous_path,
    save_checkpoint,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoint.pt"


def test_what_is_saved_is_loaded(path: Path) -> None:
    model = torch.nn.BatchNorm1d(3)
    state = {"model": model.state_dict(), "step": 7, "scale": 0.5, "name": "a", "history": [{"loss": 1.0}, None, True]}
    save_checkpoint(path, state)
    loaded = load_checkpoint(path)
    assert isinstance(loaded["model"], OrderedDict)
    assert torch.equal(loaded["model"]["weight"], model.weight)
    assert {key: loaded[key] for key in ("step", "scale", "name", "history")} == {
        key: state[key] for key in ("step", "scale", "name", "history")
    }


def test_the_checkpoint_before_is_kept_and_nothing_else(path: Path) -> None:
    for step in range(3):
        save_checkpoint(path, {"step": step})
    assert load_checkpoint(path)["step"] == 2
    assert load_checkpoint(previous_path(path))["step"] == 1
    assert sorted(path.parent.iterdir()) == [path, previous_path(path)]


@pytest.mark.parametrize("damage", ["truncated", "empty", "altered", "text"])
def test_a_damaged_file_is_named_and_the_previous_one_is_used(path: Path, damage: str) -> None:
    save_checkpoint(path, {"step": 1})
    save_checkpoint(path, {"step": 2, "weights": torch.zeros(4096)})
    content = bytearray(path.read_bytes())
    if damage == "altered":
        content[len(content) // 2] ^= 0xFF
    path.write_bytes({"truncated": content[:-200], "empty": b"", "altered": content, "text": b"hello"}[damage])

    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert f"the previous one is whole: {previous_path(path)}" in str(caught.value)
    assert "\n" not in str(caught.value)

    state, warning = load_latest(path)
    assert state == {"step": 1}
    assert warning is not None
    assert str(path) in warning


def test_a_kill_between_the_two_renames_leaves_the_previous_one(path: Path) -> None:
    save_checkpoint(path, {"step": 1})
    path.rename(previous_path(path))
    assert has_checkpoint(path)
    state, warning = load_latest(path)
    assert state == {"step": 1}
    assert warning is not None
    assert "no such file" in warning


def test_a_whole_file_needs_no_warning(path: Path) -> None:
    save_checkpoint(path, {"step": 1})
    assert load_latest(path) == ({"step": 1}, None)


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt.*no such file$"):
        load_latest(path)


def test_a_pickled_object_is_refused_and_not_run(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    torch.save({"kind": KIND, "version": VERSION, "state": {"x": Fraction(1, 2)}}, path)
    with pytest.raises(CheckpointError, match=r"truncated or foreign \(UnpicklingError\)"):
        load_checkpoint(path)


@pytest.mark.parametrize("value", [Fraction(1, 2), np.float64(0.5), np.zeros(2), {1, 2}])
def test_what_could_not_be_read_back_is_not_written(path: Path, value: object) -> None:
    with pytest.raises(TypeError, match=r"state\['history'\]\[1\]"):
        save_checkpoint(path, {"history": [0, value]})
    assert not path.exists()


def test_a_foreign_checkpoint_is_refused(path: Path) -> None:
    path.parent.mkdir()
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="something else"):
        load_checkpoint(path)


def test_another_version_is_refused(path: Path) -> None:
    path.parent.mkdir()
    torch.save({"kind": KIND, "version": VERSION + 1, "state": {}}, path)
    with pytest.raises(CheckpointError, match=f"version must be {VERSION}, but got {VERSION + 1}"):
        load_checkpoint(path)


def test_discard_removes_both(path: Path) -> None:
    save_checkpoint(path, {})
    save_checkpoint(path, {})
    discard_checkpoint(path)
    assert not has_checkpoint(path)
    discard_checkpoint(path)


def test_a_file_in_place_of_the_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="must be writable"):
        save_checkpoint(tmp_path / "run" / "checkpoint.pt", {})
