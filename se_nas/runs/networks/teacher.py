"""A trained network that others learn from, as a user names it: for a retraining, or for the supernet of a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from se_nas.data.in_memory.images import DataInfo
from se_nas.errors import ArchitectureError, CheckpointError, ConfigError, DataError
from se_nas.records.files import beside
from se_nas.runs.networks.open_architecture import check_channels
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.strategy_config import StrategyConfig
from se_nas.training.timm_parts import make_teacher
from se_nas.training.trained_network import DataCard, check_classes, load_trained


class Named(NamedTuple):
    """What errors call a teacher and the file of its weights."""

    teacher: str
    checkpoint: str


FLAGS = Named("--teacher", "--teacher-checkpoint")
KEYS = Named("search.supernet.teacher", "search.supernet.teacher_checkpoint")


@dataclass(frozen=True)
class Teacher:
    """Whose logits are learned from.

    Attributes:
        source: a folder that a retraining left, or the name of a timm model.
        checkpoint: path of weights: of a timm model its state dict; of a folder what is read instead of `network.pt`.
    """

    source: str
    checkpoint: str | None = None


def open_teacher(
    teacher: Teacher,
    classes: Sequence[str],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    named: Named = FLAGS,
) -> nn.Module:
    """The network of a teacher, in evaluation mode on `device`.

    Args:
        classes: of the images that it will see, in the order of their numbers.
        mean, std: that these images are normalised by.

    Raises:
        ConfigError: there is no such teacher, or it was trained on images normalised otherwise.
        SeNasError: the teacher cannot be read, or does not know these classes.
    """
    folder = Path(teacher.source)
    module: nn.Module
    if folder.is_dir():
        module, file, _ = load_trained(folder, Path(teacher.checkpoint) if teacher.checkpoint else None)
        check_channels(folder, file.network, len(mean))
        check_classes(folder, file.network, classes)
        card = DataCard.load(folder)
        if card is not None and (card.mean, card.std) != (mean, std):
            must = "must be trained on images that were normalised as those that it is to see"
            raise ConfigError(named.teacher, [f"{must}, but this one's were of {card.name}"])
    else:
        if teacher.checkpoint is None:
            must = f"must be a folder that a retraining left, or a timm model with {named.checkpoint}"
            raise ConfigError(named.teacher, [f"{must}, but got {teacher.source!r}"])
        module = make_teacher(teacher.source, teacher.checkpoint, len(classes), mean, std, named.teacher)
    module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as its images
    return module.eval().requires_grad_(False)


def with_whole_teacher(run_file: Path, config: StrategyConfig) -> StrategyConfig:
    """The configuration with whole paths of its supernet's teacher, so that it can be read from the run's folder."""
    if not isinstance(config, OptunaConfig) or config.supernet.teacher is None:
        return config
    supernet, folder = config.supernet, beside(run_file, config.supernet.teacher)
    words = {"teacher": str(folder.resolve()) if folder.is_dir() else supernet.teacher}
    if supernet.teacher_checkpoint is not None:
        words["teacher_checkpoint"] = str(beside(run_file, supernet.teacher_checkpoint).resolve())
    return config.model_copy(update={"supernet": supernet.model_copy(update=words)})


def teacher_of_supernet(config: StrategyConfig, info: DataInfo, device: torch.device) -> Callable[[], nn.Module] | None:
    """What opens the teacher of a search's supernet, for whoever trains it; None where it has none.

    It raises what `open_teacher` raises, with the key of the run file before it.
    """
    if not isinstance(config, OptunaConfig) or config.evaluator != "supernet" or config.supernet.teacher is None:
        return None
    return partial(_opened, Teacher(config.supernet.teacher, config.supernet.teacher_checkpoint), info, device)


def _opened(teacher: Teacher, info: DataInfo, device: torch.device) -> nn.Module:
    try:
        return open_teacher(teacher, info.class_names, info.mean, info.std, device, KEYS)
    except (ArchitectureError, CheckpointError, DataError) as error:
        raise type(error)(f"{KEYS.teacher}: {error}") from error
