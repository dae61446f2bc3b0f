"""Mixtures that cost about one of their parts: kernels, channel prefixes and SE gates under choice probabilities.

A convolution is linear in its weight, so a mixture of centred crops of one kernel is one convolution whose weight is
masked ring by ring. Nothing between the expansion and the projection mixes channels but SE, so a mixture of expansion
ratios is a soft prefix mask on channels. And sum_k w_k (x * s_k) = x * (sum_k w_k s_k), so a mixture of SE ratios is
one SE whose gate is mixed, with "no SE" as the gate 1. What squeezes, activations and gate functions give is averaged
inside the one SE, on vectors. At one-hot probabilities each is exactly the sliced part.

Gates are vectors, but maps where nothing is squeezed: there each ratio costs its excitation and its gate at every
position, and five of them on a basic block of 64 channels make its mixture cost about 1.5 times its largest. That is
arithmetic: adding the options up one after another takes as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from se_nas.layers.activations import GATES, activation_function
from se_nas.layers.averaged_gates import averaged_gates


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
        excitations: what the gates are taken of: of an activation, the squeezed channels z (..., C) and its tensors to
            (options, ..., C).
    """

    tensors: type[tuple[Tensor, ...]]
    excitations: Callable[..., Tensor]


#: The parts of SE that units compute with, in the order of `UnitFunctions`.
FUNCTIONS = ("squeeze", "activation", "gate")


class UnitFunctions(NamedTuple):
    """The names of what SE's units at one place choose among beside kind and ratio."""

    squeezes: tuple[str, ...]
    activations: tuple[str, ...]
    gates: tuple[str, ...]

    @property
    def squeeze(self) -> str:
        """The name in SQUEEZES of what holds all that the squeezes say."""
        if len(self.squeezes) == 1:
            return self.squeezes[0]
        return "none" if "none" in self.squeezes else "mean_and_max"

    def of(self, left: Iterator[Tensor]) -> Functions:
        """The functions, or averages of several under weights, which are the next of the tensors."""
        squeeze = partial(_averaged_squeeze, self.squeezes, next(left)) if len(self.squeezes) > 1 else _as_it_is
        return Functions(
            squeeze,
            _averaged([activation_function(name) for name in self.activations], left),
            _weighted_gates(self.gates, left),
        )


class Functions(NamedTuple):
    """What a unit computes with.

    Attributes:
        squeeze: makes of what `UnitFunctions.squeeze` names what the maps look at.
        gates: of weights (options,) and excitations (options, ...) the sum of the gates times their weights.
    """

    squeeze: Callable[[Tensor], Tensor]
    activation: Callable[[Tensor], Tensor]
    gates: Callable[[Tensor, Tensor], Tensor]

    def gate(self, x: Tensor) -> Tensor:
        """The gates of one excitation."""
        return self.gates(x.new_ones(1), x[None])


class WeightedFunctions(NamedTuple):
    """Functions with the probabilities of those of which there are several, (number of names,) each, in their order."""

    names: UnitFunctions
    weights: tuple[Tensor, ...] = ()

    @property
    def of_maps(self) -> WeightedFunctions:
        """For a unit that has a squeeze of its own."""
        several = len(self.names.squeezes) > 1
        return WeightedFunctions(self.names._replace(squeezes=("mean",)), self.weights[several:])


def _as_it_is(z: Tensor) -> Tensor:
    return z


def _averaged(functions: Sequence[Callable[[Tensor], Tensor]], left: Iterator[Tensor]) -> Callable[[Tensor], Tensor]:
    return functions[0] if len(functions) == 1 else partial(_average, functions, next(left))


def _weighted_gates(names: Sequence[str], left: Iterator[Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    if len(names) > 1:
        shares = next(left)
        return lambda weights, x: averaged_gates(names, shares.to(x.dtype), weights.to(x.dtype), x)
    (name,) = names
    return lambda weights, x: weighted(weights, GATES[name](x))


def _average(functions: Sequence[Callable[[Tensor], Tensor]], weights: Tensor, x: Tensor) -> Tensor:
    return weighted(weights, torch.stack([function(x) for function in functions]))


def _averaged_squeeze(names: Sequence[str], weights: Tensor, z: Tensor) -> Tensor:
    """Of means and maxima (2, ..., C), or of a whole map (B, H, W, C), to what the maps look at (..., C)."""
    if "none" not in names:
        return weighted(weights if names[0] == "mean" else weights.flip(0), z)
    seen = {"none": z, "mean": z.mean((1, 2), keepdim=True), "max": z.amax((1, 2), keepdim=True)}
    shares = weights.to(z.dtype).unbind()
    return sum((seen[name] * share for name, share in zip(names, shares, strict=True)), torch.zeros(()).to(z))


class GateLayout(NamedTuple):
    """What the tensors of a mixed gate are, in this order.

    Attributes:
        none: whether the first is the weight of "no attention", whose gate is 1.
        mask: whether the next is a mask (C,) of the channels that are present.
        parts: the kinds whose tensors come last, behind the weights of all their options in a row.
        functions: what of them has several names has its weights before all that.
    """

    none: bool
    mask: bool
    parts: tuple[GatePart, ...]
    functions: UnitFunctions


def mixed_gate(layout: GateLayout, z: Tensor, *tensors: Tensor) -> Tensor:
    """The weighted sum of the gates of every option that scales channels alone.

    Args:
        tensors: what `layout` says, each kind's in a row.
        z: squeezed channels (..., C); see `UnitFunctions.squeeze`.

    Returns:
        The scale (..., C), the channel mask included.
    """
    left = iter(tensors)
    none = next(left) if layout.none else None
    mask = next(left) if layout.mask else None
    squeeze, activation, gates = layout.functions.of(left)
    z = squeeze(z) if mask is None else squeeze(z) * mask
    scale = torch.zeros_like(z)
    if layout.parts:
        weights, excitations = next(left), []
        for part in layout.parts:
            given = part.tensors(*islice(left, len(part.tensors._fields)))  # type: ignore[attr-defined]  # a NamedTuple
            excitations.append(part.excitations(activation, z, given))
        joined = excitations[0] if len(excitations) == 1 else torch.cat(excitations)
        scale = gates(weights, joined)
    scale = scale if none is None else scale + none.to(scale.dtype)
    return scale if mask is None else scale * mask


def weighted(weights: Tensor, gates: Tensor) -> Tensor:
    """(options,) and (options, ..., C) to (..., C)."""
    total: Tensor = torch.tensordot(weights.to(gates.dtype), gates, 1)  # under autocast gates are of half precision
    return total


def expected(masks: Tensor, expansions: Tensor) -> Tensor:
    """(options, expansions, H) masks to (options, H), soft where the expansion is."""
    if masks.shape[1] == 1:
        return masks[:, 0]
    return torch.einsum("geh,e->gh", masks, expansions)


class TwoLinears(NamedTuple):
    """Two linear maps whose hidden units several options share: each has a prefix of them.

    Attributes:
        hidden: (options, H) masks on the hidden units.
        w1, b1, w2, b2: (H, C), (H,), (C, H), (C,).
    """

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
