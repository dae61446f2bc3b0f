"""Labelled images as one uint8 tensor, and the facts about them that a training run needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from se_nas.data.in_memory.options import DataOptions
from se_nas.errors import DataError
from se_nas.hardware.memory import check_fits

_LUMA = (19595, 38470, 7471)  # of ITU-R 601-2 in 65536ths, as Pillow's: a grey image is the same from memory and disk
_CHUNK = 1024  # images worked on at once, so that no float copy of a whole data set is ever made


@dataclass(frozen=True)
class ImageSet:
    """Images and their classes.

    Attributes:
        images: (N, H, W, C) uint8, contiguous.
        labels: (N,) int64.
        notes: a line for each image that was left out, and for each kind of file that was passed over.

    Raises:
        ValueError: shapes or types are other than these.
    """

    images: Tensor
    labels: Tensor
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or not self.images.is_contiguous():
            got = f"{self.images.dtype} of shape {tuple(self.images.shape)}"
            raise ValueError(f"images must be contiguous uint8 of shape (N, H, W, C), but got {got}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            got = f"{self.labels.dtype} of shape {tuple(self.labels.shape)}"
            raise ValueError(f"labels must be int64 of shape ({len(self.images)},), but got {got}")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What a data set is, apart from its images.

    Attributes:
        name: the name in `DATASETS`.
        classes: the number of classes.
        class_names: one name per class, in label order.
        resolution: height and width of every image, in pixels.
        channels: 3 for colour, 1 for grey, any number for others.
        mean, std: per channel, of the training images scaled to [0, 1].
        flip: whether a mirrored image still belongs to its class.
        crop_padding: pixels of zero padding that suit a random crop.
    """

    name: str
    classes: int
    class_names: tuple[str, ...]
    resolution: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    crop_padding: int

    @classmethod
    def of(cls, name: str, class_names: tuple[str, ...], train: ImageSet, *, flip: bool, crop_share: int = 8) -> Self:
        """Of images whose crops are padded by their side over `crop_share`."""
        resolution = train.images.shape[1]
        mean, std = channel_statistics(train.images)
        return cls(
            name=name,
            classes=len(class_names),
            class_names=class_names,
            resolution=resolution,
            channels=train.images.shape[3],
            mean=mean,
            std=std,
            flip=flip,
            crop_padding=resolution // crop_share,
        )


def at_resolution(info: DataInfo, images: ImageSet, resolution: int) -> tuple[DataInfo, ImageSet]:
    """The images at another resolution, and what they then are; crops are padded by the same share of their side."""
    padding = info.crop_padding * resolution // info.resolution
    return (
        replace(info, resolution=resolution, crop_padding=padding),
        replace(images, images=resized(images.images, resolution)),
    )


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of (N, H, W, C) uint8 images scaled to [0, 1].

    The sums are of integers, so the result is the same on every machine. A channel that never varies gets the
    standard deviation 1, so that it can be divided by.
    """
    channels = images.shape[-1]
    total = torch.zeros(channels, dtype=torch.int64)
    squares = torch.zeros(channels, dtype=torch.int64)
    for chunk in torch.split(images, _CHUNK):
        planes = chunk.permute(3, 0, 1, 2).reshape(channels, -1).int()
        total += planes.sum(1)
        squares += planes.square_().sum(1)
    count = images.shape[0] * images.shape[1] * images.shape[2]
    mean = total.double() / count
    std = (squares.double() / count - mean.square()).clamp_min(0).sqrt()
    std[std == 0] = 255.0
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def check_room(count: int, resolution: int, channels: int) -> None:
    """Raise DeviceError where so many images do not fit the memory; nothing is made."""
    what = f"data: {count:,} images of {resolution}x{resolution} pixels, which are held in memory, take"
    check_fits(count * resolution**2 * channels, torch.device("cpu"), what)


def resized(images: Tensor, resolution: int) -> Tensor:
    """(N, H, W, C) uint8 images as (N, resolution, resolution, C), bilinear and antialiased."""
    if images.shape[1] == images.shape[2] == resolution:
        return images
    check_room(len(images), resolution, images.shape[3])
    out = torch.empty(len(images), resolution, resolution, images.shape[3], dtype=torch.uint8)
    for source, target in zip(torch.split(images, _CHUNK), torch.split(out, _CHUNK), strict=True):
        size = (resolution, resolution)
        scaled = interpolate(source.permute(0, 3, 1, 2).float(), size, mode="bilinear", antialias=True)
        target.copy_(scaled.round_().clamp_(0, 255).permute(0, 2, 3, 1))
    return out


def with_channels(images: Tensor, options: DataOptions) -> Tensor:
    """(N, H, W, C) uint8 images of 1 or 3 channels with the channels that are asked for, if any are.

    Raises:
        DataError: these are neither 1 nor 3.
    """
    channels = options.channels or images.shape[3]
    if channels == images.shape[3]:
        return images
    if channels == 3 and images.shape[3] == 1:
        return images.expand(-1, -1, -1, 3).contiguous()
    if channels == 1 and images.shape[3] == 3:
        grey = torch.empty(*images.shape[:3], 1, dtype=torch.uint8)
        weights = torch.tensor(_LUMA)
        for source, target in zip(torch.split(images, _CHUNK), torch.split(grey, _CHUNK), strict=True):
            target.copy_(((source.int() * weights).sum(3, keepdim=True) + 0x8000) >> 16)
        return grey
    has = "images of which grey or colours are had"
    raise DataError(f"{options.name} has {has}: the channels must be 1 or 3, but got {channels}")
