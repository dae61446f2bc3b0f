"""Images in tar files of about a thousand each: few large files to copy and to keep, instead of a million small ones.

The files are those of WebDataset (https://github.com/webdataset/webdataset): 000123.jpg beside 000123.cls, which has
the number of the class as text. An index beside each tar says where the images lie in it, so that any image can be
read at once; without one, the tar's own headers are read instead.
"""

from __future__ import annotations

import os
import tarfile
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from se_nas.data.image_file import decode
from se_nas.data.on_disk.image_folder import IMAGE_SUFFIXES, few
from se_nas.data.shard_records import SUMMARY, HalfSummary, IndexRecord, ShardPlan, read_classes
from se_nas.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL import Image

HALVES = ("train", "val")
_OPEN_FILES = 64
"""So many tar files a process keeps open: many systems allow 1,024, fewer than ImageNet's shards."""


class ShardImages:
    """The images of one half's tar files, in the files' order; an `EncodedImages`.

    Args:
        paths: the tar files.
        indexes: where the images of each lie.
        classes: their names.
    """

    def __init__(self, paths: Sequence[Path], indexes: Sequence[ShardIndex], classes: tuple[str, ...]) -> None:
        self.classes = classes
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
        return f"{self._paths[self.groups[index]].name}/{self._names[index].decode(errors='surrogatepass')}"

    def read(self, index: int) -> bytes:
        """The encoded image; OSError where it cannot be read."""
        size = int(self._sizes[index])
        content = os.pread(self._descriptor(int(self.groups[index])), size, int(self._offsets[index]))
        if len(content) < size:
            raise OSError(f"the tar file ends after {len(content)} of {size} bytes")
        return content

    def image(self, index: int) -> Image.Image:
        """The decoded image; nearly any exception where it is damaged."""
        return decode(self.read(index))

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


def shard_files(root: Path, half: str) -> list[Path]:
    """The tar files of one half, in the order of their names."""
    return sorted(root.glob(f"{half}-*.tar"))


def shard_name(half: str, number: int) -> str:
    """What `write_shards` calls the tar files of one half, numbered from 0."""
    return f"{half}-{number:06d}.tar"


def open_shards(root: Path) -> tuple[ShardImages, ShardImages]:
    """Training and validation images of a folder with train-*.tar, val-*.tar and classes.json, a list of names.

    Where `write_shards` left a SUMMARY, all that it counts must be there.

    Raises:
        ConfigError: classes.json or SUMMARY cannot be read or is damaged.
        DataError: a half or classes.json is missing, a tar file is missing or damaged, a label is none of a class, or
            train has a class without images.
    """
    classes = read_classes(root)
    plan = ShardPlan.read(root)
    if plan is not None and plan.finished is None:
        broken_off = "the tar files must all have been written, but that was broken off; the same call finishes it"
        raise DataError(f"{root / SUMMARY}: {broken_off}")
    counted = dict(plan.finished) if plan is not None and plan.finished is not None else {}
    train, val = (_open_half(root, half, classes, counted.get(half)) for half in HALVES)
    empty = np.flatnonzero(np.bincount(train.labels, minlength=len(classes)) == 0)
    if len(empty):
        raise DataError(
            f"{root}: every class must have an image in train, but {few([classes[i] for i in empty])} without"
        )
    return train, val


def _open_half(root: Path, half: str, classes: tuple[str, ...], expected: HalfSummary | None) -> ShardImages:
    paths = shard_files(root, half)
    if not paths:
        raise DataError(f"{root}: beside the other tar files there must be {half}-*.tar, but there is none")
    if expected is not None:
        there = {path.name for path in paths}
        missing = [name for n in range(expected.shards) if (name := shard_name(half, n)) not in there]
        if missing:
            all_of = f"all {expected.shards} tar files of {half} that {SUMMARY} counts"
            raise DataError(f"{root}: {all_of} must be there, but {few(missing)} missing")
    with ThreadPoolExecutor() as threads:
        indexes = list(threads.map(_load_index, paths))
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
    return ShardImages(paths, indexes, classes)


@dataclass(frozen=True)
class ShardIndex:
    """Where the images of one tar file of `tar_bytes` lie, and which images were left out of it, and why."""

    tar_bytes: int
    names: list[str]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    damaged: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the index as JSON, atomically; OutputError where that cannot be."""
        IndexRecord(
            tar_bytes=self.tar_bytes,
            names=self.names,
            offsets=self.offsets.tolist(),
            sizes=self.sizes.tolist(),
            labels=self.labels.tolist(),
            damaged=self.damaged,
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
        return ShardIndex(record.tar_bytes, record.names, offsets, sizes, labels, record.damaged)


def _load_index(tar: Path) -> ShardIndex:
    return ShardIndex.load(tar) or _scan(tar)


def _scan(path: Path) -> ShardIndex:
    """The index that a tar file's own headers give."""
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, int] = {}
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                folder, slash, file = member.name.rpartition("/")
                base, _, kind = file.partition(".")
                stem = folder + slash + base
                if member.isfile() and kind == "cls":
                    labels[stem] = int(tar.extractfile(member).read())  # type: ignore[union-attr]
                elif member.isfile() and f".{kind.lower()}" in IMAGE_SUFFIXES:
                    images[stem] = (member.name, member.offset_data, member.size)
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError(f"the file ends within {member.name}")
        stems = [stem for stem in images if stem in labels]
        numbers = np.array([labels[stem] for stem in stems], dtype=np.int64)
    except (tarfile.TarError, ValueError, OverflowError, OSError) as error:
        raise DataError(f"{path}: the file must be a whole WebDataset tar file, but got: {error}") from error
    offsets, sizes = (np.array([images[stem][part] for stem in stems], dtype=np.int64) for part in (1, 2))
    return ShardIndex(size, [images[stem][0] for stem in stems], offsets, sizes, numbers, {})
