"""Masks and mixed gates against writing the mixture out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from se_nas.supernet.attention.cbam import mixed_cbam_gate
from se_nas.supernet.attention.eca import ECATensors, ElasticECA
from se_nas.supernet.attention.ese import EffectiveSETensors, ElasticEffectiveSE
from se_nas.supernet.attention.se import ElasticSE
from se_nas.supernet.mixture import (
    GateLayout,
    TwoLinears,
    UnitFunctions,
    crop_masks,
    hidden_masks,
    kernel_masks,
    mixed_gate,
    prefix_masks,
)


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


CHANNELS = 5
WIDTHS = (1, 3, 4)
FUNCTIONS = UnitFunctions(("mean",), ("silu",), ("sigmoid",))
MASK = torch.tensor([1.0, 1.0, 0.5, 0.5, 0.0])


def linears() -> list[Tensor]:
    return [torch.randn(size) for size in ((4, CHANNELS), (4,), (CHANNELS, 4), (CHANNELS,))]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(2, CHANNELS), (2, 3, 3, CHANNELS)])
def test_a_mixed_gate_is_the_sum_of_the_gates(masked: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    z, (w1, b1, w2, b2) = torch.randn(shape), linears()
    across, w, b = torch.randn(1, 1, 3), torch.randn(CHANNELS, CHANNELS), torch.randn(CHANNELS)
    none, *ratios, eca, ese = torch.tensor([0.1, 0.1, 0.2, 0.3, 0.05, 0.25])
    parts = (ElasticSE.part, ElasticECA.part, ElasticEffectiveSE.part)
    maps = TwoLinears(prefix_masks(WIDTHS), w1, b1, w2, b2)
    weights = torch.stack([*ratios, eca, ese])
    tensors = [none, *([MASK] if masked else []), weights, *maps, *ECATensors(across), *EffectiveSETensors(w, b)]
    found = mixed_gate(GateLayout(True, masked, parts, FUNCTIONS), z, *tensors)
    seen = z * MASK if masked else z
    expected = none * torch.ones(shape)
    for weight, width in zip(ratios, WIDTHS, strict=True):
        hidden = F.silu(seen @ w1[:width].T + b1[:width])
        expected = expected + weight * torch.sigmoid(hidden @ w2[:, :width].T + b2)
    around = F.pad(seen, (1, 1))
    neighbours = sum(k * around[..., i : i + CHANNELS] for i, k in enumerate(across.flatten()))
    expected = expected + eca * torch.sigmoid(neighbours) + ese * torch.sigmoid(seen @ w.T + b)
    torch.testing.assert_close(found, expected * MASK if masked else expected)


@pytest.mark.parametrize("kind", ["none", "se", "eca", "ese"])
def test_a_gate_of_one_kind_needs_the_tensors_of_that_kind_alone(kind: str) -> None:
    torch.manual_seed(0)
    z, (w1, b1, w2, b2) = torch.randn(2, CHANNELS), linears()
    parts = {
        "none": (None, (torch.ones(1),)),
        "se": (ElasticSE.part, TwoLinears(torch.ones(1, 4), w1, b1, w2, b2)),
        "eca": (ElasticECA.part, ECATensors(torch.randn(1, 1, 3))),
        "ese": (ElasticEffectiveSE.part, EffectiveSETensors(torch.eye(CHANNELS), torch.zeros(CHANNELS))),
    }
    part, tensors = parts[kind]
    layout = GateLayout(part is None, False, () if part is None else (part,), FUNCTIONS)
    found = mixed_gate(layout, z, *([] if part is None else [torch.ones(1)]), *tensors)
    assert found.shape == z.shape
    if kind in ("none", "ese"):
        torch.testing.assert_close(found, torch.ones_like(z) if kind == "none" else z.sigmoid())


@pytest.mark.parametrize("masked", [False, True])
def test_a_mixed_gate_of_cbam_is_the_sum_of_its_gates(masked: bool) -> None:
    torch.manual_seed(0)
    means, maxima, (w1, b1, w2, b2) = torch.randn(2, CHANNELS), torch.randn(2, CHANNELS), linears()
    weights = torch.tensor([0.2, 0.3, 0.5])
    tensors = [weights, prefix_masks(WIDTHS), w1, b1, w2, b2, *([MASK] if masked else [])]
    found = mixed_cbam_gate(FUNCTIONS, torch.stack((means, maxima)), *tensors)
    expected = torch.zeros(2, CHANNELS)
    for weight, width in zip(weights, WIDTHS, strict=True):
        excitations = []
        for z in (means, maxima):
            hidden = F.silu((z * MASK if masked else z) @ w1[:width].T + b1[:width])
            excitations.append(hidden @ w2[:, :width].T + b2)
        expected = expected + weight * torch.sigmoid(sum(excitations))
    torch.testing.assert_close(found, expected * MASK if masked else expected)
