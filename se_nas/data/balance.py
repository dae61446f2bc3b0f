"""Data sets of few images of some classes: how much an image counts, and how often it is drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def balanced_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """(classes,) how much the loss of an image counts, such that all classes count alike, and images 1 on average.

    A class without images counts as one with a single image.
    """
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)


def balanced_order(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """(N,) indices of an epoch in which every class comes equally often, but for one image more or less.

    Of a class with too many images others are left out in every epoch; the images of one with too few are repeated,
    each as often as the others of it, but for once more or less.
    """
    present = np.unique(labels)
    shares = np.full(len(present), len(labels) // len(present))
    shares[rng.permutation(len(present))[: len(labels) % len(present)]] += 1
    chosen = []
    for label, share in zip(present, shares.tolist(), strict=True):
        members = np.flatnonzero(labels == label)
        rounds = [rng.permutation(members) for _ in range(-(-share // len(members)))]
        chosen.append(np.concatenate(rounds)[:share])
    return rng.permutation(np.concatenate(chosen))
