"""The user's own images, one folder per class.

Either `train/<class>/*` and `test/<class>/*` (or `val/<class>/*`), or `<class>/*` alone, of which a fixed fifth of each
class is kept for the test. All images are held in memory at the resolution of the run.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from se_nas.data.image_file import decode
from se_nas.data.in_memory.images import DataInfo, ImageSet, channel_statistics
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.on_disk.image_folder import IMAGE_SUFFIXES
from se_nas.errors import DataError

_RESOLUTION = 32
_TEST_FOLDERS = ("test", "val")


def load_train(options: DataOptions) -> tuple[DataInfo, ImageSet]:
    """The training images, shorter side resized to the resolution and centre-cropped, RGB.

    Raises:
        DataError: the folder is missing, has no classes or a class without images, or an image cannot be read.
    """
    root = _root(options)
    names, files = _train_files(root)
    if not (root / "train").is_dir():
        files = [_fixed_split(paths)[0] for paths in files]
    train = _load(files, options.resolution or _RESOLUTION)
    mean, std = channel_statistics(train.images)
    side = train.images.shape[1]
    return DataInfo(
        name="folder",
        classes=len(names),
        class_names=names,
        resolution=side,
        channels=3,
        mean=mean,
        std=std,
        flip=True,
        crop_padding=side // 8,
    ), train


def load_test(options: DataOptions) -> ImageSet:
    """The test images, prepared as those of `load_train`.

    Raises:
        DataError: as for `load_train`; also where there are no test images or one is of a class never trained on.
    """
    return _load(_test_files(_root(options)), options.resolution or _RESOLUTION)


def check_test(options: DataOptions) -> None:
    """See that there are test images; none is read.

    Raises:
        DataError: as for `load_test`, but for images that cannot be read.
    """
    _test_files(_root(options))


def _root(options: DataOptions) -> Path:
    if options.data_dir is None:
        raise DataError("the data set folder needs the folder of the images: name it with --data-dir")
    root = Path(options.data_dir)
    if not root.is_dir():
        raise DataError(f"{root}: --data-dir must name a folder of images, but there is no such folder")
    return root


def _train_files(root: Path) -> tuple[tuple[str, ...], list[list[Path]]]:
    """Class names and, for each, its image files in the order of their names."""
    folder = root / "train" if (root / "train").is_dir() else root
    classes = _class_folders(folder)
    files = [_image_files(path) for path in classes]
    if len(classes) < 2:
        raise DataError(f"{folder}: there must be at least 2 folders, one per class, but got {len(classes)}")
    for path, images in zip(classes, files, strict=True):
        if not images:
            raise DataError(f"{path}: a class must have at least one image, but there is none")
    return tuple(path.name for path in classes), files


def _test_files(root: Path) -> list[list[Path]]:
    """For each class, its test images in the order of their names."""
    names, files = _train_files(root)
    if not (root / "train").is_dir():
        files = [_fixed_split(paths)[1] for paths in files]
        if not any(files):
            raise DataError(f"{root}: a class must have 3 images for one to be the test's, but none has")
        return files
    folder = next((root / name for name in _TEST_FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        raise DataError(f"{root}: beside train there must be test or val, but there is neither")
    unknown = [path.name for path in _class_folders(folder) if path.name not in names]
    if unknown:
        raise DataError(f"{folder}: every class must be in train as well, but {unknown[0]!r} is not")
    files = [_image_files(folder / name) if (folder / name).is_dir() else [] for name in names]
    if not any(files):
        raise DataError(f"{folder}: there must be at least one test image, but there is none")
    return files


def _class_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in files if path.is_file() and not path.name.startswith("."))


def _fixed_split(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Four fifths to train on and one to test on, by the hash of the file names: images that are added later change
    the side of few that were there."""
    ordered = sorted(files, key=lambda path: hashlib.sha256(path.name.encode()).digest())
    test = round(len(files) / 5)
    return sorted(ordered[test:]), sorted(ordered[:test])


def _load(files: list[list[Path]], resolution: int) -> ImageSet:
    paths = [path for members in files for path in members]
    labels = [label for label, members in enumerate(files) for _ in members]
    shape = (len(paths), resolution, resolution, 3)
    try:
        images = np.empty(shape, dtype=np.uint8)
    except MemoryError as error:
        raise DataError(f"{len(paths)} images must fit the memory, but {shape} bytes do not") from error
    with ThreadPoolExecutor() as threads:
        decoded = threads.map(lambda path: _decode(path, resolution), paths)
        bar = track(decoded, "reading images", len(paths), console=Console(stderr=True), transient=True)
        for place, image in enumerate(bar):
            images[place] = image
    return ImageSet(torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64))


def _decode(path: Path, resolution: int) -> NDArray[np.uint8]:
    """(resolution, resolution, 3): the shorter side resized, the centre cut out."""
    from PIL import Image

    try:
        image = decode(path.read_bytes())
        scale = resolution / min(image.size)
        width, height = (max(resolution, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    except Exception as error:  # a damaged image raises nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: the file must be a whole image, but got: {reason}") from error
    left, top = (width - resolution) // 2, (height - resolution) // 2
    return np.asarray(image.crop((left, top, left + resolution, top + resolution)))
