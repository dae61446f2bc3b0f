from __future__ import annotations

import torch

from se_nas.data.in_memory.images import ImageSet
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.in_memory.synthetic import load_test, load_train


def _nearest_mean_accuracy(train: ImageSet, test: ImageSet) -> float:
    flat = train.images.flatten(1).float()
    means = torch.stack([flat[train.labels == label].mean(0) for label in range(10)])
    nearest = torch.cdist(test.images.flatten(1).float(), means).argmin(1)
    return (nearest == test.labels).float().mean().item()


def test_classes_can_be_learned_but_not_perfectly_by_their_means() -> None:
    options = DataOptions("synthetic", size=1500)
    assert 0.4 < _nearest_mean_accuracy(load_train(options)[1], load_test(options)) < 0.99


def test_the_seed_fixes_the_images() -> None:
    options = DataOptions("synthetic", size=30)
    _, first = load_train(options)
    _, again = load_train(options)
    _, other = load_train(DataOptions("synthetic", size=30, seed=1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_test_images_are_fresh() -> None:
    options = DataOptions("synthetic", size=50)
    _, train = load_train(options)
    test = load_test(options)
    assert len(test) == 10
    assert not any(torch.equal(image, seen) for image in test.images for seen in train.images)
