from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from se_nas.data.file_options import FileOptions
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import check_test, load_test, load_train
from se_nas.errors import DataError

_RED, _BLUE = (255, 0, 0), (0, 0, 255)


def _image(path: Path, colour: tuple[int, ...], size: tuple[int, int] = (40, 30), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour if mode != "L" else colour[0]).save(path)


def _two_levels(root: Path, test: str = "test") -> None:
    for part, count in (("train", 3), (test, 2)):
        for number in range(count):
            _image(root / part / "red" / f"{number}.png", _RED)
            _image(root / part / "blue" / f"{number}.png", _BLUE, size=(32, 90))


@pytest.mark.parametrize("test", ["test", "val"])
def test_train_and_test_folders(tmp_path: Path, test: str) -> None:
    _two_levels(tmp_path, test)
    info, train = load_train(DataOptions("folder", tmp_path))
    tested = load_test(DataOptions("folder", tmp_path))
    assert info.class_names == ("blue", "red")
    assert train.images.shape == (6, 32, 32, 3)
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert tested.labels.tolist() == [0, 0, 1, 1]
    for part in (train, tested):
        colours = torch.tensor([_BLUE, _RED], dtype=torch.uint8)[part.labels]
        assert torch.equal(part.images, colours[:, None, None].expand_as(part.images))
    assert info.mean == pytest.approx((0.5, 0, 0.5))


def test_training_images_load_where_the_test_folder_is_gone_or_broken(tmp_path: Path) -> None:
    _two_levels(tmp_path)
    _, before = load_train(DataOptions("folder", tmp_path))
    for file in (tmp_path / "test").rglob("*.png"):
        file.write_bytes(b"broken")
    _, after = load_train(DataOptions("folder", tmp_path))
    assert torch.equal(before.images, after.images)
    with pytest.raises(DataError, match=r"test: there must be an image .* all 4 are damaged, the last .*red/1.png"):
        load_test(DataOptions("folder", tmp_path))


def _one_level(root: Path, count: int = 10) -> None:
    for number in range(count):
        _image(root / "cat" / f"{number}.png", (number, 0, 0))
        _image(root / "dog" / f"{number}.png", (number, 9, 0))


def test_a_fifth_of_a_single_level_is_the_tests_whatever_the_seed(tmp_path: Path) -> None:
    _one_level(tmp_path)
    _, train = load_train(DataOptions("folder", tmp_path, seed=0))
    first, second = (load_test(DataOptions("folder", tmp_path, seed=seed)) for seed in (0, 1))
    assert torch.equal(first.images, second.images)
    assert train.labels.bincount().tolist() == [8, 8]
    assert first.labels.bincount().tolist() == [2, 2]
    seen, tested = ({tuple(image[0, 0].tolist()) for image in part.images} for part in (train, first))
    assert not seen & tested
    assert len(seen | tested) == 20


def test_images_that_are_added_move_few_others_to_the_other_side(tmp_path: Path) -> None:
    _one_level(tmp_path, 50)
    before = {tuple(i[0, 0].tolist()) for i in load_test(DataOptions("folder", tmp_path)).images}
    _image(tmp_path / "cat" / "another.png", (99, 0, 0))
    after = {tuple(i[0, 0].tolist()) for i in load_test(DataOptions("folder", tmp_path)).images}
    assert len(before - after) <= 1


def test_the_shorter_side_is_resized_and_the_centre_kept(tmp_path: Path) -> None:
    wide = Image.new("RGB", (120, 60), (0, 0, 0))
    wide.paste((200, 200, 200), (30, 0, 90, 60))  # the centre square, and nothing else
    _image(tmp_path / "train" / "b" / "1.png", _RED)
    (tmp_path / "train" / "a").mkdir()
    wide.save(tmp_path / "train" / "a" / "1.png")
    _, train = load_train(DataOptions("folder", tmp_path, resolution=20))
    assert train.images.shape == (2, 20, 20, 3)
    assert train.images[0, :, 1:-1].unique().tolist() == [200]


def test_grey_images_become_colour_and_other_files_are_passed_over(tmp_path: Path) -> None:
    _image(tmp_path / "train" / "a" / "1.JPG", (120,), mode="L")
    _image(tmp_path / "train" / "b" / "1.png", (1, 2, 3, 4), mode="RGBA", size=(5, 7))
    (tmp_path / "train" / "a" / "notes.txt").write_text("none")
    (tmp_path / "train" / ".cache").mkdir()
    _, train = load_train(DataOptions("folder", tmp_path))
    assert train.labels.tolist() == [0, 1]
    assert train.images[1].unique(dim=0).flatten(0, 1).unique(dim=0).tolist() == [[1, 2, 3]]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    _two_levels(tmp_path)
    broken = tmp_path / "train" / "red" / "1.png"
    for content in (b"", b"no image", broken.read_bytes()[:60]):
        broken.write_bytes(content)
        with pytest.raises(
            DataError, match=r"at most 0 images may be damaged .*, but 1 is, the last .*red/1.png"
        ) as caught:
            load_train(DataOptions("folder", tmp_path, files=FileOptions(max_damaged=0)))
        assert "\n" not in str(caught.value)


def test_folders_without_what_they_need_are_errors(tmp_path: Path) -> None:
    options = DataOptions("folder", tmp_path)
    with pytest.raises(DataError, match="there is no such folder"):
        load_train(DataOptions("folder", tmp_path / "absent"))
    with pytest.raises(DataError, match="at least 2 folders, one per class, but got 0"):
        load_train(options)
    _image(tmp_path / "train" / "a" / "1.png", _RED)
    (tmp_path / "train" / "b").mkdir()
    with pytest.raises(DataError, match=r"train/b: a class must have at least one image"):
        load_train(options)
    _image(tmp_path / "train" / "b" / "1.png", _RED)
    with pytest.raises(DataError, match="there must be test or val"):
        load_test(options)
    _image(tmp_path / "test" / "c" / "1.png", _RED)
    with pytest.raises(DataError, match="every class must be in train as well, but 'c' is not"):
        load_test(options)


def test_a_single_level_too_small_for_a_test_is_an_error(tmp_path: Path) -> None:
    _one_level(tmp_path, 2)
    assert len(load_train(DataOptions("folder", tmp_path))[1]) == 4
    for check in (check_test, load_test):
        with pytest.raises(DataError, match="must have 3 images"):
            check(DataOptions("folder", tmp_path))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: shutil.rmtree(root / "test"), "beside train there must be test or val, but there is neither"),
        (lambda root: (root / "test" / "red").rename(root / "test" / "x"), "must be in train as well, but 'x' is not"),
        (lambda root: [f.unlink() for f in (root / "test").rglob("*.png")], "there must be at least one test image"),
    ],
)
def test_absent_test_images_are_found_before_any_image_is_read(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    _two_levels(tmp_path)
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"never read")
    check_test(DataOptions("folder", tmp_path))
    damage(tmp_path)
    for check in (check_test, load_test):
        with pytest.raises(DataError, match=message):
            check(DataOptions("folder", tmp_path))
