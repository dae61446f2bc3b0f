"""Images on disk as a search has them: by their numbers, decoded when they are needed, and never all of them held."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from se_nas.data.in_memory.options import DataOptions
from se_nas.data.in_memory.parts import split_parts
from se_nas.data.on_disk.training_set import TrainingSet
from se_nas.data.search_images import SearchImages, TrainingBatches, images_of_search
from se_nas.data.sources import load_searched
from se_nas.errors import DataError
from tests.helpers.tiny_imagenet import write_images

CPU = torch.device("cpu")
PARTS = {"weights": 0.5, "choices": 0.25, "validation": 0.25}


def opened(
    root: Path, workers: int = 0, side: int = 16, say: list[str] | None = None
) -> tuple[TrainingSet, SearchImages]:
    options = DataOptions("imagenet", root, largest=side)
    info, train = load_searched(options, workers, [].append if say is None else say.append)
    assert isinstance(train, TrainingSet)
    return train, images_of_search(info, train, CPU, augmented=True)


def one(batches: TrainingBatches, number: int) -> tuple[Tensor, Tensor]:
    """A whole batch."""
    (batch,) = batches.parts(number, seed=0)
    return batch


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), classes=4, train=16)


def test_a_batch_is_a_function_of_the_seed_and_its_number_whatever_came_before_it_and_who_decodes(root: Path) -> None:
    train, images = opened(root)
    part = split_parts(train.labels, PARTS, 0)["weights"]
    walked = images.training_batches(part, 8, seed=3)
    in_order = [one(walked, number) for number in range(9)]
    alone = images.training_batches(part, 8, seed=3)
    _, by_workers = opened(root, workers=1)
    decoded = by_workers.training_batches(part, 8, seed=3)
    for batches, numbers in ((alone, (7, 2, 8)), (decoded, (7, 8))):
        for number in numbers:
            x, y = one(batches, number)
            assert torch.equal(x, in_order[number][0])
            assert torch.equal(y, in_order[number][1])
    by_workers.close()
    assert in_order[7][0].shape == (8, 3, 16, 16)
    assert not torch.equal(one(images.training_batches(part, 8, seed=4), 7)[0], in_order[7][0])
    assert not torch.equal(in_order[0][0], in_order[len(part) // 8][0])  # another pass


def test_batches_hold_the_images_of_their_part_alone_each_once_a_pass(root: Path) -> None:
    train, images = opened(root)
    of_two = torch.isin(train.labels, torch.tensor([1, 2])).nonzero().flatten()
    batches = images.training_batches(of_two, 8, seed=0)
    assert batches.per_epoch == 4
    assert batches.per_epoch * batches.images_per_batch == len(of_two)
    labels = torch.cat([one(batches, number)[1] for number in range(4)])
    assert labels.bincount().tolist() == [0, 16, 16]
    few = images.training_batches(of_two[:5], 8, seed=0)
    assert (few.per_epoch, few.images_per_batch, len(one(few, 0)[1])) == (1, 5, 5)  # as in memory


def test_evaluation_has_the_images_in_the_order_asked_for_at_the_side_asked_for(root: Path) -> None:
    train, images = opened(root)
    indices = torch.tensor([40, 3, 63, 20, 21])
    found = list(images.at(8).evaluate_batches(indices, 2))
    assert [x.shape for x, _ in found] == [(2, 3, 8, 8), (2, 3, 8, 8), (1, 3, 8, 8)]
    assert torch.equal(torch.cat([y for _, y in found]), train.labels[indices])
    one = torch.cat([x for x, _ in images.at(8).evaluate_batches(indices.flip(0), 5)]).flip(0)
    assert torch.equal(torch.cat([x for x, _ in found]), one)


def test_a_damaged_image_is_named_once_whichever_part_meets_it_and_too_many_end_the_search(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", classes=2, train=8)
    for number in (1, 4):
        (root / f"train/class00/{number}.jpg").write_bytes(b"broken")
    said: list[str] = []
    train, images = opened(root, say=said)
    everything = torch.arange(len(train))
    for _ in range(2):
        assert sum(len(y) for _, y in images.evaluate_batches(everything, 4)) == 14
    assert len(one(images.training_batches(everything, 16, seed=0), 0)[1]) == 16  # others in their place
    assert sorted(line.split(":")[0] for line in said) == ["train/class00/1.jpg", "train/class00/4.jpg"]
    train.damage.limit = 1
    with pytest.raises(DataError, match=r"at most 1 image may be damaged \(max_damaged\), but 2 are"):
        list(images.evaluate_batches(everything, 4))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read as Linux tells it")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", classes=2, train=1, val=1)
    for label in ("class00", "class01"):
        for number in range(1, 700):
            os.link(root / f"train/{label}/0.jpg", root / f"train/{label}/{number}.jpg")
    train, images = opened(root, side=128)
    batches = images.training_batches(torch.arange(len(train)), 20, seed=0)
    pages: list[int] = []
    for number in range(batches.per_epoch):
        one(batches, number)
        pages.append(int(Path("/proc/self/statm").read_text().split()[1]))
    growth = (max(pages) - pages[2]) * os.sysconf("SC_PAGE_SIZE")
    in_memory = len(train) * 128 * 128 * 3
    assert growth < in_memory / 3
