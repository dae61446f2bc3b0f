"""One rule says which files are images, for images in memory and on disk alike; what is passed over is counted."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from se_nas.data.file_options import FileOptions
from se_nas.data.in_memory import folder as in_memory
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.data.pixels import Reading
from se_nas.errors import DataError
from tests.helpers.jpeg_folders import jpeg, write_folder


def _in_memory(root: Path, labels: Path | None = None) -> tuple[list[int], list[int], tuple[str, ...]]:
    """The labels of both halves, and what was said of them."""
    options = DataOptions("folder", root, files=FileOptions(val_labels=labels))
    _, train = in_memory.load_train(options)
    test = in_memory.load_test(options)
    return train.labels.tolist(), test.labels.tolist(), (*train.notes, *test.notes)


def _on_disk(root: Path, labels: Path | None = None) -> tuple[list[int], list[int], tuple[str, ...]]:
    train, val = open_encoded_images(root, val_labels=labels)
    return train.labels.tolist(), val.labels.tolist(), (*train.notes, *val.notes)


Loader = Callable[..., tuple[list[int], list[int], tuple[str, ...]]]
both = pytest.mark.parametrize("load", [_in_memory, _on_disk])


@both
def test_every_suffix_counts_at_every_depth_and_the_rest_is_counted_with_an_example(
    tmp_path: Path, load: Loader
) -> None:
    root = write_folder(tmp_path / "data", train=1, val=1, classes=2)
    of_a = root / "train" / "class_a"
    (of_a / "below" / "it").mkdir(parents=True)
    for place in ("1.jfif", "2.JPE", "below/3.jpg", "below/it/4.jpeg"):
        (of_a / place).write_bytes(jpeg(1))
    Image.new("RGB", (8, 8)).save(of_a / "5.avif")
    np.save(of_a / "6.npy", np.zeros((8, 8, 3), np.uint8))
    for place in ("notes.txt", "below/Thumbs.db", ".7.jpg"):
        (of_a / place).write_bytes(b"")
    (root / "train" / "loose.jpg").write_bytes(jpeg(1))
    (root / "train" / ".cache").mkdir()
    train, test, notes = load(root)
    assert train == [0] * 7 + [1]
    assert test == [0, 1]
    assert notes == (
        f"{root}: passed over: 2 hidden (the name begins with a dot), such as train/.cache",
        f"{root}: passed over: 1 in no class's folder, such as train/loose.jpg",
        f"{root}: passed over: 2 without the suffix of an image, such as train/class_a/below/Thumbs.db",
    )


@both
@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling"])
def test_what_is_named_as_an_image_must_be_a_file(tmp_path: Path, load: Loader, kind: str) -> None:
    root = write_folder(tmp_path / "data", train=1, val=1)
    place = root / "train" / "class_b" / "x.png"
    {"folder": place.mkdir, "pipe": lambda: os.mkfifo(place), "dangling": lambda: place.symlink_to("none")}[kind]()
    with pytest.raises(DataError, match=r"class_b/x.png: what is named as an image must be a file, but it is "):
        load(root)


@both
def test_a_name_that_is_not_utf_8_is_read_and_shown_with_escapes(tmp_path: Path, load: Loader) -> None:
    root = write_folder(tmp_path / "data", train=1, val=1, classes=2)
    for half in ("train", "val"):
        (root / half / "class_b").rename(root / half / "caf\udce9 \udcff\n")
        (root / half / "class_a" / "\udce9.jpg").write_bytes(jpeg(3))
        (root / half / "class_a" / "\udce9.txt").write_bytes(b"")
    train, _, notes = load(root)
    assert sorted(train) == [0, 0, 1] or sorted(train) == [0, 1, 1]
    assert all(note.encode() for note in notes)
    assert notes[0].endswith(r"such as train/class_a/\xe9.txt")
    names = in_memory.load_train(DataOptions("folder", root))[0].class_names
    assert r"caf\xe9 \xff\x0a" in names
    assert open_encoded_images(root)[0].classes == names


@both
@pytest.mark.parametrize(
    "line",
    ["{name}.jpg class_{label}", "{name},class_{label} 85 1 499 272", "{name}.jpg\tclass_{label}", "class_{label}"],
)
def test_images_of_val_that_lie_unsorted_get_their_classes_from_a_file(tmp_path: Path, load: Loader, line: str) -> None:
    root = write_folder(tmp_path / "data", train=2, val=2, classes=3)
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    lines = []
    for number, label in enumerate("cabbac"):
        (root / "val" / f"v{number}.jpg").write_bytes(jpeg(number))
        lines.append(line.format(name=f"v{number}", label=label))
    labels = tmp_path / "labels.txt"
    heading = [] if line.startswith("class") else ["ImageId,PredictionString"]
    labels.write_text("\n".join([*heading, *lines]) + "\n")
    with pytest.raises(DataError, match=r"val.*6 lie there unsorted"):
        load(root)
    assert load(root, labels)[1] == [0, 0, 1, 1, 2, 2]
    for damage, message in (
        ("\n".join([*heading, *lines[1:]]), "there must be a (line|class) for every image of"),
        (
            "\n".join([*heading, *lines, "v9.jpg class_z"]),
            "a line must be the name of an image and of a class of train",
        ),
    ):
        labels.write_text(damage)
        with pytest.raises(DataError, match=message):
            load(root, labels)
    with pytest.raises(DataError, match="must be readable text, but got: "):
        load(root, root)


def test_a_line_of_labels_without_an_image_is_counted(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", train=1, val=1, classes=2)
    for label in "ab":
        (root / "val" / f"class_{label}" / "0.jpg").rename(root / "val" / f"{label}.jpg")
        (root / "val" / f"class_{label}").rmdir()
    labels = tmp_path / "labels.csv"
    labels.write_text("a,class_a\nb,class_b\ngone,class_b\n")
    assert _on_disk(root, labels)[2] == (f"{root}: passed over: 1 lines of labels.csv without an image, such as gone",)


def test_a_class_called_train_or_test_stands_among_others(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", train=10, classes=4) / "train"
    for name, other in zip("abc", ("train", "test", "val"), strict=True):
        (root / f"class_{name}").rename(root / other)
    info, train = in_memory.load_train(DataOptions("folder", root))
    assert info.class_names == ("class_d", "test", "train", "val")
    assert train.labels.bincount().tolist() == [8] * 4


def test_a_folder_that_may_be_split_or_not_is_an_error_that_names_what_is_there(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    shutil.copytree(root / "train" / "class_a", root / "extra")
    with pytest.raises(DataError, match="but beside folders in train extra is with images"):
        in_memory.load_train(DataOptions("folder", root))


def test_val_beside_test_is_said_to_be_passed_over(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", train=1, val=2, classes=2)
    shutil.copytree(root / "val", root / "test")
    test = in_memory.load_test(DataOptions("folder", root))
    assert test.notes == (f"{root}: passed over: 4 in val, as there is test, such as val/class_a/0.jpg",)


def test_damaged_images_of_a_folder_are_left_out_and_named_up_to_a_limit(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", train=3, val=3, classes=2)
    for half, number in (("train", 1), ("val", 2)):
        (root / half / "class_a" / f"{number}.jpg").write_bytes(jpeg(1)[:-200])
    train, test, notes = _in_memory(root)
    assert (train, test) == ([0, 0, 1, 1, 1], [0, 0, 1, 1, 1])
    assert len(notes) == 2
    assert notes[0].startswith(f"{root}/train/class_a/1.jpg: the image is damaged and left out (")
    with pytest.raises(DataError, match=r"at most 0 images may be damaged \(max_damaged\), but 1 is, the last .*1.jpg"):
        in_memory.load_train(DataOptions("folder", root, files=FileOptions(max_damaged=0)))
    for number in range(3):
        (root / "train" / "class_a" / f"{number}.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="every class must have an image that can be read, but class_a is without"):
        in_memory.load_train(DataOptions("folder", root))


def test_an_image_of_too_many_pixels_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "data", train=3, val=1, classes=2)
    Image.new("L", (300, 300)).save(root / "train" / "class_a" / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)
    _, train = in_memory.load_train(DataOptions("folder", root))
    assert len(train) == 6
    assert "could be decompression bomb" in train.notes[0]


@pytest.mark.parametrize(("channels", "value_range"), [(1, None), (3, None), (5, (0.0, 1.0))])
def test_images_in_memory_have_the_channels_that_are_asked_for(
    tmp_path: Path, channels: int, value_range: tuple[float, float] | None
) -> None:
    for part in ("train", "test"):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            values = np.full((9, 7, 5), 0.2 if label == "a" else 0.6, np.float32)
            if value_range:
                np.save(tmp_path / part / label / "0.npy", values)
            else:
                Image.new("I;16", (9, 7), 13107 if label == "a" else 39321).save(tmp_path / part / label / "0.png")
    options = DataOptions("folder", tmp_path, 8, channels=channels, files=FileOptions(value_range=value_range))
    info, train = in_memory.load_train(options)
    assert info.channels == len(info.mean) == channels
    assert train.images.shape == (2, 8, 8, channels)
    assert [image.unique().tolist() for image in train.images] == [[51], [153]]
    assert options.reading == Reading(channels, value_range=value_range)


@both
def test_a_folder_of_a_class_that_may_not_be_read_is_one_line(
    tmp_path: Path, load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As whoever may read everything sees no such folder, the refusal is the test's own."""
    root, scandir = write_folder(tmp_path / "data", train=3, val=2, classes=2), os.scandir

    def refuse(path: str | Path) -> object:
        if Path(path) == root / "train" / "class_b":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError) as caught:
        load(root)
    assert str(caught.value) == f"{root}/train/class_b: the folder must be readable, but got: Permission denied"
