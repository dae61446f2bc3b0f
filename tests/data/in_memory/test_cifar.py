from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from se_nas.data.in_memory import cifar
from se_nas.data.in_memory.cifar import LAYOUTS
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import check_test, load_test, load_train
from se_nas.errors import DataError
from tests.helpers.cifar_layout import PER_FILE, cifar_batch, dump, write_cifar


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_images_labels_and_names_are_those_of_the_files(tmp_path: Path, name: str) -> None:
    write_cifar(tmp_path, name)
    layout = LAYOUTS[name]
    info, train = load_train(DataOptions(name, tmp_path))
    test = load_test(DataOptions(name, tmp_path))
    assert len(train) == PER_FILE * len(layout.train)
    assert len(test) == PER_FILE
    assert info.classes == layout.classes
    assert info.class_names[-1] == f"class {layout.classes - 1}"
    assert (info.resolution, info.channels, info.flip, info.crop_padding) == (32, 3, True, 4)
    content = cifar_batch(name, seed=0)
    red_at_row_2_column_5 = content[b"data"][7, 2 * 32 + 5]
    blue_of_the_last_pixel = content[b"data"][7, 3071]
    assert train.images[7, 2, 5, 0] == red_at_row_2_column_5
    assert train.images[7, 31, 31, 2] == blue_of_the_last_pixel
    assert train.labels[:PER_FILE].tolist() == content[layout.label_key]
    last = cifar_batch(name, seed=len(layout.train))[b"data"].reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(test.images.permute(0, 3, 1, 2).numpy(), last)


def test_the_folder_itself_or_its_parent_may_be_named(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path, "cifar10")
    _, below = load_train(DataOptions("cifar10", tmp_path))
    _, itself = load_train(DataOptions("cifar10", folder))
    assert torch.equal(below.images, itself.images)


def test_another_resolution_can_be_asked_for(tmp_path: Path) -> None:
    write_cifar(tmp_path, "cifar10")
    info, train = load_train(DataOptions("cifar10", tmp_path, resolution=16))
    assert train.images.shape == (500, 16, 16, 3)
    assert (info.resolution, info.crop_padding) == (16, 2)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_training_images_load_where_the_test_files_are_gone(tmp_path: Path, name: str) -> None:
    folder = write_cifar(tmp_path, name)
    _, before = load_train(DataOptions(name, tmp_path))
    for file in LAYOUTS[name].test:
        (folder / file).unlink()
    _, after = load_train(DataOptions(name, tmp_path))
    assert torch.equal(before.images, after.images)
    with pytest.raises(DataError, match=f"{LAYOUTS[name].test[0]}: the file must be readable"):
        load_test(DataOptions(name, tmp_path))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_an_absent_test_file_is_found_without_reading_one(tmp_path: Path, name: str) -> None:
    folder = write_cifar(tmp_path, name)
    test = folder / LAYOUTS[name].test[0]
    test.write_bytes(b"never read")
    check_test(DataOptions(name, tmp_path))
    test.unlink()
    with pytest.raises(DataError, match=f"{folder}: the {name} test images must be here, but {test.name} is not"):
        check_test(DataOptions(name, tmp_path))


def test_a_missing_folder_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data-dir.*--download") as caught:
        load_train(DataOptions("cifar10", tmp_path / "absent"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "absent").exists()


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    file = write_cifar(tmp_path, "cifar10") / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(DataError, match="data_batch_3: the file must be a whole pickle"):
        load_train(DataOptions("cifar10", tmp_path))


def _with(**changes: Any) -> dict[bytes, Any]:
    return cifar_batch("cifar10", seed=0) | {key.encode(): value for key, value in changes.items()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_with(labels=[0] * 99), r"shape \(99, 3072\).*got \(100, 3072\)"),
        (_with(labels=[0] * 99 + [10]), r"labels must be in 0..9, but got 10"),
        (_with(labels=[0] * 99 + [-1]), r"labels must be in 0..9, but got -1"),
        (_with(labels=[0] * 99 + ["0"]), r"labels must be in 0..9, but got '0'"),
        (_with(labels=None), "a list 'labels'"),
        (_with(data=[0]), "an array 'data'"),
        (_with(data=np.zeros((100, 3072))), "'data' must be a uint8 array"),
        (_with(data=np.zeros((100, 1024), dtype=np.uint8)), r"got \(100, 1024\)"),
        (cifar_batch("cifar10", seed=0, n=50), "must hold 100 images, but got 50"),
    ],
)
def test_a_file_of_other_content_is_named(tmp_path: Path, content: dict[bytes, Any], message: str) -> None:
    dump(write_cifar(tmp_path, "cifar10") / "data_batch_2", content)
    with pytest.raises(DataError, match=f"data_batch_2: .*{message}"):
        load_train(DataOptions("cifar10", tmp_path))


def test_a_meta_file_with_too_few_names_is_an_error(tmp_path: Path) -> None:
    dump(write_cifar(tmp_path, "cifar10") / "batches.meta", {b"label_names": [b"one"]})
    with pytest.raises(DataError, match=r"batches.meta: 10 class names must be listed, but got 1"):
        load_train(DataOptions("cifar10", tmp_path))


def _offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leave_out: str = "", md5: str = "") -> bytes:
    """Make `cifar10` downloadable from a local archive; what is in it beside the data set must never be unpacked."""
    folder = write_cifar(tmp_path / "offered", "cifar10")
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for file in sorted(folder.iterdir()):
            if file.name != leave_out:
                tar.add(file, f"{folder.name}/{file.name}")
        evil = tarfile.TarInfo("../evil")
        evil.size = 4
        tar.addfile(evil, io.BytesIO(b"evil"))
    content = archive.read_bytes()
    digest = md5 or hashlib.md5(content, usedforsecurity=False).hexdigest()
    layout = dataclasses.replace(LAYOUTS["cifar10"], url=archive.as_uri(), md5=digest)
    monkeypatch.setitem(cifar.LAYOUTS, "cifar10", layout)
    return content


@pytest.mark.parametrize("named", ["data", "data/cifar-10-batches-py"])
def test_a_download_leaves_the_data_set_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    _offer(tmp_path, monkeypatch)
    _, train = load_train(DataOptions("cifar10", tmp_path / named, download=True))
    assert len(train) == 500
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cifar-10-batches-py"]
    assert len(list((tmp_path / "data" / "cifar-10-batches-py").iterdir())) == 7
    assert not list(tmp_path.rglob("evil"))


def test_what_is_there_is_not_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _offer(tmp_path, monkeypatch)
    options = DataOptions("cifar10", tmp_path / "data", download=True)
    load_train(options)
    (tmp_path / "archive.tar.gz").unlink()
    assert len(load_test(options)) == 100


@pytest.mark.parametrize(
    ("offer", "message"),
    [
        ({"md5": "0" * 32}, "must have md5 0000"),
        ({"leave_out": "test_batch"}, "must hold cifar-10-batches-py/test_batch"),
    ],
)
def test_a_wrong_archive_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offer: dict[str, str], message: str
) -> None:
    _offer(tmp_path, monkeypatch, **offer)
    with pytest.raises(DataError, match=message):
        load_train(DataOptions("cifar10", tmp_path / "data", download=True))
    assert not list((tmp_path / "data").iterdir())


def test_a_truncated_archive_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = _offer(tmp_path, monkeypatch)[:-5000]
    (tmp_path / "archive.tar.gz").write_bytes(content)
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(cifar.LAYOUTS, "cifar10", dataclasses.replace(LAYOUTS["cifar10"], md5=digest))
    with pytest.raises(DataError, match=r"must be a whole \.tar\.gz"):
        load_train(DataOptions("cifar10", tmp_path / "data", download=True))


def test_a_failing_network_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _offer(tmp_path, monkeypatch)
    (tmp_path / "archive.tar.gz").unlink()
    with pytest.raises(DataError, match="the download must succeed, but got") as caught:
        load_train(DataOptions("cifar10", tmp_path / "data", download=True))
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_made_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _offer(tmp_path, monkeypatch)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="must be writable"):
        load_train(DataOptions("cifar10", tmp_path / "file" / "data", download=True))


@pytest.mark.skipif("SE_NAS_CIFAR10" not in os.environ, reason="SE_NAS_CIFAR10 names no real CIFAR-10 folder")
def test_the_real_cifar10() -> None:
    options = DataOptions("cifar10", Path(os.environ["SE_NAS_CIFAR10"]))
    info, train = load_train(options)
    test = load_test(options)
    assert train.labels.bincount().tolist() == [5000] * 10
    assert test.labels.bincount().tolist() == [1000] * 10
    assert info.class_names[::9] == ("airplane", "truck")
    # The published values; a copy that once was JPEG differs by 0.002.
    assert info.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-3)
    assert info.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=3e-3)
