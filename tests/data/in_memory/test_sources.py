from __future__ import annotations

import pytest
import torch

from se_nas.data.in_memory.options import DataOptions
from se_nas.data.in_memory.sources import DATASETS, check_test, load_test, load_train
from se_nas.errors import DataError


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    for load in (load_train, load_test, check_test):
        with pytest.raises(DataError, match=r"one of digits, cifar10, cifar100, folder, synthetic, but got 'mnist'"):
            load(DataOptions("mnist"))


@pytest.mark.parametrize("name", ["digits", "synthetic"])
@pytest.mark.parametrize("resolution", [None, 20])
def test_embedded_sets_agree_with_their_info(name: str, resolution: int | None) -> None:
    options = DataOptions(name, resolution=resolution, size=100)
    info, train = load_train(options)
    test = load_test(options)
    assert info.name == name
    assert info.resolution == (resolution or 32)
    assert len(info.class_names) == info.classes
    assert len(info.mean) == len(info.std) == info.channels
    for part in (train, test):
        assert part.images.shape[1:] == (info.resolution, info.resolution, info.channels)
        assert part.labels.unique().tolist() == list(range(info.classes))


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_no_storage_of_the_training_set_has_room_for_a_test_image(name: str) -> None:
    _, train = load_train(DataOptions(name, size=100))
    assert train.images.untyped_storage().nbytes() == train.images.numel()
    assert train.labels.untyped_storage().nbytes() == 8 * len(train)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "folder"])
def test_a_set_on_disk_without_a_folder_says_which_option_names_it(name: str) -> None:
    for load in (DATASETS[name].load_train, DATASETS[name].load_test, check_test):
        with pytest.raises(DataError, match="--data-dir"):
            load(DataOptions(name))


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_the_test_images_of_a_set_that_needs_no_folder_are_always_there(name: str) -> None:
    check_test(DataOptions(name))


@pytest.mark.parametrize("field", ["resolution", "size"])
def test_options_below_one_are_refused(field: str) -> None:
    with pytest.raises(DataError, match=f"{field} must be at least 1, but got 0"):
        DataOptions("digits", **{field: 0})


def test_labels_are_int64_and_images_uint8() -> None:
    _, train = load_train(DataOptions("synthetic", size=10))
    assert train.images.dtype == torch.uint8
    assert train.labels.dtype == torch.int64
