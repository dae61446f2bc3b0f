"""What a user may say about the data of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from se_nas.data.image_file import MAX_DAMAGED
from se_nas.data.pixels import Reading
from se_nas.errors import DataError


@dataclass(frozen=True)
class DataOptions:
    """Which data set, from where, and how large.

    Attributes:
        name: a name in `DATASETS` of images that fit the memory.
        data_dir: the folder of a data set that lies on disk.
        resolution: side of the square images in pixels; None is the data set's own.
        download: fetch a CIFAR data set into `data_dir` if it is not there.
        seed: of the synthetic images; no other data set depends on it.
        size: number of synthetic training images.
        channels: of the images, as the space has them; None is the data set's own, of folders 3.
        orient, value_range: how the files of a folder are read; see `data.pixels.Reading`.
        max_damaged: so many images of a folder may be damaged; each is named and left out.
        val_labels: the classes of a folder's test images that lie unsorted; see `class_folders.labelled_images`.

    Raises:
        DataError: resolution, size or channels is below 1, or max_damaged below 0, or value_range does not rise.
    """

    name: str
    data_dir: Path | None = None
    resolution: int | None = None
    download: bool = False
    seed: int = 0
    size: int = 2000
    channels: int | None = None
    orient: bool = True
    value_range: tuple[float, float] | None = None
    max_damaged: int = MAX_DAMAGED
    val_labels: Path | None = None

    def __post_init__(self) -> None:
        if self.resolution is not None and self.resolution < 1:
            raise DataError(f"resolution must be at least 1, but got {self.resolution}")
        if self.size < 1:
            raise DataError(f"size must be at least 1, but got {self.size}")
        if self.max_damaged < 0:
            raise DataError(f"max_damaged must be at least 0, but got {self.max_damaged}")
        _ = self.reading

    @property
    def reading(self) -> Reading:
        """How image files are read."""
        channels = 3 if self.channels is None else self.channels
        return Reading(channels, self.orient, self.value_range)
