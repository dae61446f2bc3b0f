"""What a retraining is asked to do, wherever its images are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from se_nas.data.in_memory.options import DataOptions
from se_nas.records.models.certificate import Certificate
from se_nas.records.models.run_result import TrainingPhase
from se_nas.records.record import read_record
from se_nas.runs.networks.teacher import Teacher
from se_nas.runs.retraining.extending import Extension
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import load_recipe


@dataclass(frozen=True, kw_only=True)
class Job:
    """A retraining of one network.

    Attributes:
        architecture: architecture.json or a baseline's YAML; see `open_architecture`, also for `space`. Its classifier
            is made for the classes of `data`.
        data: the images; of such as stay on disk the name may also say how the space scales its networks.
        recipe: a name in `training.recipe_files.RECIPES`, a YAML file, or the recipe itself, changed already.
        changes: values by name, or dotted path, that replace the recipe's.
        whose: the name of a recipe that is given itself, or where it comes from.
        folder: what is written to.
        workers: processes of each rank that decode and transform images, where any are needed.
        keep_every: see `training.train.train`.
        weights: a file to start from instead of random weights; see `training.initial_weights.read_initial_weights`.
        phases: the trainings that those weights are of, where it goes on from them.
        same_classes: whether the images must be of the classes that these weights know.
        scaled: whether the network is the one scaled to the data, where these stay on disk, and not the file's own.
    """

    architecture: Path
    data: DataOptions
    folder: Path
    recipe: str | Recipe
    changes: Mapping[str, Any]
    space: Path | None = None
    teacher: Teacher | None = None
    seed: int = 0
    workers: int = 4
    keep_every: int | None = None
    weights: Path | None = None
    phases: tuple[TrainingPhase, ...] = ()
    same_classes: bool = False
    scaled: bool = True
    whose: str = "of the run file"

    def going_on(self, from_it: Extension) -> Job:
        """The same for the epochs that come after a finished training."""
        return replace(
            self,
            data=from_it.data,
            recipe=from_it.recipe,
            changes={},
            teacher=from_it.teacher,
            seed=from_it.seed,
            weights=from_it.weights,
            phases=from_it.phases,
            same_classes=True,
            whose="of the training that it goes on from",
        )

    @property
    def search_certificate(self) -> Path | None:
        """What the search certified, where it lies beside the architecture."""
        path = self.architecture.with_name("certificate.json")
        return path if path.exists() else None

    def check_certificate(self) -> None:
        """Raise ConfigError where that is damaged, before a training and not after it."""
        if self.search_certificate is not None:
            read_record(Certificate, self.search_certificate)

    def read_recipe(self, ranks: int) -> Recipe:
        """The recipe with its changes; ConfigError when its batches cannot be shared out to so many ranks."""
        recipe = self.recipe if isinstance(self.recipe, Recipe) else load_recipe(self.recipe, self.changes)
        recipe.micro_batch(ranks)
        return recipe
