"""The teacher of a recipe with distillation, as a user names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from se_nas.errors import ConfigError
from se_nas.runs.networks.open_architecture import check_channels
from se_nas.training.recipe import Recipe
from se_nas.training.timm_parts import make_teacher
from se_nas.training.trained_network import DataCard, check_classes, load_trained


@dataclass(frozen=True)
class Teacher:
    """Whose logits a recipe with distillation learns from.

    Attributes:
        source: a folder that a retraining left, or the name of a timm model.
        checkpoint: path of weights: of a timm model its state dict; of a folder what is read instead of `network.pt`.
    """

    source: str
    checkpoint: str | None = None


def open_teacher(
    teacher: Teacher | None,
    recipe: Recipe,
    classes: Sequence[str],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
) -> nn.Module | None:
    """The network of a teacher, in evaluation mode on `device`; None where the recipe has no distillation.

    Args:
        classes: of the images that it will see, in the order of their numbers.
        mean, std: that these images are normalised by.

    Raises:
        ConfigError: recipe and teacher do not go together, or the teacher was trained on images normalised otherwise.
        SeNasError: the teacher cannot be read, or does not know these classes.
    """
    if (teacher is None) != (recipe.distillation is None):
        has = "a recipe with `distillation` needs a teacher" if teacher is None else "a teacher needs `distillation`"
        raise ConfigError("recipe", [f"distillation: {has}, but got only one of the two (--teacher)"])
    if teacher is None:
        return None
    folder = Path(teacher.source)
    module: nn.Module
    if folder.is_dir():
        module, file, _ = load_trained(folder, Path(teacher.checkpoint) if teacher.checkpoint else None)
        check_channels(folder, file.network, len(mean))
        check_classes(folder, file.network, classes)
        card = DataCard.load(folder)
        if card is not None and (card.mean, card.std) != (mean, std):
            must = "must be trained on images that were normalised as those that it is to see"
            raise ConfigError("--teacher", [f"{must}, but this one's were of {card.name}"])
    else:
        if teacher.checkpoint is None:
            raise ConfigError(
                "--teacher",
                [
                    f"must be a folder that a retraining left, or a timm model with --teacher-checkpoint, "
                    f"but got {teacher.source!r}"
                ],
            )
        module = make_teacher(teacher.source, teacher.checkpoint, len(classes), mean, std)
    module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as its images
    return module.eval().requires_grad_(False)
