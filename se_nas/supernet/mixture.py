"""Mixtures that cost about one of their parts: kernels, channel prefixes and SE gates under choice probabilities.

A convolution is linear in its weight, so a mixture of centred crops of one kernel is one convolution whose weight is
masked ring by ring. Nothing between the expansion and the projection mixes channels but SE, so a mixture of expansion
ratios is a soft prefix mask on channels. And sum_k w_k (x * s_k) = x * (sum_k w_k s_k), so a mixture of SE ratios is
one SE whose gate is mixed, with "no SE" as the gate 1. At one-hot probabilities each is exactly the sliced part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


def gate_masks(widths: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """The hidden units that each SE option uses, and which option each gate is of.

    Args:
        widths: hidden width for each expansion option (rows) and SE option (columns); a column of 0 is "no SE".

    Returns:
        (gates, expansions, H) prefix masks, H the largest width and at least 1, one gate for each option with SE; and a
        (1 + gates, SE options) selection whose first row picks "no SE" (all 0 where that is no option).
    """
    table = torch.tensor([list(row) for row in widths])
    largest = max(1, int(table.max()))
    with_se = [option for option in range(table.shape[1]) if table[:, option].any()]
    masks = (torch.arange(largest) < table.t()[with_se, :, None]).float()
    selection = torch.zeros(1 + len(with_se), table.shape[1])
    for option in range(table.shape[1]):
        selection[1 + with_se.index(option) if option in with_se else 0, option] = 1
    return masks, selection


def mixed_gate(
    activation: nn.Module,
    gate: Callable[[Tensor], Tensor],
    z: Tensor,
    weights: Tensor,
    masks: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *channel_mask: Tensor,
) -> Tensor:
    """The weighted sum of the gates of every SE option, from one W1 and one W2.

    Args:
        z: squeezed channels (B, C); weights: (1 + gates,), first the weight of "no SE", whose gate is 1.
        masks: (gates, H) the hidden units that each gate uses; soft where the expansion that they depend on is mixed.
        w1, b1, w2, b2: the two linear maps, (H, C), (H,), (C, H), (C,).
        channel_mask: at most one (C,) mask on the channels that are present.

    Returns:
        The scale (B, C), the channel mask included.
    """
    for mask in channel_mask:
        z = z * mask
    hidden = activation(F.linear(z, w1, b1)) * masks[:, None, :]
    gates = gate(F.linear(hidden, w2, b2))
    scale: Tensor = weights[0] + torch.tensordot(weights[1:], gates, 1)
    for mask in channel_mask:
        scale = scale * mask
    return scale
