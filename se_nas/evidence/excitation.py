"""What SE learned: the gates of every SE unit of a trained network over images, and what the unit's gates are worth.

The study of the role of excitation in https://arxiv.org/abs/1709.01507 (section 7.2), with a test beside it: how much
accuracy is lost when one unit no longer looks at the image, its gates fixed at their mean or left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from se_nas.evidence.gates import (
    Batches,
    FixedScale,
    GateStatistics,
    Unit,
    check_some,
    collect_gates,
    replaced,
    units_of,
)
from se_nas.evidence.intervals import paired_interval
from se_nas.layers.network import Network
from se_nas.records.models.excitation import LossEntry, Verdict

NEGLIGIBLE = 0.005
"""A loss of accuracy that may be said not to matter: half a percentage point."""


@dataclass(frozen=True)
class Loss:
    """Accuracy lost by a change of the network, on the same images before and after.

    Attributes:
        worse: images that only the network as it was classifies correctly.
        better: images that only the changed network does.
    """

    worse: int
    better: int
    images: int

    @property
    def share(self) -> float:
        """What is lost, of 1; below 0 where accuracy is gained."""
        return (self.worse - self.better) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval."""
        return paired_interval(self.worse, self.better, self.images)

    @property
    def verdict(self) -> Verdict:
        """Whether there is a loss: "works" where 0 is below the interval; else "idle", or "unclear" where the interval
        still has losses above NEGLIGIBLE."""
        low, high = self.interval
        if low > 0:
            return "works"
        return "idle" if high <= NEGLIGIBLE else "unclear"

    @property
    def entry(self) -> LossEntry:
        """As it stands in a file."""
        return LossEntry(accuracy_lost=self.share, ci95=self.interval, worse=self.worse, better=self.better)


@dataclass(frozen=True)
class UnitStudy:
    """What is known of one unit.

    Attributes:
        fixed: what is lost with its gates fixed at their mean over the images, channel by channel.
        removed: what is lost without it, that is with gates of 1.
    """

    unit: Unit
    gates: GateStatistics
    fixed: Loss
    removed: Loss

    @property
    def closed(self) -> float | None:
        """Share of gates below 1 / BINS; None where 0 is not the gates' end."""
        return self.gates.closed if self.unit.may_saturate else None

    @property
    def opened(self) -> float | None:
        """Share of gates above 1 - 1 / BINS; None where 1 is not the gates' end."""
        return self.gates.opened if self.unit.may_saturate else None


@dataclass(frozen=True)
class Excitation:
    """What is known of all SE units of a network.

    Attributes:
        classes: names.
        parameters: of the whole network.
        accuracy: of the network as it is, on these images.
        units: in order of depth.
        together: what is lost with the gates of all idle units fixed at once; None where fewer than two are.
    """

    classes: tuple[str, ...]
    parameters: int
    accuracy: float
    units: tuple[UnitStudy, ...]
    together: Loss | None

    @property
    def images(self) -> int:
        """How many were looked at."""
        return self.units[0].gates.images

    @property
    def idle(self) -> list[UnitStudy]:
        """The units that do as well with fixed gates."""
        return [study for study in self.units if study.fixed.verdict == "idle"]


def study_excitation(network: Network, batches: Batches, classes: Sequence[str]) -> Excitation:
    """Look at the gates of every unit, and fix the gates of one after another.

    Args:
        network: put into evaluation mode for it; on return it is as it was.
        batches: the images; called once for the gates and once or twice for the losses.
        classes: names, in the order of the network's outputs.

    Raises:
        ArchitectureError: the network has no SE.
        DataError: there are no images.
    """
    units = units_of(network)
    mode = network.training
    network.eval()
    gates = collect_gates(network, units, batches("collecting gates"), len(classes))
    fixed: list[Mapping[int, nn.Module]] = [
        {unit.index: FixedScale(found.mean)} for unit, found in zip(units, gates, strict=True)
    ]
    removed: list[Mapping[int, nn.Module]] = [{unit.index: nn.Identity()} for unit in units]
    accuracy, losses = losses_with(network, [*fixed, *removed], batches("switching off one SE at a time"))
    studies = tuple(
        UnitStudy(unit, found, losses[place], losses[place + len(units)])
        for place, (unit, found) in enumerate(zip(units, gates, strict=True))
    )
    parameters = sum(p.numel() for p in network.parameters())
    excitation = Excitation(tuple(classes), parameters, accuracy, studies, None)
    if len(excitation.idle) > 1:
        every = {study.unit.index: FixedScale(study.gates.mean) for study in excitation.idle}
        _, (together,) = losses_with(network, [every], batches("switching off the idle ones together"))
        excitation = replace(excitation, together=together)
    network.train(mode)
    return excitation


@torch.inference_mode()
def losses_with(
    network: Network, changes: Sequence[Mapping[int, nn.Module]], batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[float, list[Loss]]:
    """Accuracy of a network in evaluation mode, and what is lost with each of the changes.

    Whatever comes before the first changed block is computed once for all changes.

    Args:
        changes: each the modules that stand in for the SE units of blocks, by the block's index; none is empty.

    Raises:
        DataError: there are no images.
    """
    worse, better = np.zeros(len(changes), dtype=np.int64), np.zeros(len(changes), dtype=np.int64)
    images = correct = 0
    starts = [min(change) for change in changes]
    for x, labels in batches:
        inputs: dict[int, Tensor] = {}
        x = network.stem(x)
        for index, block in enumerate(network.blocks):
            if index in starts:
                inputs[index] = x
            x = block(x)
        right = network.head(x).argmax(1) == labels
        images, correct = images + len(labels), correct + int(right.sum())
        for place, (start, change) in enumerate(zip(starts, changes, strict=True)):
            with replaced(network, change):
                y = inputs[start]
                for block in network.blocks[start:]:
                    y = block(y)
            right_now = network.head(y).argmax(1) == labels
            worse[place] += int((right & ~right_now).sum())
            better[place] += int((right_now & ~right).sum())
    check_some(images)
    return correct / images, [Loss(int(w), int(b), images) for w, b in zip(worse, better, strict=True)]
