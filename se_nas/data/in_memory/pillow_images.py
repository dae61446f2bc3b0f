"""Images in memory had one by one, for transforms that work on single Pillow images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from se_nas.data.in_memory.images import ImageSet
from se_nas.data.pixels import Picture, picture_of


class PillowImages:
    """A set of images as `data.on_disk.encoded_images.StreamedImages`.

    Attributes:
        labels: (N,) the class of each image.
        groups: None: there are no files to be read in turn.
        channels: of every image.
    """

    groups: NDArray[np.int64] | None = None

    def __init__(self, images: ImageSet) -> None:
        self._pixels: NDArray[np.uint8] = images.images.numpy()
        self.channels = images.images.shape[3]
        self.labels: NDArray[np.int64] = images.labels.numpy()

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The number of an image."""
        return f"image {index}"

    def image(self, index: int) -> Picture:
        """The image with that number."""
        return picture_of(self._pixels[index])
