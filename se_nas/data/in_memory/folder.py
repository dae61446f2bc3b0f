"""The user's own images, one folder per class.

Either `train/<class>/*` and `test/<class>/*` (or `val/<class>/*`), or `<class>/*` alone, of which a fixed fifth of each
class is kept for the test. All images are held in memory at the resolution of the run.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

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
from se_nas.data.image_file import decode
from se_nas.data.in_memory.images import DataInfo, ImageSet, check_room
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.pixels import Reading, pixels_of, planes_in
from se_nas.errors import DataError, counted, cut
from se_nas.hardware.progress_bar import tracked

_RESOLUTION = 32
_TEST_FOLDERS = ("test", "val")


def load_train(options: DataOptions) -> tuple[DataInfo, ImageSet]:
    """The training images, shorter side resized to the resolution and centre-cropped.

    Raises:
        DataError: the folder is missing, has no classes or a class without images, or too many images are damaged.
    """
    found = _train_files(_root(options))
    train = _load(found, options)
    missing = torch.bincount(train.labels, minlength=len(found.classes)) == 0
    if missing.any():
        names = few([name for name, gone in zip(found.classes, missing.tolist(), strict=True) if gone])
        raise DataError(f"{found.where}: every class must have an image that can be read, but {names} without")
    return DataInfo.of("folder", found.classes, train, flip=True), train


def load_test(options: DataOptions) -> ImageSet:
    """The test images, prepared as those of `load_train`.

    Raises:
        DataError: as for `load_train`; also where there are no test images or one is of a class never trained on.
    """
    return _load(_test_files(_root(options), options.files.val_labels), options)


def check_test(options: DataOptions) -> None:
    """See that there are test images; none is read.

    Raises:
        DataError: as for `load_test`, but for images that cannot be read.
    """
    _test_files(_root(options), options.files.val_labels)


def _root(options: DataOptions) -> Path:
    if options.data_dir is None:
        raise DataError("the data set folder needs the folder of the images: name it with --data-dir")
    root = Path(options.data_dir)
    if not root.is_dir():
        raise DataError(f"{printable(str(root))}: --data-dir must name a folder of images, but there is no such folder")
    return root


@dataclass(frozen=True)
class _Files:
    """Of each class its image files below `root`, and what lies beside them."""

    root: Path
    where: str
    classes: tuple[str, ...]
    folders: list[str]
    files: list[list[str]]
    passed_over: PassedOver

    def part(self, test: bool) -> _Files:
        """A fifth of each class to test on, or the other four to train on."""
        parts = [_fixed_split(files, folder)[test] for files, folder in zip(self.files, self.folders, strict=True)]
        return _Files(self.root, self.where, self.classes, self.folders, parts, self.passed_over)


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


def _of(root: Path, half: str, passed_over: PassedOver) -> _Files:
    where = root / half
    folders = subfolders(where, passed_over)
    files = images_by_folder(root, half, folders, passed_over)
    return _Files(root, printable(str(where)), class_names(folders, where), folders, files, passed_over)


def _both_parts(root: Path, passed_over: PassedOver) -> tuple[_Files, bool]:
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


def _train_files(root: Path) -> _Files:
    train, split = _both_parts(root, PassedOver())
    return train if split else train.part(test=False)


def _test_files(root: Path, labels: Path | None) -> _Files:
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
        found = _Files(root, f"{where}/{half}", train.classes, train.folders, sorted_out, passed_over)
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
    return _Files(root, found.where, train.classes, train.folders, files, passed_over)


def _fixed_split(files: list[str], folder: str) -> tuple[list[str], list[str]]:
    """Four fifths to train on and one to test on, by the hash of the file names: images that are added later change
    the side of few that were there."""

    def within(path: str) -> str:
        return os.path.relpath(path, folder)

    ordered = sorted(files, key=lambda path: hashlib.sha256(os.fsencode(within(path))).digest())
    test = round(len(files) / 5)
    return sorted(ordered[test:]), sorted(ordered[:test])


def _load(found: _Files, options: DataOptions) -> ImageSet:
    resolution = options.resolution or options.largest or _RESOLUTION
    paths = [path for members in found.files for path in members]
    labels = [label for label, members in enumerate(found.files) for _ in members]
    reading = options.reading
    check_room(len(paths), resolution, reading.channels)
    images = np.empty((len(paths), resolution, resolution, reading.channels), dtype=np.uint8)
    sound: list[int] = []
    damaged: list[str] = []
    last = ""
    with ThreadPoolExecutor() as threads:
        decoded = threads.map(lambda path: _decoded(found.root / path, resolution, reading), paths)
        bar = tracked(decoded, "reading images", len(paths))
        for path, label, image in zip(paths, labels, bar, strict=True):
            if not isinstance(image, str):
                images[len(sound)] = image
                sound.append(label)
                continue
            damaged.append(f"{printable(str(found.root / path))}: the image is damaged and left out ({image})")
            last = f"the last {printable(str(found.root / path))} ({image})"
            if len(damaged) > options.files.max_damaged:
                got = f"{len(damaged)} {'is' if len(damaged) == 1 else 'are'}, {last}"
                raise DataError(
                    f"at most {counted(options.files.max_damaged, 'image')} may be damaged (max_damaged), but {got}"
                )
    if not sound:
        got = f"all {len(paths)} are damaged, {last}"
        raise DataError(f"{found.where}: there must be an image that can be read, but {got}")
    notes = (*found.passed_over.lines(found.root), *damaged)
    return ImageSet(torch.from_numpy(images[: len(sound)]), torch.tensor(sound, dtype=torch.int64), notes)


def _decoded(path: Path, resolution: int, reading: Reading) -> NDArray[np.uint8] | str:
    """(resolution, resolution, C), the shorter side resized and the centre cut out; or why the image is damaged."""
    from PIL import Image

    try:
        picture = decode(path.read_bytes(), reading)
        scale = resolution / min(picture.size)
        width, height = (max(resolution, round(side * scale)) for side in picture.size)
        left, top = (width - resolution) // 2, (height - resolution) // 2
        box = (left, top, left + resolution, top + resolution)
        planes = planes_in(picture)
        cut_out = [plane.resize((width, height), Image.Resampling.BILINEAR).crop(box) for plane in planes]
        return pixels_of(tuple(cut_out))
    except MemoryError:
        raise
    except Exception as error:  # a damaged image raises nearly anything
        return cut(" ".join(str(error).split())) or type(error).__name__
