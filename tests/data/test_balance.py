from __future__ import annotations

import numpy as np
import pytest
import torch

from se_nas.data.balance import balanced_order, balanced_weights
from se_nas.data.in_memory.batches import DeviceImages, EpochBatches
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.on_disk.shuffle import shuffled_order

_LABELS = np.array([0] * 70 + [1] * 25 + [3] * 5)


def test_weights_make_the_classes_count_alike_and_the_images_one_on_average() -> None:
    weights = balanced_weights(_LABELS, 5)
    counts = np.bincount(_LABELS, minlength=5)
    np.testing.assert_allclose((weights * counts)[[0, 1, 3]], 100 / 3, rtol=1e-6)
    assert weights[_LABELS].mean() == pytest.approx(1)
    assert np.isfinite(weights).all()


def test_in_a_balanced_epoch_every_class_comes_as_often_and_small_ones_are_repeated_evenly() -> None:
    order = balanced_order(_LABELS, np.random.default_rng(0))
    assert sorted(np.bincount(_LABELS[order]).tolist()) == [0, 33, 33, 34]
    times = np.bincount(order, minlength=100)
    assert times[:70].max() == 1
    assert set(times[95:].tolist()) <= {6, 7}
    assert (order != balanced_order(_LABELS, np.random.default_rng(1))).any()


@pytest.mark.parametrize("groups", [None, np.arange(100) // 10])
def test_images_on_disk_are_drawn_so_too_whichever_files_they_lie_in(groups: np.ndarray | None) -> None:
    order = shuffled_order(100, seed=1, epoch=2, groups=groups, balanced=_LABELS)
    assert sorted(np.bincount(_LABELS[order]).tolist()) == [0, 33, 33, 34]


def test_images_in_memory_are_drawn_so_too_over_all_their_batches() -> None:
    images = ImageSet(torch.zeros(100, 4, 4, 3, dtype=torch.uint8), torch.from_numpy(_LABELS))
    info = DataInfo(
        name="x", classes=4, class_names=("a", "b", "c", "d"), resolution=4, channels=3, mean=(0, 0, 0), std=(1, 1, 1),
        flip=False, crop_padding=0,
    )  # fmt: skip
    batches = EpochBatches(DeviceImages(info, images, "cpu"), torch.arange(5, 100), 10, 0, balanced=True)
    drawn = np.concatenate([y.numpy() for number in range(batches.per_epoch) for _, y in batches.parts(number, 0)])
    counts = np.bincount(drawn)[[0, 1, 3]]
    assert counts.sum() == 90
    assert counts.min() > 20
    again = np.concatenate([y.numpy() for number in range(batches.per_epoch) for _, y in batches.parts(number, 0)])
    np.testing.assert_array_equal(drawn, again)
