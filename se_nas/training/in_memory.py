"""Training a network on all training images of a set that fits the memory, and looking at its test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.hardware.distributed import Ranks
from se_nas.space.specs import NetworkSpec
from se_nas.training.images import images_in_memory
from se_nas.training.initial_weights import InitialWeights
from se_nas.training.recipe import Recipe
from se_nas.training.train import HeldOut, Outcome, train


@dataclass(frozen=True, kw_only=True)
class Retrained(Outcome):
    """A training on all training images, and what the test images say of it.

    Attributes:
        ema_test_accuracy: of the averaged weights; None where the recipe has none.
        test_images: images that the test accuracy is over.
    """

    test_accuracy: float
    ema_test_accuracy: float | None
    test_images: int


def train_network(
    spec: NetworkSpec,
    recipe: Recipe,
    info: DataInfo,
    train_set: ImageSet,
    test_set: ImageSet,
    *,
    device: torch.device,
    seed: int,
    folder: Path,
    resume: bool,
    workers: int = 0,
    ranks: Ranks | None = None,
    teacher: nn.Module | None = None,
    keep_every: int | None = None,
    initial: InitialWeights | None = None,
    progress: bool = True,
    console: Console | None = None,
) -> Retrained:
    """Train on all training images and look at the test images, of which none is learned from and no epoch picked.

    Args:
        workers: see `training.images.images_in_memory`; the others are those of `training.train.train`.
    """
    ranks = ranks or Ranks()
    with ranks.together():
        images, held_out = images_in_memory(
            recipe, info, train_set, test_set, ranks=ranks, device=device, seed=seed, workers=workers
        )
    outcome = train(
        spec,
        recipe,
        images,
        HeldOut(held_out, {"top1": "test_accuracy"}),
        device=device,
        seed=seed,
        folder=folder,
        resume=resume,
        ranks=ranks,
        teacher=teacher,
        keep_every=keep_every,
        initial=initial,
        progress=progress,
        console=console,
    )
    last = outcome.history[-1]
    assert last.test_accuracy is not None  # the last epoch has a look
    return Retrained(
        **vars(outcome),
        test_accuracy=last.test_accuracy,
        ema_test_accuracy=last.of("ema_test_accuracy"),
        test_images=len(test_set),
    )
