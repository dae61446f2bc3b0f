"""The gates of every SE unit of a trained network over images, and their statistics by channel, class and bin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from se_nas.errors import ArchitectureError, DataError
from se_nas.layers.network import Network
from se_nas.space.attention import ATTENTION
from se_nas.space.specs import BlockSpec, SESpec

Values = NDArray[np.float64]
Batches = Callable[[str], Iterable[tuple[Tensor, Tensor]]]
"""Every image once, always the same ones, as (B, C, H, W) normalised and (B,) classes, on the network's device; it is
given the words for a progress bar."""


BINS = 20
"""Of the histogram of gates from 0 to 1; the first and the last bin are what counts as saturated."""


_CHUNK_VALUES = 2**20
"""Values of a feature map whose gates are looked at together: maps of gates are copied in double precision."""


_STILL = 1e-5  # a standard deviation of gates below it is rounding


@dataclass(frozen=True)
class Unit:
    """Where an SE unit is: that of block `index`, from 0."""

    index: int
    spec: BlockSpec
    parameters: int

    @property
    def number(self) -> int:
        """Of its block, from 1, as in drawings and tables."""
        return self.index + 1

    @property
    def name(self) -> str:
        """Of its module in the network."""
        return f"blocks.{self.index}.se"

    @property
    def attention(self) -> SESpec:
        """What it is."""
        assert self.spec.se is not None
        return self.spec.se

    @property
    def shares_gates(self) -> bool:
        """Whether all channels have one gate, that of the position."""
        return ATTENTION[self.attention.kind].one_gate_a_position

    @property
    def may_saturate(self) -> bool:
        """Whether its gates end at 0 and 1; those of relu and tanh do not."""
        return self.attention.gate in ("sigmoid", "hard_sigmoid")


@dataclass(frozen=True)
class GateStatistics:
    """The gates of one unit over the images; a gate that is a map counts with its mean over the positions.

    A gate that all channels share counts as the gate of each of the C channels.

    Attributes:
        counts: (K,) images of each class.
        class_sums, class_squares: (K, C) sums of the gates and of their squares over the images of each class.
        histogram: (BINS,) shares of all gates; those outside of 0 to 1 are in the first and the last.
        rms: (C,) root mean square of the channel behind the unit, over images and positions.
    """

    counts: Values
    class_sums: Values
    class_squares: Values
    histogram: Values
    rms: Values

    @property
    def images(self) -> int:
        """How many."""
        return int(self.counts.sum())

    @cached_property
    def mean(self) -> Values:
        """(C,) over the images."""
        mean: Values = self.class_sums.sum(0) / self.images
        return mean

    @cached_property
    def std(self) -> Values:
        """(C,) standard deviation over the images."""
        return deviation(self.class_squares.sum(0) / self.images, self.mean)

    @cached_property
    def class_mean(self) -> Values:
        """(K, C) over the images of each class; NaN for a class without images."""
        return self.class_sums / self._counts_or_nan

    @cached_property
    def class_std(self) -> Values:
        """(K, C) standard deviation over the images of each class; NaN for a class without images."""
        return deviation(self.class_squares / self._counts_or_nan, self.class_mean)

    @property
    def class_distance(self) -> Values:
        """(K,) root mean square over the channels of how far a class's mean gates are from those of all images."""
        distance: Values = np.sqrt(np.square(self.class_mean - self.mean).mean(1))
        return distance

    @property
    def class_share(self) -> float | None:
        """Share of the variance of the gates over the images, all channels together, that the classes explain.

        Corrected for what they would explain by chance (epsilon squared: mean squares in place of sums). None where
        the gates do not move, or each class has but one image.
        """
        classes = int((self.counts > 0).sum())
        total = float(self.images * np.square(self.std).sum())
        if self.images <= classes or total < self.images * len(self.mean) * _STILL**2:
            return None
        within = float(np.nansum(self.counts[:, None] * np.square(self.class_std)))
        share = 1 - (within / (self.images - classes)) / (total / (self.images - 1))
        return min(max(share, 0.0), 1.0)

    @property
    def closed(self) -> float:
        """Share of gates below 1 / BINS."""
        return float(self.histogram[0])

    @property
    def opened(self) -> float:
        """Share of gates above 1 - 1 / BINS."""
        return float(self.histogram[-1])

    @property
    def entropy(self) -> float:
        """Of the histogram, from 0 (all gates alike) to 1 (every value as often)."""
        shares = self.histogram[self.histogram > 0]
        return float(-(shares * np.log(shares)).sum() / math.log(BINS)) + 0.0

    @property
    def _counts_or_nan(self) -> Values:
        return np.where(self.counts > 0, self.counts, np.nan)[:, None]


def units_of(network: Network) -> list[Unit]:
    """The SE units of a network, in order of depth.

    Raises:
        ArchitectureError: it has none, or one that does not say its gates.
    """
    found = [
        Unit(index, spec, sum(p.numel() for p in _se(network, index).parameters()))
        for index, spec in enumerate(network.spec.blocks)
        if spec.se is not None
    ]
    if not found:
        raise ArchitectureError(
            f"a network whose excitation is studied must have SE, but none of its {len(network.blocks)} blocks has"
        )
    mute = [unit for unit in found if not hasattr(_se(network, unit.index), "gates")]
    if mute:
        raise ArchitectureError(
            f"attention whose excitation is studied must have a method `gates`, but {mute[0].attention.kind} of block "
            f"{mute[0].number} has none"
        )
    return found


def _se(network: Network, index: int) -> nn.Module:
    """The unit of a block that has one."""
    return cast(nn.Module, network.blocks[index].se)


@torch.inference_mode()
def collect_gates(
    network: Network, units: Sequence[Unit], batches: Iterable[tuple[Tensor, Tensor]], classes: int
) -> list[GateStatistics]:
    """The gates of every unit over the images, of a network in evaluation mode.

    Raises:
        DataError: there are no images.
    """
    totals = [_Totals(classes) for _ in units]
    labels = torch.empty(0)  # of the batch that runs

    def watch(total: _Totals) -> Callable[..., None]:
        def note(module: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            size = max(1, _CHUNK_VALUES // output[0].numel())
            parts = [torch.split(whole, size) for whole in (inputs[0], output, labels)]
            for given, scaled, of_part in zip(*parts, strict=True):
                energy = scaled.square().mean((2, 3))
                total.add(module.gates(given).cpu().double(), energy.cpu().double(), of_part)

        return note

    handles = [
        _se(network, unit.index).register_forward_hook(watch(total)) for unit, total in zip(units, totals, strict=True)
    ]
    try:
        for x, classes_of_x in batches:
            labels = classes_of_x.cpu()
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    return [total.statistics() for total in totals]


class FixedScale(nn.Module):
    """Scales each channel by a number of its own, whatever the image."""

    def __init__(self, scale: Values) -> None:
        super().__init__()
        self.scale = torch.from_numpy(scale).float()[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return x * self.scale.to(x.device)


@contextmanager
def replaced(network: Network, change: Mapping[int, nn.Module]) -> Iterator[None]:
    """The SE units of some blocks replaced meanwhile."""
    before = {index: _se(network, index) for index in change}
    try:
        for index, module in change.items():
            network.blocks[index].se = module
        yield
    finally:
        for index, unit in before.items():
            network.blocks[index].se = unit


class _Totals:
    """Running sums of one unit's gates, in double precision."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts = torch.zeros(classes, dtype=torch.float64)
        self.histogram = torch.zeros(BINS, dtype=torch.float64)
        self.sums, self.squares, self.energy = (torch.zeros(()) for _ in range(3))

    def add(self, gates: Tensor, energy: Tensor, labels: Tensor) -> None:
        """Gates (B, C), (B, H, W, C) or (B, H, W, 1), mean squares (B, C) of the channels behind, and classes (B,)."""
        each = (gates.mean((1, 2)) if gates.ndim == 4 else gates).expand_as(energy)
        members = torch.nn.functional.one_hot(labels, self.classes).double()
        self.counts += members.sum(0)
        self.sums = self.sums + members.T @ each
        self.squares = self.squares + members.T @ each.square()
        self.energy = self.energy + energy.sum(0)
        bins = (gates * BINS).floor().long().clamp(0, BINS - 1)
        self.histogram += torch.bincount(bins.flatten(), minlength=BINS)

    def statistics(self) -> GateStatistics:
        """DataError where nothing was added."""
        images = int(self.counts.sum())
        check_some(images)
        return GateStatistics(
            self.counts.numpy(),
            self.sums.numpy(),
            self.squares.numpy(),
            (self.histogram / self.histogram.sum()).numpy(),
            (self.energy / images).sqrt().numpy(),
        )


def check_some(images: int) -> None:
    """DataError where there are no images."""
    if images == 0:
        raise DataError("there must be at least one image to look at, but there is none")


def deviation(mean_square: Values, mean: Values) -> Values:
    """Standard deviations from means of squares and means, never of a negative number."""
    return np.sqrt(np.maximum(mean_square - np.square(mean), 0))
