"""What learning asks of training images, in memory or on disk, in a search as in a retraining.

A batch is cut into ranks * accumulate parts: image i of the batch is of part i modulo their number. What happens to an
image at random is a function of the seed, the batch's number and its place in it, so that k ranks see what one rank
with k parts sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from se_nas.data.on_disk.stream import TrainStream
from se_nas.data.on_disk.transforms import MEAN, STD, on_device

Batch = tuple[Tensor, Tensor]
"""Images (B, C, H, W) float32, channels_last, normalised, and labels (B,) int64, on the device that learns."""


class TrainingBatches(Protocol):
    """One rank's share of augmented batches of some images, numbered over a whole training; each pass over the images
    has an order of its own.

    Attributes:
        per_epoch: batches in a pass.
        images_per_batch: over all ranks and parts.
        damaged: name and reason of each image that this rank met and could not decode.
        labels: (n,) the class of each of the images.
    """

    per_epoch: int
    images_per_batch: int
    labels: NDArray[np.int64]

    @property
    def damaged(self) -> Mapping[str, str]:  # noqa: D102
        ...

    def parts(self, number: int, seed: int) -> Iterable[Batch]:
        """This rank's parts of a batch, which may be changed in place.

        Args:
            seed: of what is drawn for the whole batch; another one after a rollback.
        """
        ...

    def close(self) -> None:
        """Let go of worker processes."""
        ...


class StreamedBatches:
    """Batches whose images worker processes decode or augment one by one, and ahead where one follows another."""

    def __init__(
        self,
        stream: TrainStream,
        images_per_batch: int,
        device: torch.device,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
    ) -> None:
        self._stream, self._device, self._mean, self._std = stream, device, mean, std
        self.per_epoch, self.images_per_batch, self.labels = stream.steps_per_epoch, images_per_batch, stream.labels

    @property
    def damaged(self) -> Mapping[str, str]:  # noqa: D102
        return self._stream.damaged

    def parts(self, number: int, seed: int) -> Iterator[Batch]:
        """See `TrainingBatches`; the stream draws by its own seed, the pass and the place in it."""
        for batch in self._stream.micro_batches(*divmod(number, self.per_epoch)):
            yield on_device(batch, self._device, self._mean, self._std)

    def close(self) -> None:
        """End the workers."""
        self._stream.close()
