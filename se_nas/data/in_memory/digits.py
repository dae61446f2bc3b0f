"""Handwritten digits that come with scikit-learn: 1,797 images of 8x8, enlarged; no download.

https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from se_nas.data.in_memory.images import DataInfo, ImageSet, resized, with_channels
from se_nas.data.in_memory.options import DataOptions

_CLASSES = 10
_RESOLUTION = 32


def load_train(options: DataOptions) -> tuple[DataInfo, ImageSet]:
    """Four fifths of every class, (N, 32, 32, 3) unless another resolution is asked for."""
    train = _load(options, test=False)
    names = tuple(str(digit) for digit in range(_CLASSES))
    # A mirrored digit is no digit, and the digits nearly fill their images.
    return DataInfo.of("digits", names, train, flip=False, crop_share=16), train


def load_test(options: DataOptions) -> ImageSet:
    """The other fifth of every class, the same for every seed."""
    return _load(options, test=True)


def _load(options: DataOptions, test: bool) -> ImageSet:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = torch.from_numpy(bunch.target).long()
    chosen = _every_fifth(labels) == test
    grey = torch.from_numpy(bunch.images)[chosen].mul_(255 / 16).round_().to(torch.uint8)
    images = resized(grey.unsqueeze(-1), options.resolution or _RESOLUTION)
    return ImageSet(with_channels(images, replace(options, channels=options.channels or 3)), labels[chosen])


def _every_fifth(labels: Tensor) -> Tensor:
    """True at every fifth image of each class: a split that needs no random numbers."""
    rank = torch.empty_like(labels)
    for label in range(_CLASSES):
        members = (labels == label).nonzero().flatten()
        rank[members] = torch.arange(len(members))
    return rank % 5 == 4
