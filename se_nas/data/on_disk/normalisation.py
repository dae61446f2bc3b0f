"""By which mean and standard deviation images that stay on disk are normalised."""

from __future__ import annotations

import contextlib

import numpy as np

from se_nas.data.on_disk.encoded_images import EncodedImages
from se_nas.data.on_disk.transforms import MEAN, STD
from se_nas.data.pixels import pixels_of, planes_in
from se_nas.errors import DataError, in_line

_SAMPLE = 256

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


def normalisation(train: EncodedImages) -> Normalisation:
    """Mean and standard deviation by channel, of pixels from 0 to 1.

    Those of ImageNet for colours, so that weights trained there fit, and their means for grey; of other channels, which
    no data set stands for, those of `_SAMPLE` training images, evenly spaced.

    Raises:
        DataError: none of these can be read.
    """
    if train.channels == 3:
        return MEAN, STD
    if train.channels == 1:
        return (sum(MEAN) / 3,), (sum(STD) / 3,)
    sums = np.zeros((2, train.channels))
    count = 0
    for index in np.linspace(0, len(train) - 1, min(_SAMPLE, len(train))).astype(int).tolist():
        with contextlib.suppress(Exception):  # a damaged image raises nearly anything, and is told when it is needed
            pixels = pixels_of(planes_in(train.image(index))) / 255
            sums += pixels.mean((0, 1)), np.square(pixels).mean((0, 1))
            count += 1
    if not count:
        raise DataError(f"of {len(train)} images those looked at must be readable, but {_why(train)}")
    mean = sums[0] / count
    std = np.sqrt(np.maximum(sums[1] / count - mean**2, 0))
    std[std == 0] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())


def _why(train: EncodedImages) -> str:
    try:
        train.image(0)
    except Exception as error:  # see above
        return f"{train.name(0)} is not: {in_line(error)}"
    return "none is"
