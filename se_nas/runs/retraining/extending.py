"""Training a finished network on: what is known of its training, and the recipe of the epochs to come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from se_nas.data.file_options import FileOptions
from se_nas.data.in_memory.options import DataOptions
from se_nas.errors import ConfigError, counted
from se_nas.records.models.run_result import AnyRetrained, AnyRetraining, ImageNetLedger, TrainingPhase
from se_nas.records.record import read_record
from se_nas.runs.data_folder import data_folder
from se_nas.runs.networks.teacher import Teacher
from se_nas.runs.run_folder import RETRAINING, RunFolder
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import changed_recipe, stored_recipe
from se_nas.training.train import Outcome
from se_nas.training.trained_network import ARCHITECTURE, WEIGHTS

FOLDER = "extended"
#: The learning rate of a warm restart, as a share of the first peak: enough to move on, too little to start over.
RESTART = 0.1


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """A network with weights, and the recipe by which it is trained on.

    Attributes:
        folder: that of the network and its weights.
        data: the images that these come from.
    """

    folder: Path
    data: DataOptions
    recipe: Recipe

    @property
    def architecture(self) -> Path:
        """The file of the network."""
        return self.folder / ARCHITECTURE

    @property
    def weights(self) -> Path:
        """The file that the training goes on from."""
        return self.folder / WEIGHTS


@dataclass(frozen=True, kw_only=True)
class Extension(TrainedOn):
    """A finished training and the recipe by which it goes on.

    Attributes:
        phases: what was trained so far.
    """

    teacher: Teacher | None
    seed: int
    phases: tuple[TrainingPhase, ...]

    @property
    def default_folder(self) -> Path:
        """Where the training goes on, if nothing else is said."""
        return self.folder / FOLDER

    def words(self) -> str:
        """The schedule in one line."""
        rate, floor = self.recipe.peak_learning_rate, self.recipe.min_learning_rate * self.recipe.batch_scale
        before = sum(phase.epochs for phase in self.phases)
        return (
            f"training on for {counted(self.recipe.epochs, 'epoch')} after {before}, from {self.weights}: "
            f"a warm restart at a learning rate of {rate:g}, which falls as a cosine to {floor:g} "
            "(--learning-rate sets another)"
        )


def open_extension(source: Path, epochs: int, changes: Mapping[str, Any], data_dir: Path | None) -> Extension:
    """The finished training in a folder, and how it goes on.

    Args:
        source: the folder of a retraining, or of a run whose winner was retrained.
        changes: values by dotted path that replace those of the recipe, such as the learning rate.
        data_dir: where the images lie now; None where they lay then.

    Raises:
        ConfigError: there is no finished training, or the recipe has faults.
    """
    folder = source / RETRAINING if (source / RETRAINING / WEIGHTS).exists() else source
    home = next((RunFolder(place) for place in (folder, folder.parent) if (place / "config.yaml").exists()), None)
    lacking = next((name for name in (WEIGHTS, ARCHITECTURE) if not (folder / name).exists()), None)
    if home is None or lacking is not None or not (home / "result.json").exists():
        got = f"has no {lacking}" if lacking else "has no result.json (--resume ends a training that was cut off)"
        raise ConfigError(str(source), [f"must be the folder of a finished retraining for --extend, but {got}"])
    config, file = home.config, home / "config.yaml"
    result = read_record(AnyRetrained, home / "result.json")
    if result.retrain is None:
        raise ConfigError(str(source), ["must be the folder of a finished retraining for --extend, but has none"])
    of_run = "search" in config
    recipe = stored_recipe(file, config.get(RETRAINING if of_run else "recipe"))
    seed = config.get("seed", 0)
    phases = result.retrain.phases or (_first_phase(recipe, result.retrain, result.ledger or result.retrain),)
    teacher = config.get("teacher")
    return Extension(
        folder=folder,
        data=images_of(home, data_dir),
        recipe=recipe_to_extend(recipe, epochs, changes, restarts=result.retrain.phases is None),
        teacher=Teacher(**teacher) if teacher else None,
        seed=seed,
        phases=phases,
    )


def images_of(home: RunFolder, data_dir: Path | None) -> DataOptions:
    """The images that a folder's network was trained on.

    Args:
        data_dir: where they lie now; None where they lay then.

    Raises:
        ConfigError: the folder does not say which they were.
    """
    config, file = home.config, home / "config.yaml"
    known = config.get("data")
    if not isinstance(known, dict) or not isinstance(known.get("name"), str):
        raise ConfigError(str(file), ["data: must name the images that the network was trained on"])
    place = data_dir or (data_folder(file, str(known["dir"])) if known.get("dir") else None)
    size = known.get("size") or DataOptions.size
    return DataOptions(known["name"], place, seed=config.get("seed", 0), size=size, files=FileOptions.of(known))


def restarted_rate(recipe: Recipe) -> float:
    """`RESTART` of a recipe's learning rate, or the rate itself where that would be no more than the floor."""
    rate = recipe.learning_rate * RESTART
    return rate if rate > recipe.min_learning_rate else recipe.learning_rate


def recipe_to_extend(recipe: Recipe, epochs: int, changes: Mapping[str, Any], *, restarts: bool) -> Recipe:
    """The recipe of the epochs to come: as it was, but for its length and its schedule.

    The rate begins at `RESTART` of the first peak and falls as a cosine to the floor, without a warm-up. Batches that
    were not mixed at the end are not mixed again.

    Args:
        restarts: whether the recipe is the first phase's, with its peak; else it has a restart's rate already.

    Raises:
        ConfigError: the changes have faults.
    """
    values = recipe.model_dump(mode="json") | {
        "epochs": epochs,
        "learning_rate": restarted_rate(recipe) if restarts else recipe.learning_rate,
        "schedule": "cosine",
        "warmup_epochs": 0.0,
        "warmup_learning_rate": 0.0,
        "decay_epochs": None,
        "decay_rate": None,
        "learning_rate_noise": None,
        "mixup_off_epoch": 0,
    }
    if not recipe.mixes_in(recipe.epochs - 1):
        values |= {"mixup": 0.0, "cutmix": 0.0}
    return changed_recipe(values, changes, "recipe of --extend")


def phase_of(recipe: Recipe, training: Outcome) -> TrainingPhase:
    """What a result says of a training as one of several."""
    return TrainingPhase(
        epochs=recipe.epochs,
        learning_rate=recipe.peak_learning_rate,
        min_learning_rate=recipe.min_learning_rate * recipe.batch_scale,
        seconds=training.seconds,
        images=training.images,
        accuracy=training.accuracies["network"],
        ema_accuracy=training.accuracies["average"],
    )


def all_phases(
    before: tuple[TrainingPhase, ...], recipe: Recipe, training: Outcome
) -> tuple[TrainingPhase, ...] | None:
    """Those of a training that goes on from another; None where it does not."""
    return (*before, phase_of(recipe, training)) if before else None


def _first_phase(recipe: Recipe, told: AnyRetraining, spent: ImageNetLedger | AnyRetraining) -> TrainingPhase:
    accuracy, ema_accuracy = told.accuracies
    return TrainingPhase(
        epochs=recipe.epochs,
        learning_rate=recipe.peak_learning_rate,
        min_learning_rate=recipe.min_learning_rate * recipe.batch_scale,
        seconds=spent.seconds,
        images=spent.images,
        accuracy=accuracy,
        ema_accuracy=ema_accuracy,
    )
