"""Mixtures that cost about one of their parts: kernels, channel prefixes and SE gates under choice probabilities.

A convolution is linear in its weight, so a mixture of centred crops of one kernel is one convolution whose weight is
masked ring by ring. Nothing between the expansion and the projection mixes channels but SE, so a mixture of expansion
ratios is a soft prefix mask on channels. And sum_k w_k (x * s_k) = x * (sum_k w_k s_k), so a mixture of SE ratios is
one SE whose gate is mixed, with "no SE" as the gate 1. At one-hot probabilities each is exactly the sliced part.

Gates are vectors, but maps where nothing is squeezed: there each ratio costs its excitation and its gate at every
position, and five of them on a basic block of 64 channels make its mixture cost about 1.5 times its largest. That is
arithmetic: adding the options up one after another takes as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
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


class GatePart(NamedTuple):
    """What one kind of attention adds to a mixed gate.

    Attributes:
        tensors: the NamedTuple of what its gates depend on.
        gates: of an activation, a gate, the squeezed channels z (..., C) and its tensors the sum of its options' gates,
            each times its weight, (..., C).
    """

    tensors: type[tuple[Tensor, ...]]
    gates: Callable[..., Tensor]


class GateLayout(NamedTuple):
    """What the tensors of a mixed gate are, in this order.

    Attributes:
        none: whether the first is the weight of "no attention", whose gate is 1.
        mask: whether the next is a mask (C,) of the channels that are present.
        parts: the kinds whose tensors follow.
    """

    none: bool
    mask: bool
    parts: tuple[GatePart, ...]


def mixed_gate(
    layout: GateLayout,
    activation: Callable[[Tensor], Tensor],
    gate: Callable[[Tensor], Tensor],
    z: Tensor,
    *tensors: Tensor,
) -> Tensor:
    """The weighted sum of the gates of every option that scales channels alone.

    Args:
        tensors: what `layout` says, each kind's in a row.
        z: squeezed channels (..., C).

    Returns:
        The scale (..., C), the channel mask included.
    """
    left = iter(tensors)
    none = next(left) if layout.none else None
    mask = next(left) if layout.mask else None
    z = z if mask is None else z * mask
    scale = torch.zeros_like(z) if none is None else torch.zeros_like(z) + none
    for part in layout.parts:
        given = part.tensors(*islice(left, len(part.tensors._fields)))  # type: ignore[attr-defined]  # a NamedTuple
        scale = scale + part.gates(activation, gate, z, given)
    return scale if mask is None else scale * mask


def weighted(weights: Tensor, gates: Tensor) -> Tensor:
    """(options,) and (options, ..., C) to (..., C)."""
    total: Tensor = torch.tensordot(weights.to(gates.dtype), gates, 1)  # under autocast gates are of half precision
    return total


def expected(masks: Tensor, expansions: Tensor) -> Tensor:
    """(options, expansions, H) masks to (options, H), soft where the expansion is."""
    return torch.einsum("geh,e->gh", masks, expansions)


class TwoLinears(NamedTuple):
    """Two linear maps whose hidden units several options share: each has a prefix of them.

    Attributes:
        weights: (options,) probabilities.
        hidden: (options, H) masks on the hidden units.
        w1, b1, w2, b2: (H, C), (H,), (C, H), (C,).
    """

    weights: Tensor
    hidden: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def excitations(self, activation: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        """What the gate is taken of: z (..., C) to (options, ..., C)."""
        hidden = activation(F.linear(z, self.w1, self.b1))
        masks = self.hidden.view(len(self.hidden), *[1] * (z.dim() - 1), -1)
        return F.linear(hidden * masks, self.w2, self.b2)
