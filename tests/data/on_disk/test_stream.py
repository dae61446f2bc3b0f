from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from se_nas.data.image_file import decode
from se_nas.data.on_disk.encoded_images import EncodedImages, open_encoded_images
from se_nas.data.on_disk.shard_writing import write_shards
from se_nas.data.on_disk.shuffle import shuffled_order
from se_nas.data.on_disk.stream import EvaluationStream, TrainStream
from se_nas.data.on_disk.transforms import EvalTransform, TrainTransform
from se_nas.errors import DataError
from tests.helpers.jpeg_folders import jpeg, write_folder

TRANSFORM = TrainTransform(resolution=8, auto_augment="rand-m9-mstd0.5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 training and 6 validation images of 3 classes."""
    return write_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def train(folder: Path) -> EncodedImages:
    return open_encoded_images(folder)[0]


def _stream(images: EncodedImages, **options: Any) -> TrainStream:
    return TrainStream(images, TRANSFORM, **{"batch_size": 4, "seed": 3, **options})


def _steps(stream: TrainStream, places: list[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
    """The micro-batches of some steps, one behind the other."""
    try:
        return [batch for epoch, step in places for batch in stream.micro_batches(epoch, step)]
    finally:
        stream.close()


def _same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in pairs)


TWO_EPOCHS = [(epoch, step) for epoch in (0, 1) for step in range(3)]


def test_a_batch_is_uint8_channels_last_with_the_labels_of_the_order(train: EncodedImages) -> None:
    stream = _stream(train)
    assert stream.steps_per_epoch == 3
    ((x, y),) = stream.micro_batches(1, 2)
    assert x.shape == (4, 3, 8, 8)
    assert x.dtype == torch.uint8
    assert x.is_contiguous(memory_format=torch.channels_last)
    order = shuffled_order(15, seed=3, epoch=1)
    assert y.dtype == torch.int64
    assert y.tolist() == train.labels[order[8:12]].tolist()


def test_an_epoch_is_a_permutation_of_seed_and_epoch() -> None:
    orders = [shuffled_order(50, seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for order in orders:
        assert sorted(order.tolist()) == list(range(50))
    assert len({tuple(order.tolist()) for order in orders}) == 3
    np.testing.assert_array_equal(orders[0], shuffled_order(50, seed=0, epoch=0))


def test_repeats_come_in_a_row_and_keep_the_length_of_an_epoch() -> None:
    order = shuffled_order(50, seed=0, epoch=0, repeats=3)
    np.testing.assert_array_equal(order, np.repeat(shuffled_order(50, seed=0, epoch=0)[:17], 3)[:50])


def test_grouped_images_are_shuffled_among_those_of_several_files() -> None:
    groups = np.repeat(np.arange(40), 10)
    order = shuffled_order(400, seed=0, epoch=0, groups=groups)
    assert sorted(order.tolist()) == list(range(400))
    windows = [set(groups[part]) for part in np.split(order, [160, 320])]
    assert [len(window) for window in windows] == [16, 16, 8]
    assert windows[0] != set(range(16))
    assert len(set(groups[order[:20]])) > 5
    assert not np.array_equal(order, shuffled_order(400, seed=0, epoch=1, groups=groups))


def test_pixels_depend_neither_on_workers_nor_on_where_the_stream_began(train: EncodedImages) -> None:
    expected = _steps(_stream(train), TWO_EPOCHS)
    assert len({x.numpy().tobytes() for x, _ in expected}) == 6
    assert _same(_steps(_stream(train, workers=2), TWO_EPOCHS), expected)
    jumps = [(1, 1), (1, 2), (0, 0), (0, 0), (0, 2), (1, 0)]
    picked = [expected[3 * epoch + step] for epoch, step in jumps]
    assert _same(_steps(_stream(train), jumps), picked)
    assert _same(_steps(_stream(train, workers=1), jumps), picked)
    assert not _same(_steps(_stream(train, seed=4), TWO_EPOCHS), expected)


def test_ranks_and_micro_batches_share_the_images_of_a_step(train: EncodedImages) -> None:
    ((whole, labels),) = _steps(_stream(train, batch_size=12, repeats=2), [(5, 0)])
    for rank in range(2):
        parts = _steps(_stream(train, batch_size=12, repeats=2, rank=rank, ranks=2, accumulate=3), [(5, 0)])
        assert len(parts) == 3
        for number, (x, y) in enumerate(parts):
            start = number * 2 + rank
            assert torch.equal(x, whole[start::6])
            assert torch.equal(y, labels[start::6])


def test_a_repeated_image_gets_draws_of_its_own(train: EncodedImages) -> None:
    ((x, y),) = _steps(_stream(train, batch_size=15, repeats=15), [(0, 0)])
    assert len(set(y.tolist())) == 1
    assert len({image.numpy().tobytes() for image in x}) == 15


@pytest.mark.parametrize("workers", [0, 1])
def test_the_generators_of_the_main_process_stay_as_they_were(train: EncodedImages, workers: int) -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), np.random.random(), torch.rand(()).item()  # noqa: NPY002

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    expected = drawn()
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    _steps(_stream(train, workers=workers), [(0, 0)])
    assert drawn() == expected


@pytest.fixture
def damaged_folder(tmp_path: Path) -> Path:
    write_folder(tmp_path)
    (tmp_path / "train" / "class_a" / "1.jpg").write_bytes(jpeg(1)[:-200])
    (tmp_path / "train" / "class_c" / "2.jpg").write_bytes(b"")
    (tmp_path / "val" / "class_b" / "0.jpg").write_bytes(b"no image")
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_sound_image_stands_in_for_a_damaged_one(
    train: EncodedImages, damaged_folder: Path, workers: int
) -> None:
    lines: list[str] = []
    images, _ = open_encoded_images(damaged_folder)
    stream = _stream(images, batch_size=15, workers=workers, say=lines.append)
    got = _steps(stream, [(0, 0), (1, 0)])
    assert sorted(stream.damaged) == ["train/class_a/1.jpg", "train/class_c/2.jpg"]
    assert "truncated" in stream.damaged["train/class_a/1.jpg"]
    assert len(lines) == 2
    assert all("the image is damaged and left out (" in line and "\n" not in line for line in lines)
    assert lines[1].endswith("; 2 of at most 100")
    whole = _steps(_stream(train, batch_size=15), [(0, 0), (1, 0)])
    for epoch, ((x, y), (u, v)) in enumerate(zip(got, whole, strict=True)):
        order = shuffled_order(15, seed=3, epoch=epoch).tolist()
        for place, index in enumerate(order):
            if index not in (1, 12):
                assert torch.equal(x[place], u[place])
                continue
            after = next(i for i in order[place + 1 :] + order if i not in (1, 12))
            assert y[place] == train.labels[after]
            assert v[place] == train.labels[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_more_damaged_images_than_may_be_end_the_stream_in_one_line(damaged_folder: Path, workers: int) -> None:
    images, _ = open_encoded_images(damaged_folder)
    lines: list[str] = []
    stream = _stream(images, batch_size=15, workers=workers, max_damaged=1, say=lines.append)
    message = r"at most 1 image may be damaged \(max_damaged\), but 2 are, the last train/class_\w/\d.jpg \("
    with pytest.raises(DataError, match=message) as caught:
        stream.micro_batches(0, 0)
    assert "\n" not in str(caught.value)
    assert [line.rpartition("; ")[2] for line in lines] == ["1 of at most 1", "2 where there may be 1"]


def test_images_that_are_all_damaged_are_an_error(damaged_folder: Path) -> None:
    images, _ = open_encoded_images(damaged_folder)
    for index in range(len(images)):
        (damaged_folder / images.name(index)).unlink()
    with pytest.raises(DataError, match="there must be an image that can be read, but all 15 are damaged"):
        _stream(images).micro_batches(0, 0)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_evaluation_takes_every_image_once_over_all_ranks(folder: Path, workers: int, ranks: int) -> None:
    _, val = open_encoded_images(folder)
    transform = EvalTransform(8)
    seen: dict[bytes, int] = {}
    for rank in range(ranks):
        stream = EvaluationStream(val, transform, batch_size=4, rank=rank, ranks=ranks, workers=workers)
        for x, y in stream:
            assert len(x) == len(y) <= 4
            assert x.is_contiguous(memory_format=torch.channels_last)
            for image, label in zip(x, y.tolist(), strict=True):
                assert image.numpy().tobytes() not in seen
                seen[image.numpy().tobytes()] = label
    built = transform.build()
    assert seen == {built(decode(val.read(i))).tobytes(): val.labels[i] for i in range(6)}


def test_evaluation_leaves_damaged_images_out_and_can_be_repeated(damaged_folder: Path) -> None:
    _, val = open_encoded_images(damaged_folder)
    lines: list[str] = []
    stream = EvaluationStream(val, EvalTransform(8), batch_size=1, say=lines.append)
    for _ in range(2):
        assert [y.tolist() for _, y in stream] == [[0], [0], [1], [2], [2]]
    assert list(stream.damaged) == ["val/class_b/0.jpg"]
    assert len(lines) == 1
    with pytest.raises(DataError, match="at most 0 images may be damaged"):
        list(EvaluationStream(val, EvalTransform(8), batch_size=4, max_damaged=0))


def test_shards_stream_the_same_images(folder: Path, tmp_path: Path) -> None:
    write_shards(folder, tmp_path, images_per_shard=4)
    images, _ = open_encoded_images(tmp_path)
    serial = _steps(_stream(images, batch_size=5), TWO_EPOCHS)
    assert _same(_steps(_stream(images, batch_size=5, workers=2), TWO_EPOCHS), serial)
    order = shuffled_order(15, seed=3, epoch=1, groups=images.groups)
    assert torch.cat([y for _, y in serial[3:]]).tolist() == images.labels[order].tolist()


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
def test_workers_outlive_signals_and_end_with_the_stream(train: EncodedImages) -> None:
    before = set(_children())
    stream = _stream(train, workers=2)
    stream.micro_batches(0, 0)
    workers = set(_children()) - before
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    for place in TWO_EPOCHS[1:]:
        stream.micro_batches(*place)
    assert set(_children()) - before == workers
    stream.close()
    assert not set(_children()) & workers


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
def test_a_worker_that_is_killed_is_one_line(train: EncodedImages) -> None:
    before = set(_children())
    stream = _stream(train, workers=1)
    stream.micro_batches(0, 0)
    (pid,) = set(_children()) - before
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(DataError, match="the workers that decode images must stay alive") as caught:
        _steps(stream, TWO_EPOCHS[1:])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 16}, "an epoch must hold a whole batch of 16, but got 15 images"),
        ({"batch_size": 6, "ranks": 4}, "must be a multiple of 4 ranks x 1 micro-batches, but got 6"),
        ({"batch_size": 0}, "batch_size must be at least 1, but got 0"),
        ({"workers": -1}, "workers must be at least 0, but got -1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"repeats": 0}, "repeats must be at least 1"),
    ],
)
def test_what_cannot_be_streamed_is_an_error(train: EncodedImages, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _stream(train, **options)


def test_a_step_that_an_epoch_does_not_have_is_an_error(train: EncodedImages) -> None:
    with pytest.raises(DataError, match="an epoch has 3 steps, but got step 3"):
        _stream(train).micro_batches(0, 3)
