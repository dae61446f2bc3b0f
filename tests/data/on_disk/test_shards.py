from __future__ import annotations

import gc
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from se_nas.data.on_disk import shards
from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.data.on_disk.shard_writing import write_shards
from se_nas.errors import ConfigError, DataError
from tests.helpers.jpeg_folders import jpeg, write_folder


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_shards(write_folder(tmp_path / "source"), tmp_path / "out", images_per_shard=4)
    return tmp_path / "out"


def _contents(root: Path) -> list[list[tuple[str, bytes, int]]]:
    return [
        [(half.name(i), half.read(i), int(half.labels[i])) for i in range(len(half))]
        for half in open_encoded_images(root)
    ]


def test_the_index_says_what_the_headers_of_the_tar_say(written: Path) -> None:
    with_index = _contents(written)
    for path in written.glob("*-*.json"):
        path.unlink()
    assert _contents(written) == with_index


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.update(tar_bytes=index["tar_bytes"] + 512),
        lambda index: index["labels"].pop(),
        lambda index: index.update(offsets=[10**9] * len(index["offsets"])),
        lambda index: index.pop("names"),
        lambda index: index.update(version=2),
    ],
)
def test_an_index_that_does_not_fit_is_not_believed(written: Path, change: Callable[[dict[str, object]], None]) -> None:
    expected = _contents(written)
    path = written / "train-000001.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    assert _contents(written) == expected


def test_groups_are_the_tar_files(written: Path) -> None:
    train, _ = open_encoded_images(written)
    assert train.groups is not None
    assert train.groups.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 3
    assert train.name(4) == "train-000001.tar/000004.jpg"


def test_images_can_be_read_by_another_process_and_with_few_open_files(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_OPEN_FILES", 2)
    train, _ = open_encoded_images(written)
    assert isinstance(train, shards.ShardImages)
    contents = [train.read(i) for i in range(len(train))]
    assert len(train._open) == 2
    copy = pickle.loads(pickle.dumps(train))
    assert not copy._open
    assert [copy.read(i) for i in (14, 0, 7, 3)] == [contents[i] for i in (14, 0, 7, 3)]


def test_a_tar_file_that_shrinks_while_it_is_read_is_an_error_of_that_image(written: Path) -> None:
    train, _ = open_encoded_images(written)
    path = written / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(OSError, match="the tar file ends after 88 of"):
        train.read(0)


def test_tar_files_of_other_origin_are_read(written: Path) -> None:
    (written / "shards.json").write_text('["what another tool notes"]')
    for path in written.glob("val-*"):
        path.unlink()
    with tarfile.open(written / "val-0.tar", "w") as tar:
        for name, content in (
            ("./a/x.0.PNG", b"no"),
            ("./a/1.JPEG", jpeg(1)),
            ("./a/1.cls", b"2\n"),
            ("./b/1.png", b"png"),
            ("b", b""),
            ("./b/1.cls", b"1"),
            ("./c.cls", b"0"),
            ("./c.meta.json", b"{}"),
            ("./c.jpg", b"c"),
            ("./d.jpg", b"no"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    _, val = open_encoded_images(written)
    assert val.labels.tolist() == [2, 1, 0]
    assert [val.read(i) for i in range(3)] == [jpeg(1), b"png", b"c"]


def _broken(root: Path) -> None:
    (root / "val-000001.json").unlink()
    (root / "val-000001.tar").write_bytes((root / "val-000001.tar").read_bytes()[:900])


def _labels(root: Path) -> None:
    (root / "classes.json").write_text('["a", "b"]')


def _no_val(root: Path) -> None:
    for path in root.glob("val-*.tar"):
        path.unlink()


def _lose(names: str) -> Callable[[Path], None]:
    def lose(root: Path) -> None:
        for path in root.glob(names):
            path.unlink()

    return lose


def _replace(root: Path) -> None:
    for suffix in (".tar", ".json"):
        (root / f"train-000001{suffix}").write_bytes((root / f"train-000003{suffix}").read_bytes())


def _foreign(root: Path) -> None:
    for suffix in (".tar", ".json"):
        (root / f"val-9{suffix}").write_bytes((root / f"val-000001{suffix}").read_bytes())


def _unfinished(root: Path) -> None:
    summary = json.loads((root / "shards.json").read_text())
    del summary["finished"]
    (root / "shards.json").write_text(json.dumps(summary))


def _class_without_images(root: Path) -> None:
    (root / "classes.json").write_text('["a", "b", "c", "d"]')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_broken, "val-000001.tar: the file must be a whole WebDataset tar file, but got: "),
        (_labels, "labels must be from 0 to 1, as classes.json says, but got 0 to 2"),
        (_no_val, r"there must be val-\*.tar, but there is none"),
        (
            _lose("train-000001.*"),
            "all 4 tar files of train that shards.json counts must be there, but train-000001.tar ",
        ),
        (
            _lose("val-000001.tar"),
            "all 2 tar files of val that shards.json counts must be there, but val-000001.tar ",
        ),
        (_lose("train-00000[0-2]*"), r"but train-000000.tar, train-000001.tar, train-000002.tar are missing$"),
        (_replace, r"train-\*.tar must hold the 15 images that shards.json counts, but 14 in 4 tar files"),
        (_foreign, r"val-\*.tar must hold the 6 images that shards.json counts, but 8 in 3 tar files"),
        (_unfinished, "shards.json: the tar files must all have been written, but that was broken off"),
        (lambda root: (root / "shards.json").write_text("{"), r"shards.json: file: must be JSON, but got: "),
        (_class_without_images, "every class must have an image in train, but d is without"),
        (lambda root: (root / "classes.json").unlink(), "classes.json: file: must be readable, but got: No such file"),
        (lambda root: (root / "classes.json").write_text("3"), "classes.json: the file must hold a JSON list"),
        (lambda root: (root / "val-000000.tar").write_bytes(b"x" * 600), "val-000000.tar: the file must be a whole"),
    ],
)
def test_shards_that_do_not_fit_are_one_line(written: Path, change: Callable[[Path], object], message: str) -> None:
    change(written)
    with pytest.raises((DataError, ConfigError), match=message) as caught:
        open_encoded_images(written)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_same(written: Path) -> None:
    wds = pytest.importorskip("webdataset")
    train, _ = open_encoded_images(written)
    urls = [str(path) for path in sorted(written.glob("train-*.tar"))]
    samples = list(wds.WebDataset(urls, shardshuffle=False))
    gc.collect()  # what it leaves open is closed here, not in another test
    assert [sample["jpg"] for sample in samples] == [train.read(i) for i in range(len(train))]
    np.testing.assert_array_equal([int(sample["cls"]) for sample in samples], train.labels)
