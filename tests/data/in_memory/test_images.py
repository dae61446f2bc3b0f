from __future__ import annotations

import numpy as np
import pytest
import torch

from se_nas.data.in_memory.images import ImageSet, channel_statistics, resized


def _random(n: int, side: int, channels: int = 3) -> torch.Tensor:
    shape = (n, side, side, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_channel_statistics_equal_numpys_over_more_than_one_chunk() -> None:
    images = _random(1500, 5)
    mean, std = channel_statistics(images)
    scaled = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, scaled.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std((0, 1, 2)), rtol=1e-9)


def test_a_constant_channel_can_be_divided_by() -> None:
    _, std = channel_statistics(torch.full((2, 3, 3, 1), 7, dtype=torch.uint8))
    assert std == (1.0,)


def test_resizing_keeps_a_constant_image_and_averages_a_halved_one() -> None:
    assert resized(torch.full((2, 8, 8, 3), 201, dtype=torch.uint8), 32).unique().tolist() == [201]
    board = torch.zeros(1, 8, 8, 1, dtype=torch.uint8)
    board[:, ::2] = 200
    inner = resized(board, 4)[0, 1:-1, 1:-1]
    assert (inner.int() - 100).abs().max() <= 15


def test_resizing_to_the_same_resolution_changes_nothing() -> None:
    images = _random(2, 8)
    assert torch.equal(resized(images, 8), images)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(2, 4, 4, 3), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8).permute(0, 2, 3, 1), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int32)),
    ],
)
def test_an_image_set_of_other_shapes_or_types_is_refused(images: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="must be"):
        ImageSet(images, labels)
