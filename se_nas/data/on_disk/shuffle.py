"""The order of an epoch's images: shuffled within windows of shards, so that few files are read at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from se_nas.data.balance import balanced_order

_WINDOW = 16
"""Shards whose images are shuffled among each other; with 1,000 images each, 16,000 images."""


def shuffled_order(
    count: int,
    *,
    seed: int,
    epoch: int,
    repeats: int = 1,
    groups: NDArray[np.int64] | None = None,
    balanced: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The order in which one epoch takes its images: a function of the arguments alone.

    Args:
        count: number of images, at least 1.
        seed: at least 0.
        epoch: at least 0.
        repeats: each image comes so many times in a row, and only as many images as then fill the epoch.
        groups: (count,) numbers of files; images are then shuffled among those of several files only.
        balanced: (count,) classes that are each to come equally often; see `balance.balanced_order`. Then `groups` is
            not looked at, since a rare class lies in few files.

    Returns:
        (count,) indices of images.
    """
    rng = np.random.default_rng([seed, epoch])
    if balanced is not None:
        order = balanced_order(balanced, rng)
    elif groups is None:
        order = rng.permutation(count)
    else:
        members = np.argsort(groups, kind="stable")
        files = np.split(members, np.flatnonzero(np.diff(groups[members])) + 1)
        files = [files[number] for number in rng.permutation(len(files))]
        windows = (np.concatenate(files[start : start + _WINDOW]) for start in range(0, len(files), _WINDOW))
        order = np.concatenate([rng.permutation(window) for window in windows])
    return np.repeat(order[: -(-count // repeats)], repeats)[:count]
