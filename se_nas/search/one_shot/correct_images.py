"""Which validation images a network with inherited weights gets right, kept on disk so that a killed run goes on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from se_nas.data.in_memory.images import ImageSet
from se_nas.hardware.device import autocast_for
from se_nas.records.files import write_atomic
from se_nas.search.one_shot.inheritance import inherit
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import Architecture
from se_nas.supernet.supernet import SuperNet

#: Images that are judged at once.
BATCH = 500


class InheritedGuesses:
    """Correctness with the weights of one supernet, image by image, where `inherited_accuracy` has only its mean.

    One small file an architecture, named by all that the answer hangs on: picks, supernet, images, calibration.

    Args:
        supernet: on the problem's device; it stays as it is.
        calibration_images: see `search.one_shot.inheritance.inherit`.
        folder: of the files; made where it is missing, and shared by any number of supernets.
    """

    def __init__(self, problem: SearchProblem, supernet: SuperNet, calibration_images: int, folder: Path) -> None:
        self._problem, self._supernet, self._calibration_images = problem, supernet, calibration_images
        self._images = problem.images()
        self._folder = folder
        self._conditions = self._digest()

    @property
    def images(self) -> int:
        """How many validation images there are."""
        return len(self._problem.parts["validation"])

    def __call__(self, architecture: Architecture) -> NDArray[np.bool_]:
        """Whether each image of the `validation` part is classified correctly, (images,), in the part's order.

        Raises:
            ArchitectureError: the architecture is of another space.
            OutputError: the folder cannot be written to.
        """
        self._problem.space.check(architecture)
        path = self._path(architecture)
        if path.exists():
            return np.unpackbits(np.frombuffer(path.read_bytes(), np.uint8), count=self.images).astype(bool)
        network = inherit(self._supernet, architecture, self._images, self._problem, self._calibration_images).eval()
        right = []
        with torch.inference_mode():
            images = self._images.at(network.spec.resolution)
            for x, y in images.evaluate_batches(self._problem.parts["validation"], BATCH):
                with autocast_for(self._images.device):
                    logits = network(x)
                right.append((logits.argmax(1) == y).cpu().numpy())
        correct = np.concatenate(right)
        write_atomic(path, np.packbits(correct).tobytes())
        return correct

    def _path(self, architecture: Architecture) -> Path:
        picks = json.dumps([architecture.space_digest, architecture.picks])
        return self._folder / f"{hashlib.sha256((self._conditions + picks).encode()).hexdigest()[:24]}.bits"

    def _digest(self) -> str:
        """Of everything but the architecture that decides which images are right."""
        problem = self._problem
        tensors = {f"supernet.{name}": value for name, value in self._supernet.state_dict().items()}
        tensors |= {name: problem.parts[name] for name in ("weights", "validation")}
        assert isinstance(problem.train, ImageSet)  # evidence is refused where images stay on disk
        tensors |= {"labels": problem.train.labels, "images": problem.train.images}
        found = hashlib.sha256(json.dumps([self._calibration_images, problem.seed]).encode())
        for name, value in tensors.items():
            found.update(f"{name} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().numpy())
        return found.hexdigest()
