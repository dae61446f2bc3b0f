"""Judge architectures by a short training of each from scratch, which can be pruned after every epoch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from se_nas.data.in_memory.images import ImageSet, at_resolution
from se_nas.data.on_disk.training_set import TrainingSet
from se_nas.data.training_batches import TrainingBatches
from se_nas.errors import ConfigError
from se_nas.hardware.distributed import Ranks
from se_nas.records.locks import locked
from se_nas.records.run_log import read_log, without_services
from se_nas.search.black_box.evaluation import OnEpoch, Pruned
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import Architecture
from se_nas.training.images import HeldOutImages, check_for_disk, images_in_memory, images_on_disk
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import checked_recipe, whole_recipe
from se_nas.training.train import HeldOut, train

#: How the short training differs from the recipe that a run file's values are put upon.
_SHORT = {"epochs": 5, "evaluate_every": 1}


def short_recipe(value: Any = None) -> Any:
    """A run file's values of the short training, with those that it leaves out."""
    value = {} if value is None else value
    return whole_recipe({**_SHORT, **value}) if isinstance(value, dict) else value


def checked_short_recipe(recipe: Recipe) -> Recipe:
    """The recipe itself.

    Raises:
        ValueError: it has faults, or values that a short training does not read.
    """
    if recipe.evaluate_every != 1:
        raise ValueError(f"evaluate_every: must be 1 in a short training, but got {recipe.evaluate_every}")
    if recipe.average_decay is not None:
        raise ValueError(f"average_decay: must be null in a short training, but got {recipe.average_decay:g}")
    if recipe.distillation is not None:
        raise ValueError("distillation: must be null in a short training, which has no teacher")
    if recipe.freeze:
        raise ValueError("freeze: must be left out in a short training, which begins with random weights")
    return checked_recipe(recipe)


class StandAloneEvaluator:
    """Validation accuracy after a short training on the images that are not for validation.

    Every architecture is trained from the problem's seed, so that all see the same images in the same order and the
    same architecture gives the same accuracy.

    Args:
        folder: each training in progress has a folder in it, by which a killed one goes on; it goes when the
            evaluation is done or pruned.
    """

    def __init__(self, problem: SearchProblem, config: Recipe, folder: Path) -> None:
        self._problem, self._config, self._folder = problem, config, folder
        learned = torch.cat([problem.parts["weights"], problem.parts["choices"]])
        self._images = _candidate_images(problem, config, learned, problem.parts["validation"])

    def evaluate(self, architecture: Architecture, on_epoch: OnEpoch) -> float:
        """Accuracy, from 0 to 1, on the `validation` part after the last epoch.

        Args:
            on_epoch: is given each epoch once, in order; a training that goes on where a killed one was tells the
                epochs of that one first. Another evaluation of this architecture, in any process, waits for this one.

        Raises:
            ArchitectureError: the architecture is of another space.
            Pruned: `on_epoch` raised it.
            TrainingError: the loss does not stay finite; the folder stays, with the log of it.
            OutputError: the folder cannot be written to.
        """
        self._problem.space.check(architecture)
        folder = self._folder / self._key(architecture)
        with locked(folder.with_name(folder.name + ".lock")), without_services():
            try:
                accuracy = self._trained_accuracy(architecture, on_epoch, folder)
            except Pruned:
                shutil.rmtree(folder)
                raise
            shutil.rmtree(folder)
        return accuracy

    def _trained_accuracy(self, architecture: Architecture, on_epoch: OnEpoch, folder: Path) -> float:
        told = -1

        def tell_once(epoch: int, accuracy: float) -> None:
            nonlocal told
            if epoch > told:
                told = epoch
                on_epoch(epoch, accuracy)

        log = folder / "log.jsonl"
        for line in read_log(log) if log.exists() else ():
            if line.get("event") == "epoch":
                tell_once(line["epoch"], line["validation_accuracy"])
        device, seed = self._problem.device, self._problem.seed
        spec = self._problem.space.resolve(architecture)
        images, held_out = self._images(spec.resolution)
        outcome = train(
            spec,
            self._config,
            images,
            HeldOut(held_out, {"top1": "validation_accuracy"}, after_look=tell_once),
            name="evaluation",
            device=device,
            seed=seed,
            folder=folder,
            resume=True,
            progress=False,
            console=Console(quiet=True),  # the search has a bar of its own
        )
        accuracy = outcome.history[-1].validation_accuracy
        assert accuracy is not None  # the last epoch has a look
        return accuracy

    def _key(self, architecture: Architecture) -> str:
        """Of all that an accuracy depends on, so that no training goes on from another one's checkpoint."""
        parts = (architecture.space_digest, architecture.picks, self._config.model_dump(), self._problem.seed)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _candidate_images(
    problem: SearchProblem, recipe: Recipe, learned: torch.Tensor, validation: torch.Tensor
) -> Callable[[int], tuple[TrainingBatches, HeldOutImages]]:
    """What makes the images of a short training of a network of some resolution, as of the retraining of an answer."""
    train, info = problem.train, problem.info
    if isinstance(train, TrainingSet):
        try:
            check_for_disk(recipe, info.channels)
        except ConfigError as error:
            raise ConfigError("search.stand_alone", error.problems) from error
        parts = train.part(learned), train.part(validation)
        return lambda resolution: images_on_disk(
            recipe,
            resolution,
            *parts,
            ranks=Ranks(),
            device=problem.device,
            seed=problem.seed,
            workers=train.workers,
            damage=train.damage,
            mean=info.mean,
            std=info.std,
        )
    halves = _subset(train, learned), _subset(train, validation)

    def in_memory(resolution: int) -> tuple[TrainingBatches, HeldOutImages]:
        (resized, train_set), (_, validation_set) = (at_resolution(info, half, resolution) for half in halves)
        return images_in_memory(
            recipe, resized, train_set, validation_set, ranks=Ranks(), device=problem.device, seed=problem.seed
        )

    return in_memory


def _subset(images: ImageSet, indices: torch.Tensor) -> ImageSet:
    return ImageSet(images.images[indices], images.labels[indices])
