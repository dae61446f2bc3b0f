"""CIFAR-10 and CIFAR-100 (fine labels) in their official Python layout: https://www.cs.toronto.edu/~kriz/cifar.html"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from se_nas.data.in_memory.download import download_archive
from se_nas.data.in_memory.images import DataInfo, ImageSet, resized, with_channels
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.in_memory.restricted_pickle import PickledArray, read_pickle
from se_nas.errors import DataError, short

_SIDE = 32
_VALUES = 3 * _SIDE * _SIDE


@dataclass(frozen=True)
class CifarLayout:
    """The folder and files of one CIFAR data set, and where its archive is."""

    folder: str
    url: str
    md5: str
    classes: int
    meta: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_key: bytes
    names_key: bytes


LAYOUTS: dict[str, CifarLayout] = {
    "cifar10": CifarLayout(
        folder="cifar-10-batches-py",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        md5="c58f30108f718f92721af3b95e74349a",
        classes=10,
        meta="batches.meta",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test=("test_batch",),
        label_key=b"labels",
        names_key=b"label_names",
    ),
    "cifar100": CifarLayout(
        folder="cifar-100-python",
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        classes=100,
        meta="meta",
        train=("train",),
        test=("test",),
        label_key=b"fine_labels",
        names_key=b"fine_label_names",
    ),
}


def load_train(options: DataOptions) -> tuple[DataInfo, ImageSet]:
    """The official training images; the test files are not read and need not be there.

    Raises:
        DataError: a file is missing, damaged or not as published, or the download failed.
    """
    layout = LAYOUTS[options.name]
    folder = _folder(options, layout)
    meta = read_pickle(folder / layout.meta)
    names = _class_names(folder / layout.meta, meta, layout)
    train = _read(folder, layout.train, meta, layout, options)
    return DataInfo.of(options.name, names, train, flip=True), train


def load_test(options: DataOptions) -> ImageSet:
    """The official test images.

    Raises:
        DataError: as for `load_train`.
    """
    layout = LAYOUTS[options.name]
    folder = _folder(options, layout)
    return _read(folder, layout.test, read_pickle(folder / layout.meta), layout, options)


def check_test(options: DataOptions) -> None:
    """See that the file of the test images is there; it is not read.

    Raises:
        DataError: it is missing, or the download failed.
    """
    layout = LAYOUTS[options.name]
    folder = _folder(options, layout)
    missing = [name for name in layout.test if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder}: the {options.name} test images must be here, but {', '.join(missing)} is not")


def _folder(options: DataOptions, layout: CifarLayout) -> Path:
    """The folder of the files, which is `data_dir` or lies in it; downloaded first where that is asked for."""
    if options.data_dir is None:
        raise DataError(
            f"{options.name} needs a folder: name the one that holds {layout.folder} with --data-dir, "
            "or an empty one together with --download"
        )
    data_dir = Path(options.data_dir)
    below = data_dir / layout.folder
    for folder in (below, data_dir):
        if (folder / layout.meta).is_file():
            return folder
    if not options.download:
        raise DataError(
            f"{below}: the {options.name} files must be here, but {layout.meta} is not: "
            "name their folder with --data-dir, or add --download to fetch them"
        )
    target = data_dir if data_dir.name == layout.folder else below
    download_archive(layout.url, layout.md5, target, (layout.meta, *layout.train, *layout.test))
    return target


def _class_names(path: Path, meta: dict[bytes, Any], layout: CifarLayout) -> tuple[str, ...]:
    names = meta.get(layout.names_key)
    count = len(names) if isinstance(names, list) else None
    if not isinstance(names, list) or count != layout.classes:
        raise DataError(f"{path}: {layout.classes} class names must be listed, but got {count or 'none'}")
    if not all(isinstance(name, str | bytes) for name in names):
        raise DataError(f"{path}: class names must be text, but some are none")
    return tuple(name.decode(errors="backslashreplace") if isinstance(name, bytes) else name for name in names)


def _read(
    folder: Path, files: Sequence[str], meta: dict[bytes, Any], layout: CifarLayout, options: DataOptions
) -> ImageSet:
    parts = [_read_file(folder / name, meta.get(b"num_cases_per_batch"), layout) for name in files]
    images = torch.cat([torch.from_numpy(pixels) for pixels, _ in parts])
    labels = torch.cat([torch.from_numpy(numbers) for _, numbers in parts])
    return ImageSet(with_channels(resized(images, options.resolution or _SIDE), options), labels)


def _read_file(path: Path, expected: Any, layout: CifarLayout) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(n, 32, 32, 3) pixels and (n,) labels of one file; `expected` images, where the meta file says how many."""
    content = read_pickle(path)
    data, labels = content.get(b"data"), content.get(layout.label_key)
    if not isinstance(data, PickledArray) or not isinstance(labels, list):
        wanted = f"an array 'data' and a list {layout.label_key.decode()!r}"
        raise DataError(f"{path}: the file must hold {wanted}, but got {sorted(map(repr, content))}")
    try:
        pixels = data.uint8()
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: 'data' must be a uint8 array, but got: {error}") from error
    if pixels.shape != (len(labels), _VALUES) or not labels:
        raise DataError(
            f"{path}: 'data' must be of shape ({len(labels)}, {_VALUES}), as there are {len(labels)} labels "
            f"and at least one is needed, but got {pixels.shape}"
        )
    if isinstance(expected, int) and len(labels) != expected:
        raise DataError(f"{path}: the file must hold {expected} images, but got {len(labels)}")
    wrong = [label for label in labels if type(label) is not int or not 0 <= label < layout.classes]
    if wrong:
        raise DataError(f"{path}: labels must be in 0..{layout.classes - 1}, but got {short(wrong[0])}")
    planes = pixels.reshape(-1, 3, _SIDE, _SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, dtype=np.int64)
