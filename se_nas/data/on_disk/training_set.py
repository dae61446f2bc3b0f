"""Training images that stay on disk while a search learns from them, in parts that are sets of their numbers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from se_nas.data.in_memory.images import DataInfo
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.on_disk.encoded_images import EncodedImages, StreamedImages
from se_nas.data.on_disk.normalisation import normalisation
from se_nas.data.on_disk.stream_workers import DamageLog
from se_nas.data.pixels import Picture


class PartOfImages:
    """Some of a set's images, as `encoded_images.StreamedImages`; only numbers are held."""

    def __init__(self, images: StreamedImages, indices: Tensor) -> None:
        self._images = images
        self._indices: NDArray[np.int64] = indices.cpu().numpy()
        self.labels: NDArray[np.int64] = images.labels[self._indices]
        self.groups = None if images.groups is None else images.groups[self._indices]
        self.channels = images.channels

    def __len__(self) -> int:
        return len(self._indices)

    def name(self, index: int) -> str:
        """Where an image is."""
        return self._images.name(int(self._indices[index]))

    def image(self, index: int) -> Picture:
        """The decoded image."""
        return self._images.image(int(self._indices[index]))


@dataclass(frozen=True)
class TrainingSet:
    """The training images of a data set that stays on disk.

    Attributes:
        images: to be decoded as they are needed.
        workers: processes that decode the images of one part.
        damage: the damaged images met, in whichever part.
    """

    images: EncodedImages
    workers: int
    damage: DamageLog

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> Tensor:
        """(N,) int64."""
        return torch.from_numpy(self.images.labels)

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each kind of file that was passed over."""
        return self.images.notes

    def part(self, indices: Tensor) -> PartOfImages:
        """The images of a part."""
        return PartOfImages(self.images, indices)

    def digest(self) -> str:
        """Of the classes and of which file is of which: the numbers of another set's images mean other images."""
        found = hashlib.sha256(json.dumps(list(self.images.classes)).encode())
        found.update(self.images.labels.astype("<i8").tobytes())
        for index in range(len(self.images)):
            found.update(self.images.name(index).encode(errors="surrogatepass") + b"\n")
        return found.hexdigest()


def described(options: DataOptions, images: EncodedImages) -> DataInfo:
    """What the training images of a data set are, at the side that the options say.

    Raises:
        DataError: see `normalisation`.
    """
    mean, std = normalisation(images)
    return DataInfo(
        name=options.name,
        classes=len(images.classes),
        class_names=images.classes,
        resolution=options.resolution or options.largest or _RESOLUTION,
        channels=images.channels,
        mean=mean,
        std=std,
        flip=True,
        crop_padding=0,  # crops are of a random size instead
    )


_RESOLUTION = 224
