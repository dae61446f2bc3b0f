"""Tar files that other tools wrote: labels in whichever member, any names, and what cannot be read says why."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.data.on_disk.shard_writing import write_shards
from se_nas.errors import DataError
from tests.helpers.jpeg_folders import jpeg

Members = dict[str, bytes]


def _tar(path: Path, members: Members) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _write(root: Path, members: Members, train: str = "train-0.tar", val: str = "val-0.tar") -> Path:
    for name in (train, val):
        _tar(root / name, members)
    return root


_IMAGES = [jpeg(number) for number in range(3)]


@pytest.mark.parametrize(
    ("kind", "labels", "classes"),
    [
        ("cls", [b"0", b"1", b"2\n"], ("0", "1", "2")),
        ("json", [b'{"label": 0}', b'{"label": 1, "w": 3}', b'{"cls": 2}'], ("0", "1", "2")),
        ("json", [b"0", b'{"class_id": 1}', b"2"], ("0", "1", "2")),
        ("json", [b'{"class": "bird"}', b'{"class_name": "cat"}', b'"dog"'], ("bird", "cat", "dog")),
        ("txt", [b"0", b"1", b"2"], ("0", "1", "2")),
        ("txt", [b"bird\n", b"cat", "dög".encode()], ("bird", "cat", "dög")),
        ("json", [b'"a\\ud800"', b'"b\\u0007"', b'"c"'], (r"a\xed\xa0\x80", r"b\x07", "c")),
    ],
)
def test_a_label_is_read_from_text_or_json_as_a_number_or_a_name(
    tmp_path: Path, kind: str, labels: list[bytes], classes: tuple[str, ...]
) -> None:
    members = {f"{n}.jpg": _IMAGES[n] for n in range(3)} | {f"{n}.{kind}": labels[n] for n in range(3)}
    for half in open_encoded_images(_write(tmp_path, members)):
        assert half.classes == classes
        assert half.labels.tolist() == [0, 1, 2]
        assert [half.read(n) for n in range(3)] == _IMAGES


def test_classes_json_says_what_a_name_or_number_is(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('["dog", "bird", "cat"]')
    members = {f"{n}.jpg": _IMAGES[n] for n in range(3)} | {"0.txt": b"bird", "1.cls": b"2", "2.txt": b"0"}
    train, _ = open_encoded_images(_write(tmp_path, members))
    assert [train.classes[label] for label in train.labels] == ["bird", "cat", "dog"]


def test_names_with_several_dots_belong_together(tmp_path: Path) -> None:
    """Those of timm's ImageNet, of photos with a version in their names, and of samples with several parts."""
    members = {
        "n01440764_10026.jpg": _IMAGES[0],
        "n01440764_10026.cls": b"0",
        "n01440764_10026.json": b'{"label": 7, "filename": "x"}',
        "a/photo.v1.jpg": _IMAGES[1],
        "a/photo.v1.cls": b"1",
        "a/photo.v2.JPEG": _IMAGES[2],
        "a/photo.v2.cls": b"0",
        "b.input.jpg": _IMAGES[0],
        "b.target.cls": b"1",
        "b.mask.png": b"a mask",
    }
    root = _write(tmp_path, members, "imagenet1k-train-0000.tar", "imagenet1k-validation-00.tar")
    train, val = open_encoded_images(root)
    for half in (train, val):
        assert half.labels.tolist() == [0, 1, 0, 1]
        assert [half.read(n) for n in range(4)] == [*_IMAGES, _IMAGES[0]]
        assert any("images in tar files beside another of their sample, such as" in note for note in half.notes)
    named = "2 classes are named as the labels in the tar files have them, 0, 1"
    assert train.notes[0] == f"{root}: there is no classes.json: {named}"


def test_samples_that_lack_a_part_are_counted(tmp_path: Path) -> None:
    members = {
        "0.jpg": _IMAGES[0],
        "0.cls": b"0",
        "1.jpg": _IMAGES[1],
        "2.cls": b"1",
        "3.jpg": _IMAGES[2],
        "3.json": b"{}",
    }
    _, val = open_encoded_images(_write(tmp_path, members))
    assert [note.partition(": passed over: ")[2] for note in val.notes] == [
        "2 images in tar files without a label (.cls, .json or .txt), such as val-0.tar/1.jpg",
        "1 labels in tar files without an image, such as val-0.tar/2",
    ]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar.zst"])
def test_compressed_tar_files_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    packed = tmp_path / f"train-1{suffix}"
    packed.write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match=rf"{packed.name} is compressed \(unpack it with gunzip\)"):
        open_encoded_images(tmp_path)
    _write(tmp_path, {"0.jpg": _IMAGES[0], "0.cls": b"0"})
    with pytest.raises(DataError, match=rf"{packed.name}: a tar file must not be compressed"):
        open_encoded_images(tmp_path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"0.cls": b"cat"}, "a label must be the name or the number of a class, but got 'cat'"),
        ({"0.cls": b"\xff"}, "must be a whole WebDataset tar file, but got: 'utf-8' codec"),
        ({"0.json": b"{"}, "must be a whole WebDataset tar file, but got: "),
        ({"0.json": b"[" * 100_000}, "must be a whole WebDataset tar file, but got: "),
        ({"0.cls": b"9" * 4000}, "a label must be the number of a class, but got 99"),
        ({"0.cls": b"9" * 5000}, "must be a whole WebDataset tar file, but got: Exceeds the limit"),
        ({"0.cls": b"-1"}, "labels must be from 0 to 1, as classes.json says, but got -1 to -1"),
        ({"0.cls": b" " * 2**21}, "has 2,097,152 bytes, too many for a label"),
    ],
)
def test_a_label_that_is_none_is_one_line(tmp_path: Path, members: Members, message: str) -> None:
    (tmp_path / "classes.json").write_text('["a", "b"]')
    with pytest.raises(DataError, match=message) as caught:
        open_encoded_images(_write(tmp_path, {"0.jpg": _IMAGES[0], **members}))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_numbers_far_above_the_number_of_labels_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"without classes.json the classes must be numbered from 0, but there are 1"):
        open_encoded_images(_write(tmp_path, {"0.jpg": _IMAGES[0], "0.cls": b"1000000000"}))


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_or_a_folder_in_place_of_a_tar_file_or_its_index_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    make = os.mkfifo if kind == "pipe" else os.mkdir
    _write(tmp_path, {"0.jpg": _IMAGES[0], "0.cls": b"0", "1.jpg": _IMAGES[1], "1.cls": b"1"})
    make(tmp_path / "train-0.json")
    assert len(open_encoded_images(tmp_path)[0]) == 2
    make(tmp_path / "train-1.tar")
    with pytest.raises(DataError, match=r"train-1.tar: a tar file must be a file, but it is none"):
        open_encoded_images(tmp_path)


def test_damaged_tar_files_are_one_line(tmp_path: Path) -> None:
    _write(tmp_path, {f"{n}.{kind}": {"jpg": _IMAGES[n], "json": b'{"label": 0}'}[kind]
                      for n in range(3) for kind in ("jpg", "json")})  # fmt: skip
    whole, rng = (tmp_path / "val-0.tar").read_bytes(), random.Random(0)
    errors = 0
    for number in range(200):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            damaged[rng.randrange(512 if number % 2 else len(damaged))] = rng.randrange(256)
        (tmp_path / "val-0.tar").write_bytes(damaged[: rng.randrange(len(whole))] if number % 5 == 0 else damaged)
        try:
            open_encoded_images(tmp_path)
        except DataError:
            errors += 1
    assert errors > 20


def test_tar_files_of_others_are_resharded(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    members = {"a.b.jpg": _IMAGES[0], "a.b.json": b'{"label": "x"}', "c.jpg": _IMAGES[1], "c.txt": b"y"}
    write_shards(_write(tmp_path / "in", members, "t_train.tar", "t_val.tar"), tmp_path / "out")
    train, val = open_encoded_images(tmp_path / "out")
    assert val.classes == ("x", "y")
    assert [val.read(n) for n in range(2)] == _IMAGES[:2]
    assert sorted(train.labels.tolist()) == [0, 1]
