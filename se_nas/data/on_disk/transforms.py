"""From the bytes of an image file to pixels: timm's transforms, named by plain values.

The crop of random size and shape is that of https://arxiv.org/abs/1409.4842 (section 6), RandAugment is
https://arxiv.org/abs/1909.13719. Everything here runs on Pillow images, in worker processes; images are normalised
where the network is, by `normalise`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from se_nas.data.on_disk.generators import GlobalGenerators
from se_nas.data.pixels import Picture, pixels_of, planes_in
from se_nas.errors import DataError
from se_nas.layers.torchvision_guard import import_timm

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet's training images, by channel, with pixels from 0 to 1."""

#: Least and greatest width over height of a crop by scale, as in timm and torchvision.
_RATIO = (3 / 4, 4 / 3)
_INTERPOLATIONS = ("bicubic", "bilinear", "lanczos", "random")


@dataclass(frozen=True)
class TrainTransform:
    """What is done at random to a training image; the draws come from the global generators of Python, numpy, torch.

    Attributes:
        resolution: side of the result in pixels.
        scale: least and greatest area of the crop, as a fraction of the image's.
        interpolation: bicubic, bilinear, lanczos, or random (one of the first two for every image).
        flip: probability of a mirror image.
        color_jitter: greatest relative change of brightness, contrast and saturation; not applied beside auto_augment,
            unless that is a 3-Augment policy ("3a").
        auto_augment: timm's name of a policy, such as rand-m9-mstd0.5; None is none.
        padding: pixels of zeros that are put around an image of the right size for a crop of that size, which then
            stands for the one by scale; None is none.

    Raises:
        DataError: a value is out of its range.
    """

    resolution: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    interpolation: str = "bicubic"
    flip: float = 0.5
    color_jitter: float = 0.0
    auto_augment: str | None = None
    padding: int | None = None

    def __post_init__(self) -> None:
        _check(self.resolution, self.interpolation, _INTERPOLATIONS)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise DataError(f"crop scales must rise within (0, 1], but got {self.scale}")
        if not 0 <= self.flip <= 1 or self.color_jitter < 0:
            got = f"{self.flip} and {self.color_jitter}"
            raise DataError(f"flip must be from 0 to 1 and color_jitter at least 0, but got {got}")

    def build(self) -> Callable[[Picture], Pixels]:
        """A picklable function from a picture of any size to (C, resolution, resolution) uint8.

        Raises:
            DataError: timm knows no such policy as auto_augment.
        """
        try:
            return _Pipeline(
                *([] if self.padding is None else [_PaddedCrop(self.padding)]),
                is_training=True,
                input_size=self.resolution,
                scale=self.scale if self.padding is None else (1.0, 1.0),
                ratio=_RATIO if self.padding is None else (1.0, 1.0),
                interpolation=self.interpolation,
                hflip=self.flip,
                color_jitter=self.color_jitter or None,
                auto_augment=self.auto_augment,
            )
        except (AssertionError, KeyError, ValueError) as error:
            got = f"{self.auto_augment!r} ({type(error).__name__})"
            raise DataError(
                f"auto_augment must be a policy of timm's, such as rand-m9-mstd0.5, but got {got}"
            ) from error


@dataclass(frozen=True)
class EvalTransform:
    """What is done to an image before it is judged: the shorter side is resized, the centre cut out.

    Attributes:
        resolution: side of the result in pixels.
        crop: the result's side over the resized image's shorter side.
        interpolation: bicubic, bilinear or lanczos.

    Raises:
        DataError: a value is out of its range.
    """

    resolution: int = 224
    crop: float = 0.875
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        _check(self.resolution, self.interpolation, _INTERPOLATIONS[:3])
        if not 0 < self.crop <= 1:
            raise DataError(f"crop must be above 0 and at most 1, but got {self.crop}")

    def build(self) -> Callable[[Picture], Pixels]:
        """A picklable function from a picture of any size to (C, resolution, resolution) uint8."""
        return _Pipeline(
            is_training=False, input_size=self.resolution, crop_pct=self.crop, interpolation=self.interpolation
        )


class _Pipeline:
    """timm's transforms, but for the last, which would copy the image into another order of its values."""

    def __init__(self, *first: Callable[[Image.Image], Image.Image], **options: Any) -> None:
        import_timm()
        from timm.data.transforms_factory import create_transform

        self._steps = [*first, *create_transform(**options, use_prefetcher=True).transforms[:-1]]

    def __call__(self, picture: Picture) -> Pixels:
        planes = planes_in(picture)
        states = GlobalGenerators.now() if len(planes) > 1 else None
        done = []
        for plane in planes:  # each channel with the same draws
            if states is not None:
                states.restore()
            image = plane
            for step in self._steps:
                image = step(image)
            done.append(image)
        pixels: Pixels = pixels_of(tuple(done)).transpose(2, 0, 1)
        return pixels


@dataclass(frozen=True)
class _PaddedCrop:
    """A crop of an image's own size, anywhere in the image with `padding` pixels of zeros around it."""

    padding: int

    def __call__(self, image: Image.Image) -> Image.Image:
        left, top = (random.randint(-self.padding, self.padding) for _ in range(2))
        return image.crop((left, top, left + image.width, top + image.height))  # outside of the image it is zero


def _check(resolution: int, interpolation: str, known: tuple[str, ...]) -> None:
    if resolution < 1:
        raise DataError(f"resolution must be at least 1, but got {resolution}")
    if interpolation not in known:
        raise DataError(f"interpolation must be one of {', '.join(known)}, but got {interpolation!r}")


def normalise(images: Tensor, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Tensor:
    """Subtract the mean and divide by the standard deviation of each channel, of pixels from 0 to 1.

    Args:
        images: (B, C, H, W) uint8, on any device; C as mean and std have.

    Returns:
        (B, C, H, W) float32, channels_last, on that device.
    """
    factor, offset = _factors(images.shape[2], images.shape[3], images.device, mean, std)
    return images.to(torch.float32, memory_format=torch.channels_last).mul_(factor).add_(offset)


def on_device(
    batch: tuple[Tensor, Tensor], device: torch.device, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Images as `normalise` makes them, and their labels, on the device that learns from them."""
    images, labels = batch
    return normalise(images.to(device, non_blocking=True), mean, std), labels.to(device, non_blocking=True)


@lru_cache(maxsize=4)
def _factors(
    height: int, width: int, device: torch.device, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    # One for every value of an image, not only for every channel: see `data.in_memory.batches`.
    deviation = torch.tensor(std, dtype=torch.float64)
    values = 1 / (255 * deviation), -torch.tensor(mean, dtype=torch.float64) / deviation
    factor, offset = (
        v.float().expand(height, width, len(mean)).contiguous().permute(2, 0, 1).to(device) for v in values
    )
    return factor, offset
