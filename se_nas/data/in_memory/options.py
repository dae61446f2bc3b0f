"""What a user may say about the data of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from se_nas.data.file_options import USUAL, FileOptions
from se_nas.data.pixels import Reading
from se_nas.errors import DataError


@dataclass(frozen=True)
class DataOptions:
    """Which data set, from where, and how large.

    Attributes:
        name: a name in `DATASETS` of images that fit the memory.
        data_dir: the folder of a data set that lies on disk.
        resolution: side of the square images in pixels; None is the data set's own.
        largest: side of images that have none of their own, such as those of a folder, where `resolution` is None.
        download: fetch a CIFAR data set into `data_dir` if it is not there.
        seed: of the synthetic images; no other data set depends on it.
        size: number of synthetic training images.
        channels: of the images, as the space has them; None is the data set's own, of folders 3.
        files: how the image files of a folder are read.

    Raises:
        DataError: resolution, size or channels is below 1.
    """

    name: str
    data_dir: Path | None = None
    resolution: int | None = None
    download: bool = False
    seed: int = 0
    size: int = 2000
    channels: int | None = None
    files: FileOptions = USUAL
    largest: int | None = None

    def __post_init__(self) -> None:
        if self.resolution is not None and self.resolution < 1:
            raise DataError(f"resolution must be at least 1, but got {self.resolution}")
        if self.size < 1:
            raise DataError(f"size must be at least 1, but got {self.size}")
        if self.channels is not None and self.channels < 1:
            raise DataError(f"channels must be at least 1, but got {self.channels}")

    @property
    def reading(self) -> Reading:
        """How image files are read."""
        return self.files.reading(3 if self.channels is None else self.channels)
