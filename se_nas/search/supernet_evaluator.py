"""Judge architectures by the weights that they inherit from one trained supernet (SPOS, arXiv 1904.00420)."""

from __future__ import annotations

from se_nas.data.batches import DeviceImages
from se_nas.search.inheritance import inherited_accuracy
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import Architecture
from se_nas.supernet.supernet import SuperNet


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
        self._images = DeviceImages(problem.info, problem.train, problem.device)

    def __call__(self, architecture: Architecture) -> float:
        """Accuracy, from 0 to 1, on the `validation` part; ArchitectureError when it is of another space."""
        return inherited_accuracy(self._supernet, architecture, self._images, self._problem, self._calibration_images)
