from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.data.on_disk.shard_writing import write_shards
from se_nas.data.pixels import Reading
from se_nas.errors import DataError, OutputError
from tests.helpers.jpeg_folders import jpeg, write_folder


def _pairs(root: Path, half: int) -> list[tuple[bytes, int]]:
    images = open_encoded_images(root)[half]
    return [(images.read(i), int(images.labels[i])) for i in range(len(images))]


def _files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_is_written_once_as_it_was(tmp_path: Path, workers: int) -> None:
    source = write_folder(tmp_path / "source")
    calls: list[tuple[int, int]] = []
    summary = write_shards(
        source, tmp_path / "out", images_per_shard=4, workers=workers, progress=lambda *call: calls.append(call)
    )
    assert summary.images == {"train": 15, "val": 6}
    assert (summary.shards, summary.kept, summary.damaged) == (6, 0, {})
    assert summary.bytes == sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))
    assert calls[-1] == (21, 21)
    assert open_encoded_images(tmp_path / "out")[0].classes == ("class_a", "class_b", "class_c")
    assert json.loads((tmp_path / "out" / "shards.json").read_text())["finished"] == {
        "train": {"shards": 4, "images": 15},
        "val": {"shards": 2, "images": 6},
    }
    assert _pairs(tmp_path / "out", 1) == _pairs(source, 1)
    before, after = _pairs(source, 0), _pairs(tmp_path / "out", 0)
    assert sorted(after) == sorted(before)
    assert after != before


def test_the_seed_alone_decides_the_bytes(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source")
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        write_shards(source, tmp_path / name, images_per_shard=4, seed=seed)
    assert _files(tmp_path / "one") == _files(tmp_path / "same")
    assert _files(tmp_path / "one")["train-000000.tar"] != _files(tmp_path / "other")["train-000000.tar"]


def test_what_was_broken_off_is_finished_and_the_rest_kept(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source")
    write_shards(source, tmp_path / "whole", images_per_shard=4)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(source, tmp_path / "out", images_per_shard=4, progress=stop)
    with pytest.raises(DataError, match=r"shards.json: .* broken off; the same call finishes it$"):
        open_encoded_images(tmp_path / "out")
    (tmp_path / "out" / ".train-000001.tar.tmp").write_bytes(b"half")
    assert not (tmp_path / "out" / "train-000001.tar").exists()
    summary = write_shards(source, tmp_path / "out", images_per_shard=4)
    assert (summary.kept, summary.shards) == (1, 6)
    assert summary.images == {"train": 15, "val": 6}
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")


def test_large_images_are_resized_and_small_ones_keep_their_bytes(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", train=1, val=1)
    large = jpeg(7, 64, 40)
    (source / "val" / "class_a" / "0.jpg").write_bytes(large)
    (source / "val" / "class_b" / "0.jpg").rename(source / "val" / "class_b" / "0.jpeg")
    write_shards(source, tmp_path / "out", resize=20)
    (resized, _), *others = _pairs(tmp_path / "out", 1)
    image = Image.open(io.BytesIO(resized))
    assert image.size == (32, 20)
    assert image.format == "JPEG"
    assert others == _pairs(source, 1)[1:]
    assert open_encoded_images(tmp_path / "out")[1].name(1) == "val-000000.tar/000001.jpg"


def test_damaged_images_are_named_and_left_out_up_to_the_limit(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source")
    (source / "train" / "class_a" / "1.jpg").write_bytes(jpeg(1)[:-200])
    (source / "val" / "class_b" / "0.jpg").write_bytes(b"no image")
    summary = write_shards(source, tmp_path / "out", images_per_shard=4, max_damaged=2)
    assert sorted(summary.damaged) == ["train/class_a/1.jpg", "val/class_b/0.jpg"]
    assert "truncated" in summary.damaged["train/class_a/1.jpg"]
    assert summary.images == {"train": 14, "val": 5}
    again = write_shards(source, tmp_path / "out", images_per_shard=4, max_damaged=2)
    assert (again.kept, again.damaged, again.images) == (6, summary.damaged, summary.images)
    with pytest.raises(
        DataError, match=r"at most 1 image may be damaged \(max_damaged\), but 2 are, the last"
    ) as caught:
        write_shards(source, tmp_path / "strict", images_per_shard=4, max_damaged=1)
    assert "\n" not in str(caught.value)


def test_another_call_does_not_mix_its_files_in(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source")
    write_shards(source, tmp_path / "out", images_per_shard=4)
    with pytest.raises(DataError, match=r"shards.json: .* differ in images_per_shard, resize$"):
        write_shards(source, tmp_path / "out", images_per_shard=5, resize=8)
    (source / "train" / "class_a" / "new.jpg").write_bytes(jpeg(99))
    with pytest.raises(DataError, match="differ in source_sha256"):
        write_shards(source, tmp_path / "out", images_per_shard=4)
    (tmp_path / "out" / "shards.json").unlink()
    with pytest.raises(DataError, match="the folder must hold no tar files of another origin, but it does"):
        write_shards(source, tmp_path / "out", images_per_shard=4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images_per_shard": 0}, "images_per_shard must be at least 1, but got 0"),
        ({"resize": -1}, "resize must be at least 1, but got -1"),
        ({"quality": 99}, "quality must be from 1 to 95, but got 99"),
        ({"workers": -1}, "workers must be at least 0"),
    ],
)
def test_arguments_out_of_range_are_errors(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_shards(write_folder(tmp_path / "source"), tmp_path / "out", **values)
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_folder(tmp_path / "source")
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OutputError, match=r"file/out.*: the folder must be writable, but got: a file stands where a folder must be"
    ):
        write_shards(source, tmp_path / "file" / "out")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("se_nas.data.on_disk.shard_writing.tarfile.open", full)
    with pytest.raises(OutputError, match=r"train-000000.tar: the file must be writable, but got: No space left"):
        write_shards(source, tmp_path / "out")


def test_shards_can_be_written_from_shards(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source")
    write_shards(source, tmp_path / "out", images_per_shard=4)
    write_shards(tmp_path / "out", tmp_path / "again", images_per_shard=6)
    assert sorted(_pairs(tmp_path / "again", 0)) == sorted(_pairs(source, 0))
    assert json.loads((tmp_path / "again" / "classes.json").read_text()) == ["class_a", "class_b", "class_c"]


def test_a_damaged_image_that_was_repaired_is_written_by_the_same_call(tmp_path: Path) -> None:
    source, out = write_folder(tmp_path / "source"), tmp_path / "out"
    broken = source / "val" / "class_b" / "0.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(b"no image")
    assert list(write_shards(source, out, images_per_shard=4).damaged) == ["val/class_b/0.jpg"]
    broken.write_bytes(whole)
    again = write_shards(source, out, images_per_shard=4)
    assert (again.damaged, again.kept, again.images) == ({}, 5, {"train": 15, "val": 6})
    assert _pairs(out, 1) == _pairs(source, 1)
    assert write_shards(source, out, images_per_shard=4).kept == 6


def test_an_image_that_was_replaced_is_written_again(tmp_path: Path) -> None:
    source, out = write_folder(tmp_path / "source"), tmp_path / "out"
    write_shards(source, out, images_per_shard=4)
    (source / "val" / "class_b" / "0.jpg").write_bytes(jpeg(77, 30, 30))
    assert write_shards(source, out, images_per_shard=4).kept == 5
    assert _pairs(out, 1) == _pairs(source, 1)


def test_tar_files_of_before_there_were_digests_are_looked_at_where_an_image_was_damaged(tmp_path: Path) -> None:
    source, out = write_folder(tmp_path / "source"), tmp_path / "out"
    broken = source / "val" / "class_b" / "0.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(b"no image")
    write_shards(source, out, images_per_shard=4)
    for path in out.glob("*-0*.json"):
        index = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in index.items() if k not in ("sha256", "source")}))
    assert write_shards(source, out, images_per_shard=4).kept == 6
    broken.write_bytes(whole)
    again = write_shards(source, out, images_per_shard=4)
    assert (again.damaged, again.kept) == ({}, 5)


def _rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(jpeg(5, 64, 40))).save(path, "JPEG", exif=exif.tobytes())


@pytest.mark.parametrize(("orient", "stored"), [(True, (20, 32)), (False, (32, 20))])
def test_a_rotated_photo_stays_rotated_when_it_is_resized(
    tmp_path: Path, orient: bool, stored: tuple[int, int]
) -> None:
    """Where the orientation is left, the smaller image has it in its EXIF as the larger had."""
    source = write_folder(tmp_path / "source", train=1, val=1)
    _rotated(source / "val" / "class_a" / "0.jpg")
    write_shards(source, tmp_path / "out", resize=20, reading=Reading(orient=orient))
    written = open_encoded_images(tmp_path / "out")[1]
    assert Image.open(io.BytesIO(written.read(0))).size == stored
    picture = written.image(0)
    assert picture.size == (20, 32)
    np.testing.assert_allclose(
        np.asarray(picture), np.asarray(open_encoded_images(source)[1].image(0).resize((20, 32))), atol=60
    )


def test_deep_images_are_resized_by_their_range_and_bands_are_kept_as_they_are(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", train=1, val=1)
    Image.new("I;16", (40, 30), 128 * 257).save(source / "val" / "class_a" / "0.png")
    (source / "val" / "class_a" / "0.jpg").unlink()
    write_shards(source, tmp_path / "out", resize=20)
    assert np.unique(np.asarray(open_encoded_images(tmp_path / "out")[1].image(0))).tolist() == [128]
    with pytest.raises(DataError, match="resize must be left out for images of 5 channels"):
        write_shards(source, tmp_path / "bands", resize=20, reading=Reading(5))


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source")
    (source / "train" / "class_a" / "notes.txt").write_text("")
    (note,) = write_shards(source, tmp_path / "out").notes
    assert note.endswith("1 without the suffix of an image, such as train/class_a/notes.txt")
