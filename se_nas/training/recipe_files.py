"""Recipes by name, from a YAML file, or as values that differ from a named one's.

A whole recipe names its `source`. Values without one, as a run file's `retrain:` or a short file has them, are put
upon those of a shipped recipe: `base: NAME`, by default `DEFAULT`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from se_nas.errors import ConfigError, did_you_mean
from se_nas.records.former_names import by_present_names
from se_nas.records.shipped import recipes
from se_nas.records.yaml_input import read_yaml, validation_problems
from se_nas.training.recipe import Recipe
from se_nas.training.timm_parts import unusable_parts

#: The shipped recipes by name.
RECIPES: dict[str, Path] = recipes()

#: The one that values without a source are put upon, and that images in memory are trained by if none is named.
DEFAULT = "small-images"

#: What the recipes of run files called some values until recipes became one.
_PRESENT_NAMES = {"ema_decay": "average_decay", "test_every": "evaluate_every"}


def load_recipe(name_or_path: str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe by its name, or one from a YAML file.

    Args:
        changes: values by dotted path, such as `{"epochs": 3, "distillation.alpha": 0.9}`, that replace the file's.

    Raises:
        ConfigError: with every fault found; an unknown name or key comes with the one it resembles.
    """
    source = str(name_or_path)
    value = read_yaml(_file_of(source))
    if not isinstance(value, dict):
        raise ConfigError(source, [f"file: must be a mapping, but got {type(value).__name__}"])
    try:
        value = whole_recipe(value)
    except ValueError as error:
        raise ConfigError(source, [str(error)]) from error
    return changed_recipe(value, changes or {}, source)


def changed_recipe(value: dict[str, Any], changes: Mapping[str, Any], source: str) -> Recipe:
    """The recipe of plain values, with changes by dotted path; `source` names where the values come from.

    Raises:
        ConfigError: with every fault found.
    """
    for dotted, new in changes.items():
        *parents, last = dotted.split(".")
        at = value
        for parent in parents:
            if at.get(parent) is None:
                at[parent] = {}
            at = at[parent]
            if not isinstance(at, dict):
                raise ConfigError(source, [f"{dotted}: `{parent}` must be a mapping to set a value in it"])
        at[last] = new
    try:
        recipe = Recipe.model_validate(value)
    except ValidationError as error:
        raise ConfigError(source, validation_problems(error, Recipe)) from error
    if problems := recipe_faults(recipe):
        raise ConfigError(source, problems)
    return recipe


def default_recipe(**changes: Any) -> Recipe:
    """The recipe `DEFAULT`, with values replaced."""
    return Recipe.model_validate(whole_recipe(changes))


def whole_recipe(value: Any) -> Any:
    """Values with those of the recipe that they are put upon, where they have no source of their own.

    Raises:
        ValueError: `base` is not the name of a shipped recipe, or a value is there by its former name too.
    """
    if not isinstance(value, dict):
        return value
    averaged = value.get("ema_decay") is not None
    value = by_present_names(value, _PRESENT_NAMES, "recipe")
    if averaged:
        value["average_warmup"] = True  # as it was under its former name
    if "source" in value and "base" not in value:
        return value
    named = value.pop("base", DEFAULT)
    if not isinstance(named, str) or named not in RECIPES:
        wanted = f"base: must be one of {', '.join(RECIPES)}, but got {str(named)[:80]!r}"
        raise ValueError(wanted + did_you_mean(str(named), RECIPES))
    return {**read_yaml(RECIPES[named]), **value}


def recipe_faults(recipe: Recipe) -> list[str]:
    """One line for each value that another one, or timm, does not go with."""
    return [*_clashes(recipe), *unusable_parts(recipe)]


def checked_recipe(recipe: Recipe) -> Recipe:
    """The recipe itself, for a model that holds one.

    Raises:
        ValueError: it has faults.
    """
    if faults := recipe_faults(recipe):
        raise ValueError("; ".join(faults))
    return recipe


def stored_recipe(path: Path, value: Any) -> Recipe:
    """A recipe as a run's `config.yaml` at `path` holds it; ConfigError with every fault found."""
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        raise ConfigError(str(path), [f"recipe.{line}" for line in validation_problems(error, Recipe)]) from error


def _file_of(name: str) -> Path:
    if name in RECIPES:
        return RECIPES[name]
    if Path(name).is_file() or name.endswith((".yaml", ".yml")):
        return Path(name)
    wanted = f"a recipe must be one of {', '.join(RECIPES)}, or a YAML file"
    raise ConfigError(name, [wanted + did_you_mean(name, RECIPES)])


def _clashes(recipe: Recipe) -> Iterator[str]:
    """What each field allows and all of them together do not."""
    if recipe.warmup_epochs > recipe.epochs:
        yield f"warmup_epochs: must be at most epochs ({recipe.epochs}), but got {recipe.warmup_epochs:g}"
    if recipe.warmup_epochs and (recipe.warmup_learning_rate or 0.0) > recipe.learning_rate:
        yield (
            f"warmup_learning_rate: must be at most learning_rate ({recipe.learning_rate:g}),"
            f" but got {recipe.warmup_learning_rate:g}"
        )
    given = [name for name in ("decay_epochs", "decay_rate") if getattr(recipe, name) is not None]
    if recipe.schedule == "step":
        for name in sorted({"decay_epochs", "decay_rate"} - set(given)):
            yield f"{name}: must be given for schedule step"
        if recipe.min_learning_rate:
            yield f"min_learning_rate: must be 0 for schedule step, but got {recipe.min_learning_rate:g}"
    else:
        for name in given:
            yield f"{name}: must be null for schedule cosine, but got {getattr(recipe, name):g}"
        if recipe.min_learning_rate > recipe.learning_rate:
            yield (
                f"min_learning_rate: must be at most learning_rate ({recipe.learning_rate:g}),"
                f" but got {recipe.min_learning_rate:g}"
            )
    if recipe.loss != "binary_cross_entropy" and recipe.binary_target_threshold is not None:
        threshold = recipe.binary_target_threshold
        yield f"binary_target_threshold: must be null for loss {recipe.loss}, but got {threshold:g}"
    if recipe.mixup_off_epoch and not recipe.mixes:
        yield f"mixup_off_epoch: must be 0 without mixup and cutmix, but got {recipe.mixup_off_epoch}"
    if recipe.crop == "padded" and recipe.train_resolution is not None:
        yield f"train_resolution: must be null for crop padded, but got {recipe.train_resolution}"
    if recipe.average_warmup and recipe.average_decay is None:
        yield "average_warmup: must be false without average_decay, but got true"
    if recipe.batch_size % recipe.accumulate:
        yield f"batch_size: must be a multiple of accumulate ({recipe.accumulate}), but got {recipe.batch_size}"
    elif recipe.mixes and recipe.batch_size // recipe.accumulate % 2:
        yield (
            "batch_size: must divide into even parts, since Mixup and CutMix pair images, but got"
            f" {recipe.batch_size} in {recipe.accumulate} parts"
        )
