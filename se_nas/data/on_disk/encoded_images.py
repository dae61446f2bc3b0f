"""Images that stay encoded on disk until a worker process decodes them: what ImageNet's size needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from se_nas.data.on_disk.image_folder import few, open_image_folder
from se_nas.data.on_disk.shards import open_shards, shard_files
from se_nas.errors import DataError

if TYPE_CHECKING:
    from PIL import Image


class EncodedImages(Protocol):
    """N image files and their classes; picklable, so that worker processes may read them.

    Attributes:
        classes: names, in the order of their numbers.
        labels: (N,) the class of each image.
        groups: (N,) the number of the file that holds each image, for a shuffle that reads few files at a time; None
            where every image has its own.
    """

    @property
    def classes(self) -> tuple[str, ...]:  # noqa: D102
        ...

    @property
    def labels(self) -> NDArray[np.int64]:  # noqa: D102
        ...

    @property
    def groups(self) -> NDArray[np.int64] | None:  # noqa: D102
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Where an image is, below the data set's folder."""
        ...

    def read(self, index: int) -> bytes:
        """The encoded image; OSError where it cannot be read."""
        ...

    def image(self, index: int) -> Image.Image:
        """The decoded image; nearly any exception where it is damaged."""
        ...


def open_encoded_images(root: Path) -> tuple[EncodedImages, EncodedImages]:
    """Training and validation images of a folder.

    Args:
        root: holds train/CLASS/* and val/CLASS/*, or train-*.tar, val-*.tar and classes.json (`write_shards`).

    Raises:
        DataError: no such folder, neither layout, or the halves are not of the same classes.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: --data-dir must name a folder of images, but there is no such folder")
    train: EncodedImages
    val: EncodedImages
    if (root / "train").is_dir():
        train, val = open_image_folder(root)
    elif shard_files(root, "train"):
        train, val = open_shards(root)
    else:
        raise DataError(
            f"{root}: there must be train/CLASS/* or train-*.tar (and the same of val), but there is neither"
        )
    absent = np.flatnonzero(np.bincount(val.labels, minlength=len(train.classes)) == 0)
    if len(absent):
        names = few([train.classes[label] for label in absent])
        raise DataError(f"{root}: every class of train must have an image in val, but {names} missing there or empty")
    return train, val
