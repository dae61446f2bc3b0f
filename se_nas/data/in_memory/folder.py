"""The user's own images, one folder per class (see `split_folder`), all held in memory at the resolution of the run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from se_nas.data.class_folders import few, printable
from se_nas.data.image_file import decode
from se_nas.data.in_memory.images import DataInfo, ImageSet, check_room
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.pixels import Reading, pixels_of, planes_in
from se_nas.data.split_folder import ClassFiles, test_files, train_files
from se_nas.errors import DataError, DeviceError, counted, cut, in_line
from se_nas.hardware.progress_bar import tracked

_RESOLUTION = 32


def load_train(options: DataOptions) -> tuple[DataInfo, ImageSet]:
    """The training images, shorter side resized to the resolution and centre-cropped.

    Raises:
        DataError: the folder is missing, has no classes or a class without images, or too many images are damaged.
    """
    found = train_files(_root(options))
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
    return _load(test_files(_root(options), options.files.val_labels), options)


def check_test(options: DataOptions) -> None:
    """See that there are test images; none is read.

    Raises:
        DataError: as for `load_test`, but for images that cannot be read.
    """
    test_files(_root(options), options.files.val_labels)


def _root(options: DataOptions) -> Path:
    if options.data_dir is None:
        raise DataError("the data set folder needs the folder of the images: name it with --data-dir")
    root = Path(options.data_dir)
    if not root.is_dir():
        raise DataError(f"{printable(str(root))}: --data-dir must name a folder of images, but there is no such folder")
    return root


def _load(found: ClassFiles, options: DataOptions) -> ImageSet:
    resolution = options.resolution or options.largest or _RESOLUTION
    paths = [path for members in found.files for path in members]
    labels = [label for label, members in enumerate(found.files) for _ in members]
    reading = options.reading
    try:
        check_room(len(paths), resolution, reading.channels)
    except DeviceError as error:
        raise DeviceError(f"{error}; the data set folder_on_disk leaves them where they are") from error
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
        return cut(in_line(error))
