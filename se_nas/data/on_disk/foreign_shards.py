"""Tar files of images that other tools wrote: which member is the image of a sample, and which says its class.

As WebDataset has it, members whose names begin alike are a sample: 000123.jpg beside 000123.cls, 000123.json or
000123.txt. Where a name has several dots its last part says what a member is; an image belongs with the label of the
same name before that part, else with the one of the same name before the first dot.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from se_nas.data.class_folders import PassedOver, printable
from se_nas.data.image_file import IMAGE_SUFFIXES
from se_nas.errors import DataError, cut, in_line

_LABELS = ("cls", "json", "txt")
"""Suffixes of what says a class; the earlier is believed where a sample has several."""

_KEYS = ("label", "cls", "class", "target", "class_id", "class_index", "class_name", "label_name")
"""Of a JSON object: what may hold the class, as a number or a name."""

_MOST_BYTES = 2**20  # of a label

Label = int | str
"""The number of a class, or its name."""


@dataclass(frozen=True)
class ForeignShard:
    """The samples of one tar file of `tar_bytes`: where their images lie, and their classes as the file says them."""

    tar_bytes: int
    names: list[str]
    offsets: list[int]
    sizes: list[int]
    labels: list[Label]
    passed_over: PassedOver


def scan(path: Path) -> ForeignShard:
    """Read the headers of a tar file, and its labels.

    Raises:
        DataError: the file is no whole tar file, or a label no class.
    """
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, dict[str, Label]] = {}
    try:
        if not path.is_file():
            raise tarfile.ReadError("it is no file")
        size = path.stat().st_size
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                stem, kind = _parts(member.name)
                if kind in _LABELS:
                    found = _label(kind, member, tar.extractfile(member))
                    if found is not None:
                        labels.setdefault(stem, {})[kind] = found
                elif f".{kind}" in IMAGE_SUFFIXES:
                    images[stem] = (member.name, member.offset_data, member.size)
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError(f"the file ends within {member.name}")
    except (tarfile.TarError, ValueError, OverflowError, OSError, RecursionError) as error:
        got = cut(in_line(error))
        raise DataError(f"{path}: the file must be a whole WebDataset tar file, but got: {got}") from error
    return _samples(path.name, size, images, labels)


def _samples(
    tar: str, size: int, images: dict[str, tuple[str, int, int]], labels: dict[str, dict[str, Label]]
) -> ForeignShard:
    shard = ForeignShard(size, [], [], [], [], PassedOver())
    by_key: dict[str, list[str]] = {}
    for stem in labels:
        by_key.setdefault(_key(stem), []).append(stem)
    used: set[str] = set()
    for stem, (name, offset, length) in images.items():
        owners = [stem] if stem in labels else by_key.get(_key(stem), [])
        if len(owners) != 1:
            shard.passed_over.add("images in tar files without a label (.cls, .json or .txt)", f"{tar}/{name}")
        elif owners[0] in used:
            shard.passed_over.add("images in tar files beside another of their sample", f"{tar}/{name}")
        else:
            used.add(owners[0])
            found = labels[owners[0]]
            shard.names.append(name)
            shard.offsets.append(offset)
            shard.sizes.append(length)
            shard.labels.append(next(found[kind] for kind in _LABELS if kind in found))
    for stem in labels.keys() - used:
        shard.passed_over.add("labels in tar files without an image", f"{tar}/{stem}")
    return shard


def _parts(name: str) -> tuple[str, str]:
    """What stands before the last dot of a member's file name, and what after it, in small letters."""
    folder, slash, file = name.rpartition("/")
    stem, _, kind = file.rpartition(".")
    return folder + slash + stem, kind.lower()


def _key(stem: str) -> str:
    folder, slash, file = stem.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _label(kind: str, member: tarfile.TarInfo, file: IO[bytes] | None) -> Label | None:
    """The class that a member says; None where it says none."""
    if file is None or member.size > _MOST_BYTES:
        raise ValueError(f"{member.name} has {member.size:,} bytes, too many for a label")
    content = file.read()
    if kind == "json":
        value = json.loads(content)
        if isinstance(value, dict):
            value = next((value[key] for key in _KEYS if key in value), None)
        if isinstance(value, str):
            return printable(value.strip()) or None
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    text = printable(content.decode().strip())
    if kind == "cls":
        return int(text) if text.lstrip("-").isdecimal() else text or None
    return text or None


def numbered(shards: list[tuple[Path, ForeignShard]], classes: tuple[str, ...]) -> list[list[int]]:
    """The classes of each file's samples by number, where their names are known.

    A text is the name of a class, or, where there is none of that name, its number.

    Raises:
        DataError: a label is neither.
    """
    by_name = {name: number for number, name in enumerate(classes)}

    def number(path: Path, label: Label) -> int:
        if isinstance(label, str):
            if label in by_name:
                return by_name[label]
            if not label.isdecimal() or len(label) > 18:
                must = "a label must be the name or the number of a class"
                raise DataError(f"{path}: {must}, but got {cut(label, 80)!r}")
        return int(label)

    return [[number(path, label) for label in shard.labels] for path, shard in shards]


def named_classes(shards: list[tuple[Path, ForeignShard]]) -> tuple[str, ...]:
    """The names of the classes where no file says them: those of the labels, sorted, or else their numbers."""
    labels = {label for _, shard in shards for label in shard.labels}
    texts = {label for label in labels if isinstance(label, str) and not label.isdecimal()}
    if texts:
        return tuple(sorted({str(label) for label in labels}))
    greatest = max((int(label) for label in labels), default=-1)
    if greatest >= 2 * len(labels) + 1000:
        raise DataError(
            f"{shards[0][0].parent}: without classes.json the classes must be numbered from 0, "
            f"but there are {len(labels)} numbers up to {cut(str(greatest), 80)}"
        )
    return tuple(map(str, range(greatest + 1)))
