"""Images as files in one folder per class, as ImageNet is kept: train/CLASS/* and val/CLASS/*."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from se_nas.data.image_file import decode
from se_nas.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
_THREADS = 16  # a listing waits for the disk


class FolderImages:
    """The image files of one half of a data set, in the order of classes and names; an `EncodedImages`.

    The names lie in one array of bytes: a million Python strings would be copied into every worker process.

    Args:
        root: the data set's folder.
        names: of each image its path below `root`.
        labels: (N,) the class of each.
        classes: their names.
    """

    groups: NDArray[np.int64] | None = None

    def __init__(self, root: Path, names: Sequence[str], labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.classes = classes
        self.labels = labels
        self._root = root
        self._ends = np.cumsum([0, *map(len, encoded)])
        self._names = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Path of an image below the data set's folder."""
        return os.fsdecode(self._names[self._ends[index] : self._ends[index + 1]].tobytes())

    def read(self, index: int) -> bytes:
        """The bytes of an image file; OSError where it cannot be read."""
        with open(self._root / self.name(index), "rb") as file:
            return file.read()

    def image(self, index: int) -> Image.Image:
        """The decoded image; nearly any exception where it is damaged."""
        return decode(self.read(index))


def open_image_folder(root: Path) -> tuple[FolderImages, FolderImages]:
    """Training and validation images of a folder with train/CLASS/* and val/CLASS/*, files in subfolders included.

    Raises:
        DataError: a half is missing, there are fewer than 2 classes, a class of train has no image, val has a class
            that train does not have, a folder cannot be read, or what is named as an image is no file.
    """
    halves = root / "train", root / "val"
    for half in halves:
        if not half.is_dir():
            raise DataError(f"{half}: there must be a folder with one folder per class, but there is none")
    classes, val_classes = map(_class_names, halves)
    if len(classes) < 2:
        raise DataError(f"{halves[0]}: there must be at least 2 folders, one per class, but got {len(classes)}")
    unknown = sorted(set(val_classes) - set(classes))
    if unknown:
        raise DataError(f"{halves[1]}: every class must be in train as well, but {few(unknown)} not")
    train, val = (
        _scan(root, half.name, names, classes) for half, names in zip(halves, (classes, val_classes), strict=True)
    )
    empty = np.flatnonzero(np.bincount(train.labels, minlength=len(classes)) == 0)
    if len(empty):
        raise DataError(f"{halves[0]}: every class must have an image, but {few([classes[i] for i in empty])} without")
    return train, val


def few(names: Sequence[str]) -> str:
    """Up to 3 names, and how many there are if they are more, as the subject of a sentence with its verb."""
    shown = ", ".join(names[:3])
    return f"{shown} {'is' if len(names) == 1 else 'are'}" if len(names) <= 3 else f"{len(names)} ({shown}, ...) are"


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder}: the folder must be readable, but got: {error.strerror or error}") from error


def _class_names(folder: Path) -> tuple[str, ...]:
    with _reading(folder), os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")))


def _scan(root: Path, half: str, names: tuple[str, ...], classes: tuple[str, ...]) -> FolderImages:
    number = {name: label for label, name in enumerate(classes)}
    with ThreadPoolExecutor(_THREADS) as threads:
        found = list(threads.map(lambda name: sorted(_files(root, os.path.join(half, name))), names))
    labels = np.repeat([number[name] for name in names], [len(files) for files in found]).astype(np.int64)
    return FolderImages(root, [file for files in found for file in files], labels, classes)


def _files(root: Path, folder: str) -> list[str]:
    files = []
    with _reading(root / folder), os.scandir(root / folder) as entries:
        for entry in entries:
            path = os.path.join(folder, entry.name)
            if entry.name.startswith("."):
                continue
            if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                if not entry.is_file():  # to leave it out, or to look for images in it, would be a guess
                    got = "is a folder" if entry.is_dir() else "is none, or leads to none"
                    raise DataError(f"{root / path}: what is named as an image must be a file, but it {got}")
                files.append(path)
            elif entry.is_dir():
                files.extend(_files(root, path))
    return files
