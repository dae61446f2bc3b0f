"""Images that stay encoded on disk until a worker process decodes them: what ImageNet's size needs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from se_nas.data.class_folders import few, printable
from se_nas.data.on_disk.image_folder import open_image_folder
from se_nas.data.on_disk.shards import compressed_files, open_shards, shard_files
from se_nas.data.pixels import RGB, Picture, Reading
from se_nas.errors import DataError


class StreamedImages(Protocol):
    """N images that are had one by one; picklable, so that worker processes may have them.

    Attributes:
        labels: (N,) the class of each image.
        groups: (N,) the number of the file that holds each image, for a shuffle that reads few files at a time; None
            where every image has its own.
        channels: of every image, once it is decoded.
    """

    @property
    def labels(self) -> NDArray[np.int64]:  # noqa: D102
        ...

    @property
    def groups(self) -> NDArray[np.int64] | None:  # noqa: D102
        ...

    @property
    def channels(self) -> int:  # noqa: D102
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What a person finds an image by, such as where it is below the data set's folder."""
        ...

    def image(self, index: int) -> Picture:
        """The decoded image; nearly any exception where it is damaged."""
        ...


class EncodedImages(StreamedImages, Protocol):
    """Those of files, with their classes.

    Attributes:
        classes: names, in the order of their numbers.
        notes: a line for each kind of file that was passed over.
    """

    @property
    def classes(self) -> tuple[str, ...]:  # noqa: D102
        ...

    @property
    def notes(self) -> tuple[str, ...]:  # noqa: D102
        ...

    def read(self, index: int) -> bytes:
        """The encoded image; OSError where it cannot be read."""
        ...

    def stamp(self, index: int) -> str:
        """What changes where the bytes of an image do, without reading them; OSError where it cannot be told."""
        ...


def open_encoded_images(
    root: Path, reading: Reading = RGB, val_labels: Path | None = None
) -> tuple[EncodedImages, EncodedImages]:
    """Training and validation images of a folder.

    Args:
        root: holds train/CLASS/* and val/CLASS/*, or tar files of both halves; see `shards.open_shards`.
        reading: how a file becomes a picture.
        val_labels: the classes of images that lie unsorted in val; see `class_folders.labelled_images`.

    Raises:
        DataError: no such folder, neither layout, or the halves are not of the same classes.
    """
    root = Path(root)
    where = printable(str(root))
    if not root.is_dir():
        raise DataError(f"{where}: --data-dir must name a folder of images, but there is no such folder")
    train: EncodedImages
    val: EncodedImages
    if (root / "train").is_dir():
        train, val = open_image_folder(root, reading, val_labels)
    elif shard_files(root, "train"):
        return open_encoded_shards(root, reading, val_labels)
    else:
        got = "there is neither"
        if packed := compressed_files(root):
            got = f"{packed[0]} is compressed (unpack it with gunzip), so that no image in it can be read by itself"
        raise DataError(f"{where}: there must be train/CLASS/* or train-*.tar (and the same of val), but {got}")
    _check_halves(where, train, val)
    return train, val


def open_encoded_shards(
    root: Path, reading: Reading = RGB, val_labels: Path | None = None
) -> tuple[EncodedImages, EncodedImages]:
    """As `open_encoded_images`, of tar files alone."""
    where = printable(str(root))
    if not Path(root).is_dir():
        raise DataError(f"{where}: --data-dir must name a folder of tar files, but there is no such folder")
    if val_labels is not None:
        raise DataError(f"{val_labels}: --val-labels must be left out for tar files, which hold their labels")
    train, val = open_shards(Path(root), reading)
    _check_halves(where, train, val)
    return train, val


def _check_halves(where: str, train: EncodedImages, val: EncodedImages) -> None:
    absent = np.flatnonzero(np.bincount(val.labels, minlength=len(train.classes)) == 0)
    if len(absent):
        names = few([train.classes[label] for label in absent])
        raise DataError(f"{where}: every class of train must have an image in val, but {names} missing there or empty")
