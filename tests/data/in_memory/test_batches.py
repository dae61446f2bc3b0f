from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from se_nas.data.in_memory.batches import Augmentation, DeviceImages, EpochBatches, batches_per_epoch, epoch_order
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.errors import DataError
from se_nas.hardware.distributed import Ranks

_INFO = DataInfo(
    name="some",
    classes=4,
    class_names=("a", "b", "c", "d"),
    resolution=6,
    channels=3,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.25),
    flip=True,
    crop_padding=2,
)


def _image_set(n: int = 12, height: int = 6, width: int = 6) -> ImageSet:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(n) % 4)


def _normalised(image: torch.Tensor) -> torch.Tensor:
    """One (H, W, C) uint8 image as the textbook has it."""
    scaled = image.double() / 255
    return ((scaled - torch.tensor(_INFO.mean).double()) / torch.tensor(_INFO.std).double()).permute(2, 0, 1).float()


@pytest.mark.parametrize("width", [6, 9])
def test_crop_and_flip_equal_loops_over_the_same_random_numbers(width: int) -> None:
    padding, n = 2, 40
    data = _image_set(n, width=width)
    device_images = DeviceImages(_INFO, data, "cpu", Augmentation(True, padding))
    indices = torch.randperm(n, generator=torch.Generator().manual_seed(2))
    images, labels = device_images.batch(indices, torch.Generator().manual_seed(3))

    generator = torch.Generator().manual_seed(3)
    top, left = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator).squeeze(2).tolist()
    flips = torch.randint(0, 2, (n, 1), generator=generator).flatten().tolist()
    assert set(flips) == {0, 1}
    for place, index in enumerate(indices.tolist()):
        want = torch.zeros(6, width, 3, dtype=torch.uint8)
        for row in range(6):
            for column in range(width):
                source_row = row + top[place] - padding
                unflipped = width - 1 - column if flips[place] else column
                source_column = unflipped + left[place] - padding
                if 0 <= source_row < 6 and 0 <= source_column < width:
                    want[row, column] = data.images[index, source_row, source_column]
        expected = _normalised(want)
        torch.testing.assert_close(images[place], expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(labels, data.labels[indices])


def test_without_augmentation_a_batch_is_the_normalised_images() -> None:
    data = _image_set()
    images, labels = DeviceImages(_INFO, data, "cpu").batch(torch.tensor([3, 0, 3]))
    want = torch.stack([_normalised(data.images[index]) for index in (3, 0, 3)])
    torch.testing.assert_close(images, want, rtol=1e-5, atol=1e-6)
    assert labels.tolist() == [3, 0, 3]


def test_evaluation_is_not_augmented_and_keeps_the_order() -> None:
    data = _image_set()
    device_images = DeviceImages(_INFO, data, "cpu", Augmentation(True, 2))
    indices = torch.tensor([5, 1, 7, 2, 2])
    batches = list(device_images.evaluate_batches(indices, 2))
    assert [len(labels) for _, labels in batches] == [2, 2, 1]
    want = torch.stack([_normalised(data.images[index]) for index in indices.tolist()])
    torch.testing.assert_close(torch.cat([images for images, _ in batches]), want, rtol=1e-5, atol=1e-6)
    assert torch.cat([labels for _, labels in batches]).tolist() == data.labels[indices].tolist()


@pytest.mark.parametrize("augment", [None, Augmentation(True, 2), Augmentation(False, 1)])
def test_batches_are_float32_and_channels_last(augment: Augmentation | None) -> None:
    device_images = DeviceImages(_INFO, _image_set(), "cpu", augment)
    batches = [device_images.batch(torch.arange(5)), *device_images.evaluate_batches(torch.arange(5), 5)]
    for images, labels in batches:
        assert images.shape == (5, 3, 6, 6)
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images.stride(1) == 1
        assert labels.dtype == torch.int64


def test_the_global_seed_fixes_a_batch_and_another_changes_it() -> None:
    device_images = DeviceImages(_INFO, _image_set(), "cpu", Augmentation(True, 2))
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(device_images.batch(torch.arange(12))[0])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_images_given_are_not_changed() -> None:
    data = _image_set()
    before = data.images.clone()
    device_images = DeviceImages(_INFO, data, "cpu", Augmentation(True, 2))
    device_images.batch(torch.arange(12))
    assert torch.equal(data.images, before)
    assert len(device_images) == 12
    assert device_images.device == torch.device("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_one_seed_is_one_batch_on_every_device() -> None:
    drawn = []
    for device in ("cpu", "cuda"):
        device_images = DeviceImages(_INFO, _image_set(), device, Augmentation(True, 2))
        images, labels = device_images.batch(torch.arange(12), torch.Generator().manual_seed(0))
        assert images.device.type == device
        assert images.is_contiguous(memory_format=torch.channels_last)
        drawn.append((images.cpu(), labels.cpu()))
    torch.testing.assert_close(drawn[0], drawn[1])


def test_negative_pixels_are_refused() -> None:
    with pytest.raises(DataError, match="must be at least 0 pixels"):
        Augmentation(True, -1)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_parts_of_a_batch_are_the_images_of_the_whole_one(parts: int) -> None:
    device_images = DeviceImages(_INFO, _image_set(), "cpu", Augmentation(True, 2))
    ((images, labels),) = EpochBatches(device_images, torch.arange(12), 6, seed=3).parts(3, 5)
    accumulated = EpochBatches(device_images, torch.arange(12), 6, seed=3, accumulate=parts)
    for part, own in enumerate(accumulated.parts(3, 5)):
        of_rank = EpochBatches(device_images, torch.arange(12), 6, seed=3, ranks=Ranks(part, parts))
        for found in (own, *of_rank.parts(3, 5)):
            assert torch.equal(found[0], images[part::parts])
            assert torch.equal(found[1], labels[part::parts])
    assert not torch.equal(next(accumulated.parts(3, 6))[0], images[::parts])


@given(st.integers(0, 200), st.integers(-5, 2**40), st.integers(0, 1000))
def test_an_epochs_order_is_a_permutation_fixed_by_seed_and_epoch(n: int, seed: int, epoch: int) -> None:
    order = epoch_order(n, seed, epoch)
    assert order.sort().values.tolist() == list(range(n))
    assert torch.equal(order, epoch_order(n, seed, epoch))


def test_the_orders_of_neighbouring_seeds_and_epochs_all_differ() -> None:
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(8) for epoch in range(8)}
    assert len(orders) == 64


@pytest.mark.parametrize(("n", "batch_size", "batches"), [(10, 5, 2), (10, 4, 2), (10, 10, 1), (10, 11, 1), (3, 64, 1)])
def test_the_last_partial_batch_is_dropped_unless_it_is_the_only_one(n: int, batch_size: int, batches: int) -> None:
    assert batches_per_epoch(n, batch_size) == batches
