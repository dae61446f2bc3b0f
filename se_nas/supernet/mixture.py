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


def gate_weights(widths: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], Tensor]:
    """Which SE hidden width each (expansion, SE option) pair gives.

    Args:
        widths: hidden width for each expansion option (rows) and SE option (columns); 0 for no SE.

    Returns:
        The distinct widths above 0, ascending, and an incidence tensor (1 + number of widths, expansions, SE options)
        whose first entry stands for no SE: contracted with both probabilities, it weighs the gates.
    """
    table = torch.tensor([list(row) for row in widths])
    distinct = tuple(sorted({int(w) for w in table.flatten()} - {0}))
    return distinct, torch.stack([(table == width).float() for width in (0, *distinct)])


def mixed_gate(
    widths: tuple[int, ...],
    activation: nn.Module,
    gate: Callable[[Tensor], Tensor],
    z: Tensor,
    weights: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *channel_mask: Tensor,
) -> Tensor:
    """The weighted sum of the gates of every hidden width, as one pass over one W1 and one W2.

    The gate of width h uses the first h hidden units. What the second linear map makes of hidden units h to h' is
    added to what it made of the first h, so all widths together cost the multiplications of the widest.

    Args:
        widths: distinct hidden widths, ascending.
        z: squeezed channels (B, C); weights: (1 + len(widths),), first the weight of "no SE".
        w1, b1, w2, b2: the two linear maps, (H, C), (H,), (C, H), (C,), H the largest width.
        channel_mask: at most one (C,) mask on the channels that are present.

    Returns:
        The scale (B, C), the channel mask included.
    """
    for mask in channel_mask:
        z = z * mask
    hidden = activation(F.linear(z, w1, b1))
    before, start = b2, 0
    scale = weights[0]
    for index, width in enumerate(widths):
        before = torch.addmm(before, hidden[:, start:width], w2[:, start:width].t())
        scale = torch.addcmul(scale, gate(before), weights[index + 1])
        start = width
    for mask in channel_mask:
        scale = scale * mask
    return scale
