"""Which files of a folder of images, one folder a class, are trained on, and which the test is of.

Either `train/<class>/*` and `test/<class>/*` (or `val/<class>/*`), or `<class>/*` alone, of which a fixed fifth of each
class is kept for the test.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from se_nas.data.class_folders import (
    PassedOver,
    class_names,
    few,
    has_images,
    images_by_folder,
    labelled_images,
    printable,
    subfolders,
)
from se_nas.errors import DataError

_TEST_FOLDERS = ("test", "val")


@dataclass(frozen=True)
class ClassFiles:
    """Of each class its image files below `root`, and what lies beside them."""

    root: Path
    where: str
    classes: tuple[str, ...]
    folders: list[str]
    files: list[list[str]]
    passed_over: PassedOver

    def part(self, test: bool) -> ClassFiles:
        """A fifth of each class to test on, or the other four to train on."""
        parts = [_fixed_split(files, folder)[test] for files, folder in zip(self.files, self.folders, strict=True)]
        return ClassFiles(self.root, self.where, self.classes, self.folders, parts, self.passed_over)


def _is_split(root: Path, passed_over: PassedOver) -> bool:
    """Whether `train` is the half to train on, and not a class of that name beside others.

    Raises:
        DataError: it might be either.
    """
    if not (root / "train").is_dir():
        return False
    folders = subfolders(root, passed_over)
    beside = [name for name in folders if name not in ("train", *_TEST_FOLDERS) and has_images(root / name)]
    classes = subfolders(root / "train", PassedOver())
    if not beside:
        return True
    if not any(has_images(root / "train" / name) for name in classes):
        return False
    one = "train/CLASS/* and test/CLASS/* (or val/CLASS/*), or CLASS/* for every class"
    got = f"beside folders in train {few(beside)} with images"
    raise DataError(f"{printable(str(root))}: there must be {one}, but {got}")


def _of(root: Path, half: str, passed_over: PassedOver) -> ClassFiles:
    where = root / half
    folders = subfolders(where, passed_over)
    files = images_by_folder(root, half, folders, passed_over)
    return ClassFiles(root, printable(str(where)), class_names(folders, where), folders, files, passed_over)


def _both_parts(root: Path, passed_over: PassedOver) -> tuple[ClassFiles, bool]:
    """The files of train, or all where they are not split, and whether they are."""
    split = _is_split(root, passed_over)
    found = _of(root, "train" if split else "", passed_over)
    if len(found.classes) < 2:
        must = "there must be at least 2 folders, one per class"
        raise DataError(f"{found.where}: {must}, but got {len(found.classes)}")
    for name, images in zip(found.folders, found.files, strict=True):
        if not images:
            over = "".join(f"; {line}" for line in passed_over.lines(root))
            got = f"there is none{over}"
            raise DataError(f"{found.where}/{printable(name)}: a class must have at least one image, but {got}")
    return found, split


def train_files(root: Path) -> ClassFiles:
    """The files to train on.

    Raises:
        DataError: there are no classes, or one has no image.
    """
    train, split = _both_parts(root, PassedOver())
    return train if split else train.part(test=False)


def test_files(root: Path, labels: Path | None) -> ClassFiles:
    """The files to test on.

    Args:
        labels: the classes of those that lie unsorted; see `class_folders.labelled_images`.

    Raises:
        DataError: as `train_files`; also where there are none, or one is of a class that is never trained on.
    """
    train, split = _both_parts(root, PassedOver())
    if not split:
        found = train.part(test=True)
        if not any(found.files):
            raise DataError(f"{train.where}: a class must have 3 images for one to be the test's, but none has")
        return found
    halves = [name for name in _TEST_FOLDERS if (root / name).is_dir()]
    where = printable(str(root))
    if not halves:
        raise DataError(f"{where}: beside train there must be test or val, but there is neither")
    half, passed_over = halves[0], PassedOver()
    if halves[1:] and (other := images_by_folder(root, "", halves[1:], PassedOver())[0]):
        passed_over.add("in val, as there is test", other[0], len(other))
    if labels is not None:
        sorted_out = labelled_images(root, half, train.folders, labels, passed_over)
        found = ClassFiles(root, f"{where}/{half}", train.classes, train.folders, sorted_out, passed_over)
    else:
        found = _of(root, half, passed_over)
    unknown = [name for name in found.folders if name not in train.folders]
    if unknown:
        got = f"{printable(unknown[0])!r} is not"
        raise DataError(f"{found.where}: every class must be in train as well, but {got}")
    if not any(found.files):
        loose = len(images_by_folder(root, "", [half], PassedOver())[0])
        got = f"{loose:,} lie there unsorted (name their classes with --val-labels FILE)" if loose else "there is none"
        raise DataError(f"{found.where}: there must be at least one test image in the folder of a class, but {got}")
    by_name = dict(zip(found.folders, found.files, strict=True))
    files = [by_name.get(name, []) for name in train.folders]
    return ClassFiles(root, found.where, train.classes, train.folders, files, passed_over)


def _fixed_split(files: list[str], folder: str) -> tuple[list[str], list[str]]:
    """Four fifths to train on and one to test on, by the hash of the file names: images that are added later change
    the side of few that were there."""

    def within(path: str) -> str:
        return os.path.relpath(path, folder)

    ordered = sorted(files, key=lambda path: hashlib.sha256(os.fsencode(within(path))).digest())
    test = round(len(files) / 5)
    return sorted(ordered[test:]), sorted(ordered[:test])
