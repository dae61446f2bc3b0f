"""Masks against writing the mixture out."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from se_nas.supernet.mixture import crop_masks, hidden_masks, kernel_masks, prefix_masks


def test_kernel_masks_are_centred_crops() -> None:
    masks = kernel_masks([5, 1, 3])
    assert masks.shape == (3, 5, 5)
    assert [int(mask.sum()) for mask in masks] == [25, 1, 9]
    for mask in masks:
        assert torch.equal(mask, mask.flip(0))
        assert torch.equal(mask, mask.T)


def test_a_mixture_of_kernels_is_one_convolution() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 7, 7), torch.randn(3, 1, 5, 5)
    probabilities = torch.tensor([0.2, 0.5, 0.3])
    mixed = F.conv2d(x, weight * torch.tensordot(probabilities, kernel_masks([1, 3, 5]), 1), padding=2, groups=3)
    parts = [F.conv2d(x, weight[:, :, r : 5 - r, r : 5 - r], padding=2 - r, groups=3) for r in (2, 1, 0)]
    torch.testing.assert_close(mixed, sum(p * part for p, part in zip(probabilities, parts, strict=True)))


def test_prefix_masks() -> None:
    assert prefix_masks([2, 4, 1]).tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


def test_crop_masks_are_the_middle() -> None:
    assert crop_masks([3, 5, 1]).tolist() == [[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]]


def test_hidden_masks_say_which_hidden_units_an_option_uses() -> None:
    masks = hidden_masks([[2, 3], [3, 4]], 4)
    assert masks.tolist() == [[[1, 1, 0, 0], [1, 1, 1, 0]], [[1, 1, 1, 0], [1, 1, 1, 1]]]
