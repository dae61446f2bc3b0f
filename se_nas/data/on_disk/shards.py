"""Images in tar files of about a thousand each: few large files to copy and to keep, instead of a million small ones.

The files are those of WebDataset (https://github.com/webdataset/webdataset): 000123.jpg beside 000123.cls, which has
the number of the class as text; see `foreign_shards` for what else is read. An index beside each tar says where the
images lie in it, so that any image can be read at once; without one, the tar's own headers are read instead.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from se_nas.data.class_folders import PassedOver, few, printable
from se_nas.data.image_file import decode
from se_nas.data.on_disk.foreign_shards import ForeignShard, named_classes, numbered, scan
from se_nas.data.pixels import RGB, Picture, Reading
from se_nas.data.shard_records import CLASSES, SUMMARY, HalfSummary, IndexRecord, ShardPlan, read_classes
from se_nas.errors import ConfigError, DataError, cut

HALVES = ("train", "val")
_OPEN_FILES = 64
"""So many tar files a process keeps open: many systems allow 1,024, fewer than ImageNet's shards."""


class ShardImages:
    """The images of one half's tar files, in the files' order; an `EncodedImages`.

    Args:
        paths: the tar files.
        indexes: where the images of each lie.
        classes: their names.
        reading: how a file becomes a picture.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        indexes: Sequence[ShardIndex],
        classes: tuple[str, ...],
        reading: Reading = RGB,
    ) -> None:
        self.classes = classes
        self.reading = reading
        self.channels = reading.channels
        self.notes: tuple[str, ...] = ()
        self.labels: NDArray[np.int64] = np.concatenate([index.labels for index in indexes])
        self.groups: NDArray[np.int64] = np.repeat(np.arange(len(paths)), [len(index.labels) for index in indexes])
        self._offsets = np.concatenate([index.offsets for index in indexes])
        self._sizes = np.concatenate([index.sizes for index in indexes])
        self._names = np.array([name.encode(errors="surrogatepass") for index in indexes for name in index.names])
        self._paths = list(paths)
        self._open: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The tar file and the name of an image in it."""
        return printable(f"{self._paths[self.groups[index]].name}/{self._names[index].decode(errors='surrogatepass')}")

    def stamp(self, index: int) -> str:
        """What changes where a tar file does; OSError where there is none."""
        found = os.stat(self._paths[self.groups[index]])
        return f"{found.st_size} {found.st_mtime_ns} {self._offsets[index]}"

    def read(self, index: int) -> bytes:
        """The encoded image; OSError where it cannot be read."""
        size = int(self._sizes[index])
        content = os.pread(self._descriptor(int(self.groups[index])), size, int(self._offsets[index]))
        if len(content) < size:
            raise OSError(f"the tar file ends after {len(content)} of {size} bytes")
        return content

    def image(self, index: int) -> Picture:
        """The decoded image; nearly any exception where it is damaged."""
        return decode(self.read(index), self.reading)

    def _descriptor(self, number: int) -> int:
        if number in self._open:
            self._open.move_to_end(number)
        else:
            if len(self._open) >= _OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
            self._open[number] = os.open(self._paths[number], os.O_RDONLY | os.O_CLOEXEC)
        return self._open[number]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __del__(self) -> None:
        for descriptor in self._open.values():
            with suppress(OSError):
                os.close(descriptor)


_WORDS = {"train": "train|training", "val": "val|valid|validation|test"}
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")


def shard_files(root: Path, half: str) -> list[Path]:
    """The tar files of one half, in the order of their names: train-*.tar, else those with a word for it there."""
    ours = sorted(root.glob(f"{half}-*.tar"))
    return ours or [path for path in sorted(root.glob("*.tar")) if _is_of(path.name, half)]


def compressed_files(root: Path) -> list[Path]:
    """The compressed tar files of both halves."""
    files = (path for path in sorted(root.iterdir()) if path.name.lower().endswith(_COMPRESSED))
    return [path for path in files if any(_is_of(path.name, half) for half in HALVES)]


def _is_of(name: str, half: str) -> bool:
    return re.search(rf"(?<![a-z])({_WORDS[half]})(?![a-z])", name.lower()) is not None


def shard_name(half: str, number: int) -> str:
    """What `write_shards` calls the tar files of one half, numbered from 0."""
    return f"{half}-{number:06d}.tar"


def open_shards(root: Path, reading: Reading = RGB) -> tuple[ShardImages, ShardImages]:
    """Training and validation images of a folder with tar files of both halves and classes.json, a list of names.

    Where `write_shards` left a SUMMARY, all that it counts must be there. Where another tool wrote the files and there
    is no classes.json, the labels name the classes.

    Raises:
        ConfigError: classes.json or SUMMARY cannot be read or is damaged.
        DataError: a half or classes.json is missing, a tar file is missing, compressed or damaged, a label is none of a
            class, or train has a class without images.
    """
    plan = ShardPlan.read(root)
    if plan is not None and plan.finished is None:
        broken_off = "the tar files must all have been written, but that was broken off; the same call finishes it"
        raise DataError(f"{root / SUMMARY}: {broken_off}")
    if packed := compressed_files(root):
        must = "a tar file must not be compressed, so that any image in it can be read by itself"
        raise DataError(f"{packed[0]}: {must}: unpack it (gunzip, unxz or zstd -d)")
    counted = dict(plan.finished) if plan is not None and plan.finished is not None else {}
    paths = {half: shard_files(root, half) for half in HALVES}
    for half in HALVES:
        _check_files(root, half, paths[half], counted.get(half))
    with ThreadPoolExecutor() as threads:
        every = [path for half in HALVES for path in paths[half]]
        found = dict(zip(every, threads.map(_load_index, every), strict=True))
    foreign = [(path, shard) for path, shard in found.items() if isinstance(shard, ForeignShard)]
    notes: list[str] = []
    if plan is not None or (root / CLASSES).exists() or len(foreign) < len(found):
        classes = read_classes(root)
    else:
        classes = named_classes(foreign)
        named = f"{len(classes):,} classes are named as the labels in the tar files have them"
        notes.append(f"{root}: there is no {CLASSES}: {named}, {cut(', '.join(classes), 80)}")
    numbers = dict(zip((path for path, _ in foreign), numbered(foreign, classes), strict=True))
    halves = []
    for half in HALVES:
        over, indexes = PassedOver(), []
        for path in paths[half]:
            shard = found[path]
            if isinstance(shard, ForeignShard):
                over += shard.passed_over
                offsets, sizes, labels = (_int64(path, c) for c in (shard.offsets, shard.sizes, numbers[path]))
                shard = ShardIndex(
                    tar_bytes=shard.tar_bytes,
                    names=shard.names,
                    offsets=offsets,
                    sizes=sizes,
                    labels=labels,
                    damaged={},
                )
            indexes.append(shard)
        images = _half(root, half, paths[half], indexes, classes, expected=counted.get(half), reading=reading)
        images.notes = (*(notes if half == "train" else ()), *over.lines(root))
        halves.append(images)
    train, val = halves
    empty = np.flatnonzero(np.bincount(train.labels, minlength=len(classes)) == 0)
    if len(empty):
        raise DataError(
            f"{root}: every class must have an image in train, but {few([classes[i] for i in empty])} without"
        )
    return train, val


def _int64(path: Path, numbers: list[int]) -> NDArray[np.int64]:
    try:
        return np.array(numbers, dtype=np.int64)
    except OverflowError:
        greatest = cut(str(max(numbers)), 80)
        raise DataError(f"{path}: a label must be the number of a class, but got {greatest}") from None


def _check_files(root: Path, half: str, paths: list[Path], expected: HalfSummary | None) -> None:
    if not paths:
        raise DataError(f"{root}: beside the other tar files there must be {half}-*.tar, but there is none")
    for path in paths:
        if not path.is_file():  # a pipe would be waited for
            raise DataError(f"{path}: a tar file must be a file, but it is none")
    if expected is not None:
        there = {path.name for path in paths}
        missing = [name for n in range(expected.shards) if (name := shard_name(half, n)) not in there]
        if missing:
            all_of = f"all {expected.shards} tar files of {half} that {SUMMARY} counts"
            raise DataError(f"{root}: {all_of} must be there, but {few(missing)} missing")


def _half(
    root: Path,
    half: str,
    paths: list[Path],
    indexes: list[ShardIndex],
    classes: tuple[str, ...],
    *,
    expected: HalfSummary | None,
    reading: Reading,
) -> ShardImages:
    for path, index in zip(paths, indexes, strict=True):
        if len(index.labels) and not 0 <= index.labels.min() <= index.labels.max() < len(classes):
            got = f"{index.labels.min()} to {index.labels.max()}"
            raise DataError(f"{path}: labels must be from 0 to {len(classes) - 1}, as classes.json says, but got {got}")
    if not any(len(index.labels) for index in indexes):
        raise DataError(
            f"{root}: {half}-*.tar must hold an image (such as 000123.jpg beside 000123.cls), but none does"
        )
    images = sum(len(index.labels) for index in indexes)
    if expected is not None and images != expected.images:
        got = f"{images} in {len(paths)} tar files"
        raise DataError(f"{root}: {half}-*.tar must hold the {expected.images} images that {SUMMARY} counts, but {got}")
    return ShardImages(paths, indexes, classes, reading)


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """Where the images of one tar file of `tar_bytes` lie, which images were left out of it, and why.

    Attributes:
        source: see `IndexRecord`.
    """

    tar_bytes: int
    names: list[str]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    damaged: dict[str, str]
    source: str | None = None

    def save(self, path: Path) -> None:
        """Write the index as JSON, atomically; OutputError where that cannot be."""
        IndexRecord(
            tar_bytes=self.tar_bytes,
            names=self.names,
            offsets=self.offsets.tolist(),
            sizes=self.sizes.tolist(),
            labels=self.labels.tolist(),
            damaged=self.damaged,
            source=self.source,
        ).write(path)

    @staticmethod
    def load(tar: Path) -> ShardIndex | None:
        """What stands beside a tar file; None if that is missing, damaged or not of this tar file."""
        try:
            record = IndexRecord.read(tar.with_suffix(".json"))
            if record.tar_bytes != tar.stat().st_size:
                return None
        except (OSError, ConfigError, DataError):
            return None
        offsets, sizes, labels = (np.array(x, dtype=np.int64) for x in (record.offsets, record.sizes, record.labels))
        fits = len(record.names) == len(offsets) == len(sizes) == len(labels)
        if not fits or not (offsets + sizes <= record.tar_bytes).all():
            return None
        return ShardIndex(
            tar_bytes=record.tar_bytes,
            names=record.names,
            offsets=offsets,
            sizes=sizes,
            labels=labels,
            damaged=record.damaged,
            source=record.source,
        )


def _load_index(tar: Path) -> ShardIndex | ForeignShard:
    return ShardIndex.load(tar) or scan(tar)
