from __future__ import annotations

import pytest
import torch

from se_nas.data.file_options import USUAL
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import DATASETS, DataSource, check_test, load_test, load_train, open_on_disk, stays_on_disk
from se_nas.errors import ConfigError, DataError
from se_nas.runs.run_file import parse_run


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    for load in (load_train, load_test, check_test):
        with pytest.raises(DataError, match=r"one of digits, cifar10, .*, synthetic, imagenet, .*, but got 'mnist'"):
            load(DataOptions("mnist"))


def test_images_that_stay_on_disk_are_not_loaded_and_those_in_memory_are_not_opened() -> None:
    assert [name for name in DATASETS if stays_on_disk(name)] == ["imagenet", "shards", "folder_on_disk"]
    for load in (load_train, load_test, check_test):
        with pytest.raises(DataError, match=r"one that fits the memory \(digits, .*, synthetic\), but got 'imagenet'"):
            load(DataOptions("imagenet"))
    with pytest.raises(DataError, match=r"one whose images stay on disk \(imagenet, .*\), but got 'digits'"):
        open_on_disk("digits", None, 3, USUAL)
    with pytest.raises(DataError, match=r"synthetic, imagenet, .*, but got 'imagnet'.*imagenet"):
        stays_on_disk("imagnet")
    with pytest.raises(ConfigError, match=r"data\.name: must be one of digits, .*, but got 'imagnet'"):
        parse_run({"space": "x.yaml", "data": {"name": "imagnet"}, "search": {"strategy": "differentiable"}}, "r.yaml")


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
    source = DATASETS[name]
    assert isinstance(source, DataSource)
    for load in (source.load_train, source.load_test, check_test):
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
