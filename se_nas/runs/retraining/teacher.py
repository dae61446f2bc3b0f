"""The teacher of a recipe with distillation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from se_nas.errors import ConfigError
from se_nas.runs.networks.teacher import Teacher, open_teacher
from se_nas.training.recipe import Recipe


def teacher_of_recipe(
    teacher: Teacher | None,
    recipe: Recipe,
    classes: Sequence[str],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
) -> nn.Module | None:
    """The network of a teacher, see `open_teacher`; None where the recipe has no distillation.

    Raises:
        ConfigError: recipe and teacher do not go together.
        SeNasError: see `open_teacher`.
    """
    if (teacher is None) != (recipe.distillation is None):
        has = "a recipe with `distillation` needs a teacher" if teacher is None else "a teacher needs `distillation`"
        raise ConfigError("recipe", [f"distillation: {has}, but got only one of the two (--teacher)"])
    return None if teacher is None else open_teacher(teacher, classes, mean, std, device)
