"""The gate of one place of attention under all its options that scale channels alone, as one operation with a gradient.

What it computes with are vectors, so that it costs what calling its operations costs, and autograd would call as many
again and more. So its backward is written by hand: here for what kinds share (squeezes, functions, weights, and "no
attention" as the gate 1), and in each kind's `GatePart` for how it makes excitations of what is squeezed.

Gates are maps where nothing is squeezed: there each ratio costs its excitation and its gate at every position, and five
of them on a basic block of 64 channels make its mixture cost about 1.5 times its largest. That is arithmetic: adding
the options up one after another takes as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial, reduce
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from se_nas.layers.activations import ACTIVATION_GRADIENTS, GATES, activation_function
from se_nas.layers.gate import HandWrittenGate, gradients_by_autograd

#: The parts of SE that units compute with, in the order of `UnitFunctions`.
FUNCTIONS = ("squeeze", "activation", "gate")

_VALUES = GATES | {"tanh": lambda x: 2 * torch.sigmoid(2 * x) - 1}  # a quarter of the time of torch's, on a CPU
_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda y: torch.addcmul(y, y, y, value=-1),
    "hard_sigmoid": lambda y: torch.addcmul(y, y, y, value=-1).sign_().div_(6),  # a sixth where y is within 0 and 1
    "tanh": lambda y: 1 - y * y,
    "relu": torch.sign,
}
"""Gate name to its derivative where its value is y."""


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
        """What the gates are taken of (options, ..., C), of squeezed channels z, and what `gradients` needs of it."""
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


class Given(NamedTuple):
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
    gates: _Gates
    scale: Tensor


@dataclass(frozen=True)
class MixedGate(HandWrittenGate):
    """The weighted sum of the gates of every option that scales channels alone.

    It is of squeezed channels z (..., C), see `UnitFunctions.squeeze`, and of the tensors that `Given` names, as far as
    there are any, in that order. The scale is of the widest dtype that is given, also under autocast: vectors are
    cheap.

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
            mask, activation = given.mask, _activation(names, given)
            squeezed = z if given.squeezes is None else _averaged_squeeze(names.squeezes, z, given.squeezes)
            seen = squeezed if mask is None else squeezed * mask
            pairs = [
                part.excitations(activation, seen, *own) for part, own in zip(self.parts, given.parts, strict=True)
            ]
            excitations, of_parts = zip(*pairs, strict=True)
            joined = excitations[0] if len(excitations) == 1 else torch.cat(excitations)
            scale, gates = _averaged_gates(names.gates, given.gates, given.weights, joined)
            scale = scale if given.none is None else scale + given.none
            kept = _Kept(squeezed, seen, [len(each) for each in excitations], of_parts, gates, scale)
            return scale if mask is None else scale * mask, kept

    def gradients(self, z: Tensor, parameters: Sequence[Tensor], kept: _Kept, grad: Tensor) -> list[Tensor]:
        """See `HandWrittenGate`."""
        names = self.functions
        with _no_autocast(z):
            z, given = self._read(z, parameters)
            mask, activation = given.mask, _activation(names, given)
            of_mask = None if mask is None else _sum_of_rows(grad * kept.scale)
            grad = grad if mask is None else grad * mask
            of_none = None if given.none is None else grad.sum()
            of_gates, of_weights, excited = _gates_gradients(names.gates, kept.gates, given.gates, given.weights, grad)
            of_seen, of_tensors, of_squeezes = [], [], None
            each = torch.split(excited, kept.counts)
            for part, own, of_part, of_own in zip(self.parts, given.parts, kept.of_parts, each, strict=True):
                of_z, *others = part.gradients(activation, kept.seen, own, of_part, of_own)
                of_seen.append(of_z)
                of_tensors += others
            of_z = sum(of_seen[1:], of_seen[0])
            if mask is not None and of_mask is not None:
                of_mask, of_z = of_mask + _sum_of_rows(of_z * kept.squeezed), of_z * mask
            if given.squeezes is not None:
                of_z, of_squeezes = _squeeze_gradients(names.squeezes, z, given.squeezes, of_z)
            found = (of_z, of_none, of_mask, of_squeezes, activation.of_weights, of_gates, of_weights, *of_tensors)
            return [t for t in found if t is not None]

    def _read(self, z: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, Given]:
        """All of the widest dtype."""
        if any(t.dtype != z.dtype for t in tensors):
            dtype = reduce(torch.promote_types, (t.dtype for t in tensors), z.dtype)
            z, *tensors = (t.to(dtype) for t in (z, *tensors))
        left = iter(tensors)
        several = (len(names) > 1 for names in self.functions)
        own = [next(left) if there else None for there in (self.none, self.mask, *several)]
        weights, parts = next(left), [tuple(islice(left, part.count)) for part in self.parts]
        return z, Given(*own, weights, parts)  # type: ignore[arg-type, call-arg]  # the five that may be None


def _activation(names: UnitFunctions, given: Given) -> Activation:
    return Activation(names.activations, given.activations)


def _averaged_squeeze(names: Sequence[str], z: Tensor, weights: Tensor) -> Tensor:
    """Of means and maxima (2, ..., C), or of a whole map (B, H, W, C), to what the kinds look at (..., C)."""
    if "none" not in names:
        return torch.mv(z.flatten(1).t(), _of_rows(names, weights)).view(z.shape[1:])
    seen = {"none": z, "mean": z.mean((1, 2), keepdim=True), "max": z.amax((1, 2), keepdim=True)}
    first, *others = (seen[name] * share for name, share in zip(names, weights.unbind(), strict=True))
    return sum(others, first)


def _squeeze_gradients(names: Sequence[str], z: Tensor, weights: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    if "none" in names:
        return gradients_by_autograd(partial(_averaged_squeeze, names), [z, weights], grad)
    of_z = torch.outer(_of_rows(names, weights), grad.flatten()).view(z.shape)
    return of_z, _of_rows(names, torch.mv(z.flatten(1), grad.flatten()))


def _of_rows(names: Sequence[str], weights: Tensor) -> Tensor:
    """Of names' weights those of means and maxima, and the other way round."""
    return weights if names[0] == "mean" else weights.flip(0)


class _Gates(NamedTuple):
    """The values at every excitation (options, numbers): of the one function, or averaged as the slopes and those
    averaged over the options (functions, numbers) are."""

    values: Tensor
    slopes: Tensor | None
    of_functions: Tensor | None


def _averaged_gates(
    names: Sequence[str], shares: Tensor | None, weights: Tensor, excitations: Tensor
) -> tuple[Tensor, _Gates]:
    """The sum over functions f and excitations x_n of share_f * weight_n * f(x_n), and what its gradients need.

    Of several functions two averages are kept, of their values and of their slopes: every function of every excitation
    would take as much memory as the feature maps that they scale, where those are small.
    """
    shape, x = excitations.shape, excitations.flatten(1)
    if shares is None:
        values = GATES[names[0]](x)
        return torch.mv(values.t(), weights).view(shape[1:]), _Gates(values, None, None)
    every = [_VALUES[name](x) for name in names]
    slopes = torch.stack([_SLOPES[name](value) for name, value in zip(names, every, strict=True)])
    values = torch.stack(every)
    of_functions = torch.bmm(weights.expand(len(names), 1, -1), values)[:, 0]
    values, slopes = (torch.mv(of_all.flatten(1).t(), shares).view(x.shape) for of_all in (values, slopes))
    return torch.mv(of_functions.t(), shares).view(shape[1:]), _Gates(values, slopes, of_functions)


def _gates_gradients(
    names: Sequence[str], kept: _Gates, shares: Tensor | None, weights: Tensor, grad: Tensor
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Those of shares, where there are any, of weights and of excitations."""
    flat = grad.reshape(-1)
    of_shares = None if kept.of_functions is None else torch.mv(kept.of_functions, flat)
    slopes = _SLOPES[names[0]](kept.values) if kept.slopes is None else kept.slopes
    excited = torch.outer(weights, flat).mul_(slopes)
    return of_shares, torch.mv(kept.values, flat), excited.view(len(weights), *grad.shape)


def _sum_of_rows(x: Tensor) -> Tensor:
    """(..., C) to (C,)."""
    return x.flatten(0, -2).sum(0)


def _no_autocast(like: Tensor) -> AbstractContextManager[Any]:
    device = like.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
