"""The gate of one place of attention under all its options that scale channels alone, as one operation with a gradient.

What it computes with are vectors, so that it costs what calling its operations costs, and autograd would call as many
again and more. So its backward is written by hand: here for what kinds share (squeezes, functions, weights, and "no
attention" as the gate 1), and in each kind's `GatePart` for how it makes excitations of what is squeezed.

Gates are maps where nothing is squeezed: there each ratio costs its excitation and its gate at every position, and five
of them on a basic block of 64 channels make its mixture cost about 1.5 times its largest. That is arithmetic: adding
the options up one after another takes as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial, reduce
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from se_nas.layers.activations import ACTIVATION_GRADIENTS, activation_function
from se_nas.layers.gate import HandWrittenGate, gradients_by_autograd
from se_nas.supernet.averaged_gates import Averages, averaged_gates, gradients_of_averaged_gates

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


class GatePart:
    """How the gates of one kind's options depend on its tensors.

    Attributes:
        count: how many tensors there are.
    """

    count: int

    def excitations(self, activation: Activation, z: Tensor, *tensors: Tensor) -> tuple[Tensor, Any]:
        """What the gates are taken of (options, rows, C), of channels z (rows, C), and what `gradients` needs of it."""
        raise NotImplementedError

    def gradients(
        self, activation: Activation, z: Tensor, tensors: Sequence[Tensor], kept: Any, grad: Tensor
    ) -> tuple[Tensor, ...]:
        """That of z, and those of the tensors, of the gradient of the excitations."""
        raise NotImplementedError


class Activation:
    """An activation, or the average of several under weights."""

    def __init__(self, names: Sequence[str], weights: Tensor | None) -> None:
        self._names, self._weights = names, weights
        #: The gradient of the weights, where there are any.
        self.of_weights = None if weights is None else torch.zeros_like(weights)

    def __call__(self, x: Tensor) -> Tensor:
        """Of any shape to the same."""
        return activation_function(self._names[0])(x) if self._weights is None else self._average(x, self._weights)

    def gradient(self, x: Tensor, grad: Tensor) -> Tensor:
        """That of x, of that of what x gives; takes note of that of the weights."""
        if self._weights is None:
            return ACTIVATION_GRADIENTS[self._names[0]](grad, x)
        of_x, self.of_weights = gradients_by_autograd(self._average, [x, self._weights], grad)
        return of_x

    def _average(self, x: Tensor, weights: Tensor) -> Tensor:
        every = torch.stack([activation_function(name)(x) for name in self._names])
        averaged: Tensor = torch.tensordot(weights, every, 1)
        return averaged


class GateTensors(NamedTuple):
    """The tensors of a mixed gate: weights of options, a mask (C,), and what the gates of each kind depend on."""

    none: Tensor | None
    mask: Tensor | None
    squeezes: Tensor | None
    activations: Tensor | None
    gates: Tensor | None
    weights: Tensor
    parts: list[tuple[Tensor, ...]]


class _Kept(NamedTuple):
    """What the gradients need: what is squeezed, without and with the mask, what parts keep, and the unmasked scale."""

    squeezed: Tensor
    seen: Tensor
    counts: list[int]
    of_parts: Sequence[Any]
    gates: Averages
    scale: Tensor


@dataclass(frozen=True)
class MixedGate(HandWrittenGate):
    """The weighted sum of the gates of every option that scales channels alone.

    It is of squeezed channels z (..., C), see `UnitFunctions.squeeze`, and of the tensors that `GateTensors` names, as
    far as there are any, in that order. The scale is of the widest dtype that is given, also under autocast: vectors
    are cheap.

    Attributes:
        none: whether there is "no attention", whose gate is 1.
        mask: whether there is a mask of the channels that are present.
        functions: what of them has several names has its weights.
        parts: the kinds whose tensors come last.
    """

    none: bool
    mask: bool
    functions: UnitFunctions
    parts: tuple[GatePart, ...]

    def forward(self, z: Tensor, *parameters: Tensor) -> tuple[Tensor, _Kept]:
        """See `HandWrittenGate`."""
        names = self.functions
        with _no_autocast(z):
            z, given = self._read(z, parameters)
            mask, activation = given.mask, Activation(names.activations, given.activations)
            squeezed = z if given.squeezes is None else _averaged_squeeze(names.squeezes, z, given.squeezes)
            squeezed = squeezed.reshape(-1, z.shape[-1])
            seen = squeezed if mask is None else squeezed * mask
            both = zip(self.parts, given.parts, strict=True)
            excitations, of_parts = zip(*(part.excitations(activation, seen, *own) for part, own in both), strict=True)
            joined = excitations[0] if len(excitations) == 1 else torch.cat(excitations)
            scale, gates = averaged_gates(names.gates, given.gates, given.weights, joined)
            scale = scale if given.none is None else scale + given.none
            kept = _Kept(squeezed, seen, [each.shape[0] for each in excitations], of_parts, gates, scale)
            scale = scale if mask is None else scale * mask
            return scale.view(z.shape[1:] if names.squeeze == "mean_and_max" else z.shape), kept

    def gradients(self, z: Tensor, parameters: Sequence[Tensor], kept: _Kept, grad: Tensor) -> list[Tensor]:
        """See `HandWrittenGate`."""
        names = self.functions
        with _no_autocast(z):
            z, given = self._read(z, parameters)
            mask, activation = given.mask, Activation(names.activations, given.activations)
            grad = grad.reshape(-1, z.shape[-1])
            of_mask = None if mask is None else (grad * kept.scale).sum(0)
            grad = grad if mask is None else grad * mask
            of_none = None if given.none is None else grad.sum()
            of_gates, of_weights, excited = gradients_of_averaged_gates(names.gates, given.weights, kept.gates, grad)
            of_seen, of_tensors, of_squeezes = [], [], None
            each = torch.split(excited, kept.counts)
            for part, own, of_part, of_own in zip(self.parts, given.parts, kept.of_parts, each, strict=True):
                of_z, *others = part.gradients(activation, kept.seen, own, of_part, of_own)
                of_seen.append(of_z)
                of_tensors += others
            of_z = sum(of_seen[1:], of_seen[0])
            if mask is not None and of_mask is not None:
                of_mask, of_z = of_mask + (of_z * kept.squeezed).sum(0), of_z * mask
            if given.squeezes is not None:
                of_z, of_squeezes = _gradients_of_squeeze(names.squeezes, z, given.squeezes, of_z)
            found = (of_z.view(z.shape), of_none, of_mask, of_squeezes, activation.of_weights, of_gates, of_weights)
            return [t for t in (*found, *of_tensors) if t is not None]

    def _read(self, z: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, GateTensors]:
        """All of the widest dtype."""
        dtypes = {z.dtype, *(t.dtype for t in tensors)}
        if len(dtypes) > 1:
            dtype = reduce(torch.promote_types, dtypes)
            z, *tensors = (t.to(dtype) for t in (z, *tensors))
        left = iter(tensors)
        several = (len(names) > 1 for names in self.functions)
        own = [next(left) if there else None for there in (self.none, self.mask, *several)]
        weights, parts = next(left), [tuple(islice(left, part.count)) for part in self.parts]
        return z, GateTensors(*own, weights, parts)  # type: ignore[arg-type, call-arg]  # the five that may be None


def _averaged_squeeze(names: Sequence[str], z: Tensor, weights: Tensor) -> Tensor:
    """Of means and maxima (2, ..., C), or of a whole map (B, H, W, C), to what the kinds look at (..., C)."""
    if "none" not in names:
        return torch.mv(z.flatten(1).t(), _of_rows(names, weights)).view(z.shape[1:])
    seen = {"none": z, "mean": z.mean((1, 2), keepdim=True), "max": z.amax((1, 2), keepdim=True)}
    first, *others = (seen[name] * share for name, share in zip(names, weights.unbind(), strict=True))
    return sum(others, first)


def _gradients_of_squeeze(names: Sequence[str], z: Tensor, weights: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """Those of z and of the weights, of that of the average in rows (..., C)."""
    if "none" in names:
        return gradients_by_autograd(partial(_averaged_squeeze, names), [z, weights], grad.view(z.shape))
    flat = grad.flatten()
    return torch.outer(_of_rows(names, weights), flat), _of_rows(names, torch.mv(z.flatten(1), flat))


def _of_rows(names: Sequence[str], weights: Tensor) -> Tensor:
    """Of names' weights those of means and maxima, and the other way round."""
    return weights if names[0] == "mean" else weights.flip(0)


def _no_autocast(like: Tensor) -> AbstractContextManager[Any]:
    device = like.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
