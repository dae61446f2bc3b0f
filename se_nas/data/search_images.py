"""What a search asks of its training images, and images in memory or on disk behind it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from se_nas.data.in_memory.batches import Augmentation, DeviceImages
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.on_disk.stream import EvaluationStream, TrainStream
from se_nas.data.on_disk.training_set import TrainingSet
from se_nas.data.on_disk.transforms import EvalTransform, TrainTransform, on_device
from se_nas.data.training_batches import Batch, StreamedBatches, TrainingBatches
from se_nas.hardware.device import pins
from se_nas.hardware.distributed import Ranks


class SearchImages(Protocol):
    """The training images of a search, had by their numbers, on its device."""

    @property
    def device(self) -> torch.device:  # noqa: D102
        ...

    def at(self, side: int) -> SearchImages:
        """The same images, with sides of so many pixels where they are evaluated."""
        ...

    def training_batches(
        self,
        indices: Tensor,
        batch_size: int,
        seed: int,
        *,
        balanced: bool = False,
        ranks: Ranks | None = None,
        accumulate: int = 1,
    ) -> TrainingBatches:
        """Batches to learn from; of fewer images than a batch has, all.

        Args:
            batch_size: over all ranks and parts; image i of a batch is of part i modulo their number.
            balanced: every class comes equally often in a pass, which keeps its length.
            ranks: who share each batch.
            accumulate: parts that each rank takes its share in.
        """
        ...

    def evaluate_batches(self, indices: Tensor, batch_size: int) -> Iterator[Batch]:
        """The images without augmentation, in the order of `indices`; a batch may be smaller."""
        ...

    def tell_of_damage(self, ranks: Ranks) -> None:
        """Let all ranks know of the damaged images that any of them met; DataError where they are too many."""
        ...

    def close(self) -> None:
        """Let go of what the training batches hold, such as processes; they begin anew if they are asked again."""
        ...


def images_of_search(
    info: DataInfo, train: ImageSet | TrainingSet, device: torch.device, *, augmented: bool = False
) -> SearchImages:
    """The training images of a search.

    Args:
        augmented: whether they are learned from, and not evaluated alone.
    """
    if isinstance(train, TrainingSet):
        return DecodedImages(info, train, device)
    return DeviceImages(info, train, device, Augmentation(info.flip, info.crop_padding) if augmented else None)


class DecodedImages:
    """Images on disk as `SearchImages`: no more of them are held than the batches that are decoded ahead.

    What is learned from is a crop of random size and its mirror image, at the side of `info`; a network of a smaller
    side sees it resized, as from memory. What is evaluated is resized and cut out as in a retraining.
    """

    def __init__(self, info: DataInfo, train: TrainingSet, device: torch.device) -> None:
        self._info, self._train, self._side = info, train, info.resolution
        self._opened: list[StreamedBatches] = []
        self.device = device

    def at(self, side: int) -> DecodedImages:
        """See `SearchImages`."""
        other = copy.copy(self)
        other._side = side
        return other

    def training_batches(
        self,
        indices: Tensor,
        batch_size: int,
        seed: int,
        *,
        balanced: bool = False,
        ranks: Ranks | None = None,
        accumulate: int = 1,
    ) -> StreamedBatches:
        """See `SearchImages`; the crops, mirrored or not, depend on the seed and the batch's number alone."""
        train, ranks = self._train, ranks or Ranks()
        stream = TrainStream(
            train.part(indices),
            TrainTransform(self._info.resolution, flip=0.5 * self._info.flip),
            batch_size=min(batch_size, len(indices)),
            rank=ranks.rank,
            ranks=ranks.size,
            accumulate=accumulate,
            seed=seed,
            workers=train.workers,
            balanced=balanced,
            pin_memory=pins(self.device),
            damage=train.damage,
        )
        size = min(batch_size, len(indices))
        batches = StreamedBatches(stream, size, self.device, self._info.mean, self._info.std)
        self._opened.append(batches)
        return batches

    def evaluate_batches(self, indices: Tensor, batch_size: int) -> Iterator[Batch]:
        """See `SearchImages`; damaged images are left out."""
        train = self._train
        stream = EvaluationStream(
            train.part(indices),
            EvalTransform(self._side),
            batch_size=batch_size,
            workers=train.workers,
            pin_memory=pins(self.device),
            damage=train.damage,
        )
        return (on_device(batch, self.device, self._info.mean, self._info.std) for batch in stream)

    def tell_of_damage(self, ranks: Ranks) -> None:
        """See `SearchImages`; the first rank's log says a line of each."""
        for met in ranks.gathered(dict(self._train.damage.found)):
            self._train.damage.add(met)

    def close(self) -> None:
        """End the worker processes."""
        for batches in self._opened:
            batches.close()
