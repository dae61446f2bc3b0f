"""Images as files in one folder per class, as ImageNet is kept: train/CLASS/* and val/CLASS/*."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from se_nas.data.class_folders import (
    PassedOver,
    class_names,
    few,
    images_by_folder,
    labelled_images,
    printable,
    subfolders,
)
from se_nas.data.image_file import decode
from se_nas.data.pixels import RGB, Picture, Reading
from se_nas.data.split_folder import test_files, train_files
from se_nas.errors import DataError


class FolderImages:
    """The image files of one half of a data set, in the order of classes and names; an `EncodedImages`.

    The names lie in one array of bytes: a million Python strings would be copied into every worker process.

    Args:
        root: the data set's folder.
        names: of each image its path below `root`.
        labels: (N,) the class of each.
        classes: their names.
        reading: how a file becomes a picture.
    """

    groups: NDArray[np.int64] | None = None

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        labels: NDArray[np.int64],
        classes: tuple[str, ...],
        reading: Reading = RGB,
    ) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.classes = classes
        self.labels = labels
        self.reading = reading
        self.channels = reading.channels
        self.notes: tuple[str, ...] = ()
        self._root = root
        self._ends = np.cumsum([0, *map(len, encoded)])
        self._names = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Path of an image below the data set's folder, as it can be shown."""
        return printable(self._path(index))

    def stamp(self, index: int) -> str:
        """What changes where an image's file does; OSError where there is none."""
        found = os.stat(self._root / self._path(index))
        return f"{found.st_size} {found.st_mtime_ns}"

    def read(self, index: int) -> bytes:
        """The bytes of an image file; OSError where it cannot be read."""
        with open(self._root / self._path(index), "rb") as file:
            return file.read()

    def image(self, index: int) -> Picture:
        """The decoded image; nearly any exception where it is damaged."""
        return decode(self.read(index), self.reading)

    def _path(self, index: int) -> str:
        return os.fsdecode(self._names[self._ends[index] : self._ends[index + 1]].tobytes())


def open_image_folder(
    root: Path, reading: Reading = RGB, val_labels: Path | None = None
) -> tuple[FolderImages, FolderImages]:
    """Training and validation images of a folder with train/CLASS/* and val/CLASS/*, files in subfolders included.

    Args:
        val_labels: the classes of images that lie unsorted in val; see `class_folders.labelled_images`.

    Raises:
        DataError: a half is missing, there are fewer than 2 classes, a class of train has no image, val has a class
            that train does not have, a folder cannot be read, or what is named as an image is no file.
    """
    halves = root / "train", root / "val"
    for half in halves:
        if not half.is_dir():
            where = printable(str(half))
            raise DataError(f"{where}: there must be a folder with one folder per class, but there is none")
    over = PassedOver(), PassedOver()
    folders = subfolders(halves[0], over[0])
    if len(folders) < 2:
        where = printable(str(halves[0]))
        raise DataError(f"{where}: there must be at least 2 folders, one per class, but got {len(folders)}")
    classes = class_names(folders, halves[0])
    train = _of_classes(root, images_by_folder(root, "train", folders, over[0]), classes, reading)
    empty = np.flatnonzero(np.bincount(train.labels, minlength=len(classes)) == 0)
    if len(empty):
        where = printable(str(halves[0]))
        raise DataError(f"{where}: every class must have an image, but {few([classes[i] for i in empty])} without")
    if val_labels is not None:
        found = labelled_images(root, "val", folders, val_labels, over[1])
    else:
        found = _sorted_images(root, folders, over[1])
    val = _of_classes(root, found, classes, reading)
    train.notes, val.notes = (passed.lines(root) for passed in over)
    return train, val


def open_split_folder(
    root: Path, reading: Reading = RGB, val_labels: Path | None = None
) -> tuple[FolderImages, FolderImages]:
    """Training and test images of a folder that `split_folder` divides.

    Raises:
        DataError: see there; or there is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        where = printable(str(root))
        raise DataError(f"{where}: --data-dir must name a folder of images, but there is no such folder")
    halves = []
    for found in (train_files(root), test_files(root, val_labels)):
        images = _of_classes(root, found.files, found.classes, reading)
        images.notes = found.passed_over.lines(root)
        halves.append(images)
    train, test = halves
    return train, test


def _sorted_images(root: Path, folders: list[str], over: PassedOver) -> list[list[str]]:
    """The images of val by class, where each class has its folder."""
    half = root / "val"
    there = subfolders(half, over)
    unknown = sorted(set(there) - set(folders))
    if unknown:
        where = printable(str(half))
        raise DataError(f"{where}: every class must be in train as well, but {few(unknown)} not")
    if not there and (loose := len(images_by_folder(root, "", ["val"], PassedOver())[0])):
        must = "the images must be sorted into a folder for each class, or their classes be listed (--val-labels FILE)"
        raise DataError(f"{printable(str(half))}: {must}, but {loose:,} lie there unsorted")
    by_name = dict(zip(there, images_by_folder(root, "val", there, over), strict=True))
    return [by_name.get(folder, []) for folder in folders]


def _of_classes(root: Path, files: list[list[str]], classes: tuple[str, ...], reading: Reading) -> FolderImages:
    labels = np.repeat(np.arange(len(files)), [len(members) for members in files]).astype(np.int64)
    return FolderImages(root, [file for members in files for file in members], labels, classes, reading)
