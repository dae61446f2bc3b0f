"""Mixtures that cost about one of their parts: kernels, channel prefixes and SE gates under choice probabilities.

A convolution is linear in its weight, so a mixture of centred crops of one kernel is one convolution whose weight is
masked ring by ring. Nothing between the expansion and the projection mixes channels but SE, so a mixture of expansion
ratios is a soft prefix mask on channels. And sum_k w_k (x * s_k) = x * (sum_k w_k s_k), so a mixture of SE ratios is
one SE whose gate is mixed, with "no SE" as the gate 1. What squeezes, activations and gate functions give is averaged
inside the one SE, on vectors. At one-hot probabilities each is exactly the sliced part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def kernel_masks(kernels: Sequence[int]) -> Tensor:
    """(number of kernels, K, K) masks, K the largest: ones on the centred crop of each kernel."""
    largest = max(kernels)
    masks = torch.zeros(len(kernels), largest, largest)
    for mask, kernel in zip(masks, kernels, strict=True):
        rim = (largest - kernel) // 2
        mask[rim : largest - rim, rim : largest - rim] = 1
    return masks


def prefix_masks(widths: Sequence[int]) -> Tensor:
    """(number of widths, largest width) masks: ones on the first `width` channels."""
    return (torch.arange(max(widths)) < torch.tensor(list(widths))[:, None]).float()


def fold_mask(tensors: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """The weight and the bias of a layer, each output channel of which is masked: what it puts out is 0 at a mask of 0.

    Args:
        mask: (C,) or 0-d.
    """
    return {name: t * (mask if t.dim() == 1 else mask.view(-1, *[1] * (t.dim() - 1))) for name, t in tensors.items()}


def crop_masks(kernels: Sequence[int]) -> Tensor:
    """(number of kernels, largest kernel) masks: ones on the middle of each, which is as wide as the kernel."""
    largest = max(kernels)
    return ((torch.arange(largest) - largest // 2).abs() <= (torch.tensor(list(kernels)) // 2)[:, None]).float()


def hidden_masks(widths: Sequence[Sequence[int]], largest: int) -> Tensor:
    """(options, expansions, largest) prefix masks on the hidden units that an option has beside each expansion.

    Args:
        widths: hidden width for each option (rows) and expansion (columns).
        largest: hidden units that there are.
    """
    return (torch.arange(largest) < torch.tensor([list(row) for row in widths])[:, :, None]).float()


def expected(masks: Tensor, expansions: Tensor) -> Tensor:
    """(options, expansions, H) masks to (options, H), soft where the expansion is."""
    if masks.shape[1] == 1:
        return masks[:, 0]
    return torch.einsum("geh,e->gh", masks, expansions)
