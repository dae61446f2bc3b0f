"""Training on from the weights that a network inherits, and how accurate it is before, after, and from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from se_nas.errors import ConfigError, counted
from se_nas.records.models.run_result import RetrainResult, RunResult, SubnetResult
from se_nas.records.record import read_record
from se_nas.runs.retraining.extending import TrainedOn, images_of, restarted_rate
from se_nas.runs.run_folder import RETRAINING, SUBNET, RunFolder
from se_nas.space.architecture_file import load_architecture
from se_nas.training.recipe_files import changed_recipe, load_recipe, stored_recipe
from se_nas.training.trained_network import ARCHITECTURE, WEIGHTS

#: In a subnet's folder, where it is trained on.
FINE_TUNED = "fine-tuned"


@dataclass(frozen=True, kw_only=True)
class FineTuning(TrainedOn):
    """A network with inherited weights, and the recipe by which it is trained on."""

    @property
    def default_folder(self) -> Path:
        """Where it is trained on, if nothing else is said."""
        return self.folder / FINE_TUNED

    def words(self) -> str:
        """What is done, in one line."""
        return (
            f"fine-tuning {self.weights} for {counted(self.recipe.epochs, 'epoch')} at a learning rate of "
            f"{self.recipe.peak_learning_rate:g} (--epochs and --learning-rate set others)"
        )


def subnet_in(source: Path) -> Path | None:
    """The folder of a network with inherited weights: a folder itself, or that in a run's; None where there is none."""
    return next((place for place in (source, source / SUBNET) if _is_subnet(place)), None)


def _is_subnet(folder: Path) -> bool:
    return (folder / WEIGHTS).exists() and "run" in _config(folder)


def _config(folder: Path) -> Mapping[str, Any]:
    return RunFolder(folder).config if (folder / "config.yaml").exists() else {}


def open_fine_tuning(
    folder: Path, recipe: str | None, usual: str, changes: Mapping[str, Any], data_dir: Path | None
) -> FineTuning:
    """How the network in a subnet's folder is trained on.

    The learning rate is the recipe's `restarted_rate`, unless the changes say otherwise.

    Args:
        recipe: a name or a file; None for the recipe by which the run trains its answer or, without one, `usual`.
        changes: values by dotted path that replace the recipe's.

    Raises:
        ConfigError: the recipe has faults, or the folder does not say what it is of.
    """
    home = RunFolder(folder)
    run = Path(str(home.config["run"]))
    own = _config(run).get(RETRAINING) or _config(run).get("recipe")
    found = (
        load_recipe(recipe or usual, {})
        if recipe is not None or own is None
        else stored_recipe(run / "config.yaml", own)
    )
    values = found.model_dump(mode="json") | {"learning_rate": restarted_rate(found)}
    return FineTuning(
        folder=folder, data=images_of(home, data_dir), recipe=changed_recipe(values, changes, "recipe of --from")
    )


def accuracy_lines(folder: Path) -> list[str]:
    """How accurate a subnet is as it is, fine-tuned, and trained from scratch by its run, as far as that is known.

    Raises:
        ConfigError: a file is damaged.
    """
    own = read_record(SubnetResult, folder / "result.json")
    before = own.accuracy_before
    lines = [] if before is None else [_line("before it was cut", before, own.test_images)]
    as_it_is = "with the supernet's weights" if before is None else "cut"
    lines.append(_line(as_it_is, own.test_accuracy, own.test_images))
    tuned = folder / FINE_TUNED / "result.json"
    if tuned.exists():
        result = read_record(RetrainResult, tuned).retrain
        what = f"fine-tuned for {counted(result.epochs, 'epoch')}"
        lines.append(_line(what, result.test_accuracy, result.test_images))
    run = Path(str(RunFolder(folder).config.get("run", "")))
    if before is None and (run / "result.json").exists() and (run / ARCHITECTURE).exists():
        scratch = read_record(RunResult, run / "result.json").retrain
        same = load_architecture(run / ARCHITECTURE).network == load_architecture(folder / ARCHITECTURE).network
        if scratch is not None and same:
            what = f"trained from scratch for {counted(scratch.epochs, 'epoch')}"
            lines.append(_line(what, scratch.test_accuracy, scratch.test_images))
    return lines


def _line(what: str, share: float, images: int) -> str:
    return f"{what}: {share:.2%} of {images:,} test images"


def no_subnet(source: Path) -> ConfigError:
    """The error of a folder that is neither a run's nor a subnet's."""
    return ConfigError("--from", [f"{source}: must be the folder of a finished search or of a subnet, but is neither"])
