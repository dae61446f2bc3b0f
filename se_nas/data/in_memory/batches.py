"""Batches cut from images that lie on the device as uint8: augmentation is one gather and a few tensor operations.

Crop and flip as in https://arxiv.org/abs/1512.03385 (section 4.2).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, pad

from se_nas.data.balance import balanced_order
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.errors import DataError
from se_nas.hardware.device import sent
from se_nas.hardware.distributed import Ranks


@dataclass(frozen=True)
class Augmentation:
    """What is done at random to every training image.

    Attributes:
        flip: mirror with probability 1/2.
        crop_padding: pixels of zeros put around an image before a crop of its own size; 0 is no crop.

    Raises:
        DataError: crop_padding is negative.
    """

    flip: bool
    crop_padding: int

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise DataError(f"crop_padding must be at least 0 pixels, but got {self.crop_padding}")


def at_side(images: Tensor, side: int) -> Tensor:
    """(B, C, H, W) images with sides of so many pixels, bilinear and antialiased, on their device.

    Augmented images are resized afterwards, so that a seed gives one picture whatever the resolution, shifted by the
    same share of its side.
    """
    if images.shape[-1] == images.shape[-2] == side:
        return images
    resized = interpolate(images, (side, side), mode="bilinear", antialias=True)
    return resized.contiguous(memory_format=torch.channels_last)


class DeviceImages:
    """An image set on a device, ready to be cut into batches.

    Args:
        info: gives the mean and standard deviation that images are normalised with.
        image_set: its images are copied (with their padding) to the device.
        device: where batches are made and returned.
        augment: what `batch` does to the images; None does nothing to them.
    """

    def __init__(
        self,
        info: DataInfo,
        image_set: ImageSet,
        device: torch.device | str,
        augment: Augmentation | None = None,
    ) -> None:
        self.augment = augment or Augmentation(flip=False, crop_padding=0)
        self.labels = image_set.labels.to(device)
        self._height, self._width = image_set.images.shape[1:3]
        self._side: int | None = None
        padding = self.augment.crop_padding
        self._padded = pad(image_set.images.to(device), (0, 0, padding, padding, padding, padding))
        # A factor and an offset for every value of an image, not only for every channel: the innermost dimension of
        # the broadcast is then the image and not its 3 channels, which is many times faster on a CPU.
        std = torch.tensor(info.std, dtype=torch.float64)
        shape = image_set.images.shape[1:]
        self._factor = (1 / (255 * std)).float().expand(shape).contiguous().to(device)
        mean = torch.tensor(info.mean, dtype=torch.float64)
        self._offset = (-mean / std).float().expand(shape).contiguous().to(device)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.labels.device

    def at(self, side: int) -> DeviceImages:
        """The same images, each resized as `at_side` does when it is cut into a batch."""
        other = copy.copy(self)
        other._side = side
        return other

    def batch(
        self, indices: Tensor, generator: torch.Generator | None = None, part: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Augmented images and their labels.

        Every random number is drawn on the CPU, so that one seed gives one batch on every device.

        Args:
            indices: (B,) int64, on any device.
            generator: of the CPU; None is torch's global one.
            part: which of the images are wanted; they are what they would be in the whole batch.

        Returns:
            (B, C, H, W) float32, channels_last, normalised; (B,) int64.
        """
        count, padding = len(indices), self.augment.crop_padding
        top, left = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
        rows = top + torch.arange(self._height)
        columns = left + torch.arange(self._width)
        if self.augment.flip:
            flipped = torch.randint(0, 2, (count, 1), generator=generator).bool()
            columns = torch.where(flipped, columns.flip(1), columns)
        return self._cut(indices[part], rows[part], columns[part])

    def training_batches(
        self,
        indices: Tensor,
        batch_size: int,
        seed: int,
        *,
        balanced: bool = False,
        ranks: Ranks | None = None,
        accumulate: int = 1,
    ) -> EpochBatches:
        """Training batches of some of the images."""
        return EpochBatches(self, indices, batch_size, seed, balanced=balanced, ranks=ranks, accumulate=accumulate)

    def tell_of_damage(self, ranks: Ranks) -> None:
        """None of them is damaged."""

    def close(self) -> None:
        """There is nothing to let go of."""

    def evaluate_batches(self, indices: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The images as they are, in the order of `indices`, as `batch` returns them; the last batch may be smaller."""
        padding = self.augment.crop_padding
        rows = sent((padding + torch.arange(self._height)).unsqueeze(0), self.device)
        columns = sent((padding + torch.arange(self._width)).unsqueeze(0), self.device)
        for chunk in torch.split(indices, batch_size):
            yield self._cut(chunk, rows, columns)

    def _cut(self, indices: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """The pixels at (B or 1, H) rows and (B or 1, W) columns of each image, normalised."""
        indices, rows, columns = (sent(index, self.device) for index in (indices, rows, columns))
        pixels = self._padded[indices[:, None, None], rows[:, :, None], columns[:, None, :]]
        images = pixels.float().mul_(self._factor).add_(self._offset).permute(0, 3, 1, 2)
        return images if self._side is None else at_side(images, self._side), self.labels[indices]


class EpochBatches:
    """Training batches of some images, numbered over a whole training; each pass over them has an order of its own.

    Args:
        indices: (n,) of the images.
        batch_size: over all ranks and parts.
        balanced: every class comes equally often in a pass, which keeps its length.
        ranks: who share each batch; `parts` are those of this one.
        accumulate: parts that each rank takes its share in. Image i of a batch is of part i modulo their number.

    Attributes:
        per_epoch, images_per_batch, labels: see `TrainingBatches`.
    """

    def __init__(
        self,
        images: DeviceImages,
        indices: Tensor,
        batch_size: int,
        seed: int,
        *,
        balanced: bool = False,
        ranks: Ranks | None = None,
        accumulate: int = 1,
    ) -> None:
        self._images, self._indices, self._size, self._seed = images, indices, batch_size, seed
        self.images_per_batch = min(batch_size, len(indices))
        self.damaged: Mapping[str, str] = {}
        self.labels: NDArray[np.int64] = images.labels.cpu()[indices.cpu()].numpy()
        self._balanced = balanced
        self.per_epoch = batches_per_epoch(len(indices), batch_size)
        ranks = ranks or Ranks()
        count = ranks.size * accumulate
        self._parts = [slice(part, None, count) for part in range(ranks.rank, count, ranks.size)]
        self._turn, self._order = -1, indices

    def parts(self, number: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's parts of a batch, augmented as one seed says for the whole of it."""
        for part in self._parts:
            yield self._images.batch(self._at(number), torch.Generator().manual_seed(seed), part)

    def close(self) -> None:
        """There is nothing to let go of."""

    def _at(self, number: int) -> Tensor:
        turn, place = divmod(number, self.per_epoch)
        if turn != self._turn:
            self._turn, self._order = turn, self._indices[self._order_of(turn)]
        return self._order[place * self._size : (place + 1) * self._size]

    def _order_of(self, turn: int) -> Tensor:
        if not self._balanced:
            return epoch_order(len(self._indices), self._seed, turn)
        return torch.from_numpy(balanced_order(self.labels, np.random.default_rng([self._seed, turn])))


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """A permutation of n indices, (n,) int64, fixed by the seed and the epoch."""
    # A hash, so that seed 1 in epoch 0 has nothing of seed 0 in epoch 1.
    digest = hashlib.sha256(f"epoch order {seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
    return torch.randperm(n, generator=generator)


def batches_per_epoch(n: int, batch_size: int) -> int:
    """Training batches in n images: the last, partial one is dropped, unless it is the only one."""
    return max(1, n // batch_size)
