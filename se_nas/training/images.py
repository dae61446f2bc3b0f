"""The images of a training by a recipe: batches to learn from, and images to look at, in memory or on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Protocol

import torch

from se_nas.data.image_file import MAX_DAMAGED
from se_nas.data.in_memory.batches import Augmentation, DeviceImages
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.in_memory.pillow_images import PillowImages
from se_nas.data.on_disk.encoded_images import StreamedImages
from se_nas.data.on_disk.stream import EvaluationStream, TrainStream
from se_nas.data.on_disk.stream_workers import DamageLog
from se_nas.data.on_disk.transforms import MEAN, STD, EvalTransform, on_device
from se_nas.data.training_batches import Batch, StreamedBatches, TrainingBatches
from se_nas.errors import ConfigError
from se_nas.hardware.device import pins
from se_nas.hardware.distributed import Ranks
from se_nas.hardware.lines import Say
from se_nas.training.recipe import Recipe


def part_seed(seed: int, part: int | str) -> int:
    """A seed of what is drawn for one part of a step's batch, or for another thing of the step by its name."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {part}".encode(), digest_size=8).digest(), "little") >> 1


class HeldOutImages(Protocol):
    """One rank's share of images that are looked at and never learned from; may be iterated again and again.

    Attributes:
        damaged: as of `TrainingBatches`.
    """

    @property
    def damaged(self) -> Mapping[str, str]:  # noqa: D102
        ...

    def __iter__(self) -> Iterator[Batch]: ...


# --- as they come from a stream -----------------------------------------------------------------


class StreamedHeldOut:
    """Held-out images that worker processes decode one by one."""

    def __init__(
        self,
        stream: EvaluationStream,
        device: torch.device,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
    ) -> None:
        self._stream, self._device, self._mean, self._std = stream, device, mean, std

    @property
    def damaged(self) -> Mapping[str, str]:  # noqa: D102
        return self._stream.damaged

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._stream:
            yield on_device(batch, self._device, self._mean, self._std)


# --- on disk ------------------------------------------------------------------------------------


def check_colours(recipe: Recipe, channels: int) -> None:
    """Raise ConfigError where the recipe changes colours, but the images have none."""
    if (recipe.auto_augment is not None or recipe.color_jitter) and channels != 3:
        what = f"must be left out for images of {channels} channel{'s' * (channels > 1)}, which have no colours"
        raise ConfigError("recipe", [f"{'auto_augment' if recipe.auto_augment else 'color_jitter'}: {what}"])


def check_for_disk(recipe: Recipe, channels: int = 3) -> None:
    """Raise ConfigError where the recipe asks for what images on disk, of any size, cannot have."""
    check_colours(recipe, channels)
    if recipe.crop == "padded":
        what = "must be random_size for images on disk, which are not of one size"
        raise ConfigError("recipe", [f"crop: {what}, but got padded"])


def images_on_disk(
    recipe: Recipe,
    resolution: int,
    train: StreamedImages,
    held_out: StreamedImages,
    *,
    ranks: Ranks,
    device: torch.device,
    seed: int,
    workers: int,
    say: Say | None = None,
    max_damaged: int = MAX_DAMAGED,
    damage: DamageLog | None = None,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
) -> tuple[StreamedBatches, StreamedHeldOut]:
    """Training and held-out images that are decoded as they are needed.

    Args:
        resolution: of the network; used where the recipe names none.
        workers: processes of this rank that decode; 0 decodes in this one.
        max_damaged: images of this rank that may be left out because they cannot be decoded.
        say: is given a line for each of these.
        damage: in place of these two, a log that other streams share.
        mean, std: by which the images are normalised; of ImageNet where nothing else is said.

    Raises:
        ConfigError: the batch cannot be divided among the ranks, or the recipe is not for images on disk.
        DataError: the images are fewer than a batch.
    """
    check_for_disk(recipe, train.channels)
    stream = TrainStream(
        train,
        recipe.train_transform(resolution),
        batch_size=recipe.batch_size,
        rank=ranks.rank,
        ranks=ranks.size,
        accumulate=recipe.accumulate,
        seed=seed,
        workers=workers,
        repeats=recipe.repeats,
        balanced=recipe.balanced_sampling,
        max_damaged=max_damaged,
        pin_memory=pins(device),
        say=say,
        damage=damage,
    )
    looked_at = EvaluationStream(
        held_out,
        recipe.eval_transform(resolution),
        batch_size=recipe.micro_batch(ranks.size),
        rank=ranks.rank,
        ranks=ranks.size,
        workers=workers,
        max_damaged=max_damaged,
        pin_memory=pins(device),
        say=say,
        damage=damage,
    )
    training = StreamedBatches(stream, recipe.batch_size, device, mean, std)
    return training, StreamedHeldOut(looked_at, device, mean, std)


# --- in memory ----------------------------------------------------------------------------------


#: Held-out images in one forward pass, as the validation of a search has them.
_EVALUATED = 500


class GatheredHeldOut:
    """Held-out images that lie on the device, as they are."""

    damaged: Mapping[str, str] = {}

    def __init__(self, images: DeviceImages, ranks: Ranks) -> None:
        self._images = images
        self._indices = torch.arange(ranks.rank, len(images), ranks.size)

    def __iter__(self) -> Iterator[Batch]:
        return self._images.evaluate_batches(self._indices, _EVALUATED)


def images_in_memory(
    recipe: Recipe,
    info: DataInfo,
    train: ImageSet,
    held_out: ImageSet,
    *,
    ranks: Ranks,
    device: torch.device,
    seed: int,
    workers: int = 0,
) -> tuple[TrainingBatches, HeldOutImages]:
    """Training and held-out images of a set that fits the memory.

    They are gathered on the device where the recipe asks for no more than a padded crop and a mirror image, and tests
    on images as they are. Else each goes through the transforms of images on disk.

    Args:
        workers: processes of this rank for transforms of single images; 0 does them in this one.

    Raises:
        ConfigError: the batch cannot be divided among the ranks, or the recipe is not for these images.
        DataError: the images are fewer than a batch that must be whole.
    """
    recipe.micro_batch(ranks.size)
    flip = recipe.flip if recipe.flip is not None else 0.5 * info.flip
    check_colours(recipe, info.channels)
    training: TrainingBatches
    if _can_gather(recipe, flip):
        if recipe.batch_size > len(train) and (recipe.mixes or ranks.size * recipe.accumulate > 1):
            what = f"must be at most the number of training images, {len(train)}, to be mixed or divided"
            raise ConfigError("recipe", [f"batch_size: {what}, but got {recipe.batch_size}"])
        images = DeviceImages(info, train, device, Augmentation(flip > 0, info.crop_padding))
        training = images.training_batches(
            torch.arange(len(train)),
            recipe.batch_size,
            seed,
            balanced=recipe.balanced_sampling,
            ranks=ranks,
            accumulate=recipe.accumulate,
        )
    else:
        transform = replace(
            recipe.train_transform(info.resolution),
            flip=flip,
            padding=info.crop_padding if recipe.crop == "padded" else None,
        )
        stream = TrainStream(
            PillowImages(train),
            transform,
            batch_size=recipe.batch_size,
            rank=ranks.rank,
            ranks=ranks.size,
            accumulate=recipe.accumulate,
            seed=seed,
            workers=workers,
            repeats=recipe.repeats,
            balanced=recipe.balanced_sampling,
            pin_memory=pins(device),
        )
        training = StreamedBatches(stream, recipe.batch_size, device, info.mean, info.std)
    return training, _held_out_in_memory(recipe, info, held_out, ranks, device, workers)


def _can_gather(recipe: Recipe, flip: float) -> bool:
    """Whether a gather does all that a recipe asks for."""
    plain = recipe.auto_augment is None and not recipe.color_jitter and recipe.repeats == 1
    return plain and recipe.crop == "padded" and flip in (0.0, 0.5)


def test_transform(recipe: Recipe, info: DataInfo) -> EvalTransform | None:
    """What is done to held-out images that lie in memory; None where they are looked at as they lie there."""
    if recipe.test_crop is None and recipe.test_resolution in (None, info.resolution):
        return None
    return recipe.eval_transform(info.resolution)


def _held_out_in_memory(
    recipe: Recipe, info: DataInfo, images: ImageSet, ranks: Ranks, device: torch.device, workers: int
) -> HeldOutImages:
    transform = test_transform(recipe, info)
    if transform is None:
        return GatheredHeldOut(DeviceImages(info, images, device), ranks)
    stream = EvaluationStream(
        PillowImages(images),
        transform,
        batch_size=recipe.micro_batch(ranks.size),
        rank=ranks.rank,
        ranks=ranks.size,
        workers=workers,
        pin_memory=pins(device),
    )
    return StreamedHeldOut(stream, device, info.mean, info.std)
