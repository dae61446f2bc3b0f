"""Masks and mixed gates against writing the mixture out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from se_nas.supernet.mixture import gate_masks, kernel_masks, mixed_gate, prefix_masks


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


def test_gate_masks_say_which_hidden_units_an_option_uses() -> None:
    masks, selection = gate_masks([[2, 0, 3], [3, 0, 4]])
    assert masks.tolist() == [[[1, 1, 0, 0], [1, 1, 1, 0]], [[1, 1, 1, 0], [1, 1, 1, 1]]]
    assert selection.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_gate_masks_without_no_se_or_without_any_se() -> None:
    assert gate_masks([[2, 1]])[1].tolist() == [[0, 0], [1, 0], [0, 1]]
    masks, selection = gate_masks([[0], [0]])
    assert masks.shape == (0, 2, 1)
    assert selection.tolist() == [[1.0]]


@pytest.mark.parametrize("masked", [False, True])
def test_a_mixed_gate_is_the_sum_of_the_gates(masked: bool) -> None:
    torch.manual_seed(0)
    widths, channels = (1, 3, 4), 5
    z, w1, b1, w2, b2 = (torch.randn(s) for s in ((2, channels), (4, channels), (4,), (channels, 4), (channels,)))
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    mask = torch.tensor([1.0, 1.0, 0.5, 0.5, 0.0])
    units = prefix_masks(widths)
    found = mixed_gate(nn.SiLU(), torch.sigmoid, z, weights, units, w1, b1, w2, b2, *([mask] if masked else []))
    seen = z * mask if masked else z
    expected = weights[0] * torch.ones(2, channels)
    for weight, width in zip(weights[1:], widths, strict=True):
        hidden = F.silu(seen @ w1[:width].T + b1[:width])
        expected = expected + weight * torch.sigmoid(hidden @ w2[:, :width].T + b2)
    torch.testing.assert_close(found, expected * mask if masked else expected)
