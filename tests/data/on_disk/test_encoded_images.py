from __future__ import annotations

import errno
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.errors import DataError
from tests.helpers.jpeg_folders import write_folder


def test_images_come_by_class_and_name_with_their_bytes(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train" / "class_b" / "more").mkdir()
    (tmp_path / "train" / "class_b" / "more" / "é.JPEG").write_bytes(b"inner")
    (tmp_path / "train" / "class_b" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".hidden").mkdir()
    train, val = open_encoded_images(tmp_path)
    assert train.classes == val.classes == ("class_a", "class_b", "class_c")
    assert (len(train), len(val)) == (16, 6)
    assert train.labels.dtype == np.int64
    assert train.labels.tolist() == [0] * 5 + [1] * 6 + [2] * 5
    assert train.groups is None
    assert train.name(0) == "train/class_a/0.jpg"
    assert train.name(10) == "train/class_b/more/é.JPEG"
    assert pickle.loads(pickle.dumps(train)).read(10) == b"inner"
    assert val.name(5) == "val/class_c/1.jpg"
    assert val.read(5) == (tmp_path / "val" / "class_c" / "1.jpg").read_bytes()


def _circle(root: Path) -> None:
    (root / "val" / "class_b" / "round").symlink_to("round")


def _dangling(root: Path) -> None:
    (root / "train" / "class_b" / "gone.png").symlink_to("nowhere")


def _rename_all(root: Path) -> None:
    for label in "abcd":
        (root / "val" / f"class_{label}").rename(root / "val" / f"other_{label}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: shutil.rmtree(root), "--data-dir must name a folder of images, but there is no such folder"),
        (lambda root: shutil.rmtree(root / "train"), "there must be train/CLASS/.* or train-.*, but there is neither"),
        (lambda root: shutil.rmtree(root / "val"), "val: there must be a folder with one folder per class"),
        (lambda root: shutil.rmtree(root / "val" / "class_b"), "image in val, but class_b is missing there or empty"),
        (lambda root: [f.unlink() for f in (root / "val" / "class_d").iterdir()], "but class_d is missing there or"),
        (
            lambda root: [shutil.rmtree(p) for p in (root / "val").iterdir()],
            r"but 4 \(class_a, class_b, class_c, ...\) are",
        ),
        (
            lambda root: (root / "val" / "class_x").mkdir(),
            "val: every class must be in train as well, but class_x is not",
        ),
        (_rename_all, r"in train as well, but 4 \(other_a, other_b, other_c, ...\) are not"),
        (lambda root: [f.unlink() for f in (root / "train" / "class_a").iterdir()], "but class_a is without"),
        (lambda root: [shutil.rmtree(root / "train" / f"class_{x}") for x in "abc"], "at least 2 folders"),
        (
            lambda root: shutil.copytree(root / "val" / "class_a", root / "val" / "class_b" / "x.JPEG"),
            "val/class_b/x.JPEG: what is named as an image must be a file, but it is a folder",
        ),
        (
            _dangling,
            "train/class_b/gone.png: what is named as an image must be a file, but it is not one, or is a link",
        ),
        (_circle, "val/class_b: the folder must be readable, but got: Too many levels of symbolic links"),
    ],
)
def test_layouts_that_do_not_fit_are_one_line(tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    root = write_folder(tmp_path / "data", train=2, val=1, classes=4)
    change(root)
    with pytest.raises(DataError, match=message) as caught:
        open_encoded_images(root)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


@pytest.mark.parametrize("folder", ["val", "train/class_c"])
def test_a_folder_that_may_not_be_read_is_one_line(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As whoever may read everything sees no such folder, the refusal is the test's own."""
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path) == tmp_path / folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    write_folder(tmp_path)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError) as caught:
        open_encoded_images(tmp_path)
    assert str(caught.value) == f"{tmp_path / folder}: the folder must be readable, but got: Permission denied"
