"""Training on from trained weights, on the images that they come from or on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import stays_on_disk
from se_nas.errors import ConfigError, counted
from se_nas.layers.freezing import ALL
from se_nas.report.pages.accuracies.known import FINE_TUNED, TRANSFERRED, known_accuracies
from se_nas.runs.retraining.extending import TrainedOn, images_of, restarted_rate
from se_nas.runs.run_folder import RETRAINING, SUBNET, RunFolder
from se_nas.training.recipe_files import changed_recipe, load_recipe, stored_recipe
from se_nas.training.trained_network import ARCHITECTURE, WEIGHTS


@dataclass(frozen=True, kw_only=True)
class FineTuning(TrainedOn):
    """A network with trained weights, and the recipe by which it is trained on.

    Attributes:
        file: the weights.
        whose: the recipe's name, or where it comes from.
        transfers: whether the images are others than those of the weights.
    """

    file: Path
    whose: str
    transfers: bool

    @property
    def weights(self) -> Path:  # noqa: D102
        return self.file

    @property
    def default_folder(self) -> Path:
        """Where it is trained on, if nothing else is said."""
        return self.folder / (f"{TRANSFERRED}{self.data.name}" if self.transfers else FINE_TUNED)

    def words(self) -> str:
        """What is done, in one line."""
        where = f" on {self.data.name}" if self.transfers else ""
        return (
            f"fine-tuning {self.weights}{where} for {counted(self.recipe.epochs, 'epoch')} by the recipe {self.whose}, "
            f"at a learning rate of {self.recipe.peak_learning_rate:g} (--epochs and --learning-rate set others)"
        )


def weights_in(source: Path) -> Path | None:
    """The trained weights that a word names: a file beside its architecture, those of a subnet's or a retraining's
    folder, or of a run's subnet; None where there are none.
    """
    places = (source, source / WEIGHTS, source / SUBNET / WEIGHTS)
    return next((path for path in places if path.is_file() and (path.parent / ARCHITECTURE).exists()), None)


def _config(folder: Path) -> Mapping[str, Any]:
    return RunFolder(folder).config if (folder / "config.yaml").exists() else {}


def open_fine_tuning(
    weights: Path,
    recipe: str | None,
    usual: str,
    changes: Mapping[str, Any],
    data_dir: Path | None,
    other: DataOptions | None = None,
) -> FineTuning:
    """How the network that weights are of is trained on.

    The learning rate is the recipe's `restarted_rate`, unless the changes say otherwise, the recipe is that of a
    training from weights already, or every part but the classifier is frozen: nothing is there to be undone.

    Args:
        recipe: a name or a file; None for the recipe of the run or the training that the weights come from or, where
            that is for images kept elsewhere than those now, or is not known, `usual`.
        changes: values by dotted path that replace the recipe's.
        data_dir: where the images of before lie now.
        other: the images, where they are others than those of before.

    Raises:
        ConfigError: the recipe has faults, or the folder does not say what it is of.
    """
    folder = weights.parent
    # a subnet's folder names its run, and that of a run's winner leaves it to the run around it
    home = next((RunFolder(place) for place in (folder, folder.parent) if _config(place)), RunFolder(folder))
    data = images_of(home, data_dir) if other is None else other
    run = Path(str(home.config["run"])) if "run" in _config(home.path) else home.path
    own = _config(run).get(RETRAINING) or _config(run).get("recipe")
    if other is not None and own is not None:
        before = (_config(home.path).get("data") or {}).get("name")
        if before is None or stays_on_disk(str(before)) != stays_on_disk(other.name):
            own = None
    if recipe is not None or own is None:
        whose, found = recipe or usual, load_recipe(recipe or usual, {})
    else:
        whose, found = f"of {run.name or run}", stored_recipe(run / "config.yaml", own)
    values, name = found.model_dump(mode="json") | {"freeze": []}, "recipe of --from"
    slowed = recipe is None and _config(run).get("weights") is not None  # by a training like this one
    if not slowed and ALL not in changed_recipe(dict(values), changes, name).freeze:
        values["learning_rate"] = restarted_rate(found)
    return FineTuning(
        folder=folder,
        file=weights,
        data=data,
        recipe=changed_recipe(values, changes, name),
        whose=whose,
        transfers=other is not None,
    )


def accuracy_lines(folder: Path) -> list[str]:
    """How accurate the network in a folder of trained weights is with each that it has, as far as that is known.

    Raises:
        ConfigError: a file is damaged.
    """
    run = _config(folder).get("run")
    return [row.words() for row in known_accuracies(folder, Path(str(run)) if run is not None else None)]


def no_weights(source: Path) -> ConfigError:
    """The error of a word that names no trained weights."""
    must = "must be a file of weights beside its architecture.json, or the folder of a finished search, of a subnet or "
    return ConfigError("--from", [f"{source}: {must}of a retraining, but is none of these"])
