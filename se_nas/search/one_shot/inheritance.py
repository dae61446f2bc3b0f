"""Weights that an architecture inherits from a supernet, with batch norms of its own, and how accurate it is with them.

The shared running statistics of a supernet are those of no subnet: BigNAS, arXiv 2003.11142, section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from se_nas.data.in_memory.batches import epoch_order
from se_nas.data.search_images import SearchImages
from se_nas.hardware.distributed import Ranks
from se_nas.layers.network import Network
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import Architecture
from se_nas.supernet.calibration import recalibrate
from se_nas.supernet.supernet import SuperNet
from se_nas.training.evaluate import accuracy


def inherit(
    supernet: SuperNet,
    architecture: Architecture,
    images: SearchImages,
    problem: SearchProblem,
    calibration_images: int,
) -> Network:
    """The plain network of an architecture with a copy of the supernet's weights; the supernet stays as it is.

    Args:
        images: the problem's training images.
        calibration_images: how many of the `weights` part the batch norms are averaged over; the problem's seed says
            which, so that they are the same for every architecture. 0 leaves the supernet's running statistics.

    Raises:
        ArchitectureError: the architecture is of another space.
    """
    network: Network = supernet.export(architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if calibration_images == 0:
        return network
    recalibrate(network, calibration_batches(images.at(network.spec.resolution), problem, calibration_images))
    return network


def calibration_batches(images: SearchImages, problem: SearchProblem, calibration_images: int) -> Iterator[Tensor]:
    """The images (B, C, H, W) that batch norms are averaged over, at least 1; see `inherit`."""
    order = epoch_order(len(problem.parts["weights"]), problem.seed, 0)
    chosen = problem.parts["weights"][order[:calibration_images]]
    size = min(256, len(chosen))
    whole = chosen[: len(chosen) // size * size]  # a last, smaller batch would weigh as much as the others
    return (x for x, _ in images.evaluate_batches(whole, size))


def inherited_accuracy(
    supernet: SuperNet,
    architecture: Architecture,
    images: SearchImages,
    problem: SearchProblem,
    calibration_images: int,
    ranks: Ranks | None = None,
) -> float:
    """Accuracy, from 0 to 1, on the `validation` part with inherited weights; see `inherit`.

    Several ranks share out the part; each recalibrates its copy of the network itself.
    """
    network = inherit(supernet, architecture, images, problem, calibration_images)
    return accuracy(network, images.at(network.spec.resolution), problem.parts["validation"], ranks=ranks)


class SupernetEvaluator:
    """Validation accuracy with inherited weights, as a function of the architecture alone.

    Args:
        problem: its images are put on the device once, for every evaluation.
        supernet: on the problem's device; evaluations leave it as it is.
        calibration_images: see `inherit`.
    """

    def __init__(self, problem: SearchProblem, supernet: SuperNet, calibration_images: int) -> None:
        self._problem, self._supernet = problem, supernet
        self._calibration_images = calibration_images
        self._images = problem.images()

    def __call__(self, architecture: Architecture) -> float:
        """Accuracy, from 0 to 1, on the `validation` part; ArchitectureError when it is of another space."""
        return inherited_accuracy(self._supernet, architecture, self._images, self._problem, self._calibration_images)
