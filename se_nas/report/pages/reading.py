"""What a page reads of a folder beside what it is about: histories, what may be missing, and what SE learned."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from se_nas.records.models import history
from se_nas.records.models.excitation import ExcitationFile
from se_nas.records.models.history import Epoch
from se_nas.records.record import read_record, read_value

_PICTURES = ("accuracy_lost", "class_gates", "by_depth")


def read_if_there(kind: Any, path: Path, default: Any) -> Any:
    """What a JSON file holds that is of a `kind`, or `default` where there is no such file.

    Raises:
        ConfigError: the file is damaged.
    """
    return read_value(kind, path) if path.exists() else default


def read_history(path: Path) -> tuple[Epoch, ...]:
    """The epochs of a training, numbered from 1 as people do; the loop that writes them counts from 0."""
    return tuple(row.model_copy(update={"epoch": row.epoch + 1}) for row in history.read_history(path))


# ---- what SE learned


@dataclass(frozen=True)
class Picture:
    """A PNG that lies within the page."""

    name: str
    base64: Markup


@dataclass(frozen=True)
class Learned:
    """What `se-nas excitation` found of a network."""

    notes: tuple[str, ...]
    pictures: tuple[Picture, ...]


def read_learned(folder: Path) -> Learned | None:
    """What `se-nas excitation` found of the network in `folder`; None where it has not run.

    Raises:
        ConfigError: its file is damaged.
    """
    home = folder / "excitation"
    if not (home / "excitation.json").exists():
        return None
    drawn = [home / "plots" / f"{name}.png" for name in _PICTURES]
    pictures = tuple(Picture(path.stem, _base64(path)) for path in drawn if path.exists())
    return Learned(read_record(ExcitationFile, home / "excitation.json").notes, pictures)


def _base64(path: Path) -> Markup:
    return Markup(b64encode(path.read_bytes()).decode())  # its letters need no escape, and its slashes are no folders
