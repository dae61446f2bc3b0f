from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from se_nas.data.in_memory.digits import load_test, load_train
from se_nas.data.in_memory.options import DataOptions


def test_train_and_test_divide_the_digits_without_a_common_image() -> None:
    _, train = load_train(DataOptions("digits", resolution=8))
    test = load_test(DataOptions("digits", resolution=8))
    original = {tuple((image * 255 / 16).round().astype(int).ravel()) for image in load_digits().images}
    train_images, test_images = ({tuple(i[..., 0].flatten().tolist()) for i in s.images} for s in (train, test))
    assert len(train) + len(test) == 1797
    assert train_images | test_images == original
    assert not train_images & test_images


def test_the_test_part_is_a_fifth_of_every_class() -> None:
    _, train = load_train(DataOptions("digits"))
    ours = load_test(DataOptions("digits")).labels.bincount()
    whole = ours + train.labels.bincount()
    assert ((ours - whole / 5).abs() < 1).all()


def test_the_split_does_not_depend_on_the_seed() -> None:
    first, second = (load_test(DataOptions("digits", seed=seed)) for seed in (0, 1))
    assert torch.equal(first.images, second.images)


def test_the_three_channels_are_the_same_grey_and_digits_are_not_flipped() -> None:
    info, train = load_train(DataOptions("digits"))
    assert torch.equal(train.images[..., 0], train.images[..., 2])
    assert not info.flip
    assert 0 < info.crop_padding <= 2
