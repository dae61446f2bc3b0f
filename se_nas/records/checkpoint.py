"""Checkpoints that survive a kill at any moment: written whole beside the previous one, read as plain data.

A file holds tensors and plain Python values only, so that reading a stranger's file runs no code, and the checksum of
all its bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from se_nas.errors import CheckpointError, OutputError
from se_nas.records.checksum import checksum_fault, with_checksum
from se_nas.records.files import write_atomic

#: What torch saves and loads: tensors and plain values by name, in dicts, lists and tuples.
StateDict = dict[str, Any]

KIND = "se_nas checkpoint"
VERSION = 1


def previous_path(path: str | os.PathLike[str]) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return Path(path).with_name(Path(path).name + ".previous")


def save_checkpoint(path: str | os.PathLike[str], state: StateDict) -> None:
    """Write `state` to `path` atomically; the checkpoint that was there moves to `previous_path(path)`.

    Args:
        path: the file; its folder is made if need be.
        state: tensors, numbers, strings, booleans and None in dicts, lists and tuples.

    Raises:
        TypeError: `state` holds another kind of object, which could not be read back.
        OutputError: the place cannot be written to.
    """
    _refuse_foreign_objects(state, "state")
    buffer = io.BytesIO()
    torch.save({"kind": KIND, "version": VERSION, "state": state}, buffer)
    target = Path(path)
    fresh = write_atomic(target.with_name(target.name + ".fresh"), with_checksum(buffer.getvalue()))
    try:
        # Between the two renames only the previous file is in place, which load_latest then reads.
        if target.exists():
            os.replace(target, previous_path(target))
        os.replace(fresh, target)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise OutputError(f"{target}: the output must be writable, but got: {error.strerror or error}") from error


def load_checkpoint(path: str | os.PathLike[str]) -> StateDict:
    """The state that `save_checkpoint` wrote to `path`, on the CPU.

    Raises:
        CheckpointError: the file is missing, truncated, altered or foreign; the message says so if the
            previous checkpoint is whole.
    """
    try:
        return _read(Path(path))
    except CheckpointError as error:
        if not _is_whole(previous_path(path)):
            raise
        raise CheckpointError(f"{error}; the previous one is whole: {previous_path(path)}") from error


def load_latest(path: str | os.PathLike[str]) -> tuple[StateDict, str | None]:
    """The state at `path`, or the previous one where that file is not whole, and then a warning line.

    Raises:
        CheckpointError: neither file is whole.
    """
    try:
        return _read(Path(path)), None
    except CheckpointError as error:
        if not previous_path(path).exists():
            raise
        return _read(previous_path(path)), f"{error}; reading the previous one instead"


def has_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether there is something for `load_latest` to read."""
    return Path(path).exists() or previous_path(path).exists()


def discard_checkpoint(path: str | os.PathLike[str]) -> None:
    """Remove the checkpoint and the previous one: a new run must not fall back to an old run's state."""
    try:
        Path(path).unlink(missing_ok=True)
        previous_path(path).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: the output must be writable, but got: {error.strerror or error}") from error


def weights_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """The SHA-256 of weights, by their names and values."""
    digest = hashlib.sha256()
    for name, value in weights.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_finite(weights: Mapping[str, Any]) -> None:
    """Raise CheckpointError where a tensor has values that are no finite numbers: nothing can be trained from them."""
    for name, value in weights.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"the weights must be finite numbers, but some of {name} are not")


def _is_whole(path: Path) -> bool:
    try:
        _read(path)
    except CheckpointError:
        return False
    return True


def _read(path: Path) -> StateDict:
    must = f"{path}: a checkpoint must be a whole file that se_nas wrote"
    if not path.is_file():
        raise CheckpointError(f"{must}, but there is no such file")
    try:
        with path.open("rb") as file:
            fault = checksum_fault(file)
        if fault is not None:
            raise CheckpointError(f"{must}, but {fault}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged archive fails in a dozen ways, none of them documented
        raise CheckpointError(f"{must}, but it is truncated or foreign ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.get("kind") != KIND or "state" not in content:
        raise CheckpointError(f"{must}, but it holds something else")
    if content.get("version") != VERSION:
        raise CheckpointError(f"{path}: the checkpoint's version must be {VERSION}, but got {content.get('version')}")
    state: StateDict = content["state"]
    return state


def _refuse_foreign_objects(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_foreign_objects(key, f"{where} key")
            _refuse_foreign_objects(item, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _refuse_foreign_objects(item, f"{where}[{index}]")
    elif not isinstance(value, torch.Tensor) and type(value) not in (int, float, str, bool, type(None)):
        # The exact type, because a NumPy float is a float and yet is refused on reading.
        raise TypeError(f"{where}: a checkpoint must hold tensors and plain values, but got {type(value).__name__}")
