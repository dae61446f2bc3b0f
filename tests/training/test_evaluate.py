from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from se_nas.data.in_memory.batches import DeviceImages
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.hardware.distributed import Ranks
from se_nas.training.evaluate import TopAccuracies, accuracy, top_accuracies

CLASSES = 4
INFO = DataInfo(
    name="fake",
    classes=CLASSES,
    class_names=("a", "b", "c", "d"),
    resolution=2,
    channels=1,
    mean=(0.0,),
    std=(1.0,),
    flip=False,
    crop_padding=0,
)


class Brightness(nn.Module):
    """Says that the class of an image is the value of its pixels; notes its mode and the batches it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        self.batches.append(len(x))
        value = x.mean((1, 2, 3)) * 255
        return -(value.unsqueeze(1) - torch.arange(CLASSES)).square()


@pytest.fixture
def images() -> DeviceImages:
    """Ten images of which the first seven show their label."""
    labels = torch.arange(10) % CLASSES
    shown = torch.where(torch.arange(10) < 7, labels, (labels + 1) % CLASSES)
    pixels = shown.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 2, 1).contiguous()
    return DeviceImages(INFO, ImageSet(pixels, labels), "cpu")


@pytest.mark.parametrize(
    ("indices", "expected"),
    [(range(10), 0.7), (range(7), 1.0), (range(7, 10), 0.0), ([9, 0], 0.5), ([3, 3, 8], 2 / 3)],
)
def test_accuracy_is_the_share_of_the_chosen_images(images: DeviceImages, indices: object, expected: float) -> None:
    chosen = torch.tensor(list(indices))  # type: ignore[call-overload]
    assert accuracy(Brightness(), images, chosen) == pytest.approx(expected)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 500])
def test_the_batch_size_changes_nothing_and_no_image_is_left_out(images: DeviceImages, batch_size: int) -> None:
    network = Brightness()
    assert accuracy(network, images, torch.arange(10), batch_size) == 0.7
    assert sum(network.batches) == 10
    assert max(network.batches) <= batch_size


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_in_evaluation_mode_meanwhile_and_as_before_afterwards(
    images: DeviceImages, training: bool
) -> None:
    network = Brightness().train(training)
    accuracy(network, images, torch.arange(10), 4)
    assert network.modes == [False, False, False]
    assert network.training is training


def test_no_images_are_no_division_by_zero(images: DeviceImages) -> None:
    assert accuracy(Brightness(), images, torch.arange(0)) == 0.0


def test_batch_norm_statistics_are_left_alone(images: DeviceImages) -> None:
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    accuracy(network, images, torch.arange(10))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Given(nn.Module):
    """The given logits, row by row."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.seen = 0
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        self.seen += len(x)
        return self.logits[self.seen - len(x) : self.seen]


@pytest.mark.parametrize("classes", [3, 5, 12])
def test_first_and_first_five_guesses_are_counted_as_by_hand(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(23, classes, generator=generator)
    labels = torch.randint(classes, (23,), generator=generator)
    network = Given(logits).train()
    batches = [(torch.zeros(len(part), 3, 4, 4, dtype=torch.uint8), part) for part in labels.split(10)]
    found = top_accuracies(network, batches, torch.device("cpu"), Ranks())
    places = [(row > row[label]).sum().item() for row, label in zip(logits, labels, strict=True)]
    own = [[p == 0 for p, label in zip(places, labels.tolist(), strict=True) if label == c] for c in range(classes)]
    shares = [sum(right) / len(right) if right else None for right in own]
    assert found == TopAccuracies(
        top1=pytest.approx(sum(place == 0 for place in places) / 23),
        top5=pytest.approx(sum(place < 5 for place in places) / 23),
        images=23,
        balanced=pytest.approx(np.mean([share for share in shares if share is not None])),
        by_class=shares,
        class_images=[len(right) for right in own],
    )
    assert network.modes == [False] * 3
    assert network.training


def test_no_images_have_no_top_accuracy() -> None:
    found = top_accuracies(Given(torch.zeros(0, 3)), [], torch.device("cpu"), Ranks())
    assert found == TopAccuracies(top1=0.0, top5=0.0, images=0, balanced=0.0, by_class=[], class_images=[])
