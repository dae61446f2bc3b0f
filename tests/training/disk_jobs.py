"""`train` on images on disk as one rank runs it, watched step by step."""

from __future__ import annotations

import hashlib
import io
import math
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.hardware.distributed import Ranks, join_ranks
from se_nas.layers.network import Network
from se_nas.space.specs import NetworkSpec
from se_nas.training import train as training
from se_nas.training.guard import GuardConfig
from se_nas.training.images import images_on_disk
from se_nas.training.loop import Loop, StepContext
from se_nas.training.recipe import Recipe
from se_nas.training.train import HeldOut, Outcome
from se_nas.training.trained_network import WEIGHTS, save_weights

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Fault:
    """NaN in the "loss" or the "weights" of one rank, or SIGKILL ("kill"), in one step of the first attempt."""

    of: str
    step: int
    rank: int


@dataclass(frozen=True)
class DiskJob:
    """What to train, and how; `options` are those of `images_on_disk` and `train`."""

    folder: Path
    images: Path
    spec: NetworkSpec
    recipe: Recipe
    frozen_norms: bool = False
    fault: Fault | None = None
    save_always: bool = False
    device: torch.device = CPU
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Watched:
    """What one rank saw of a job.

    Attributes:
        network, average: the weights at the end, and those of the running average.
        digests: of the whole state after every step.
        own_statistics: running statistics of norms after every step, before the mean over the ranks was taken.
        statistics: the same afterwards.
        steps: number and learning-rate scale of each.
    """

    training: Outcome
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    digests: list[str]
    own_statistics: list[Tensor]
    statistics: list[Tensor]
    steps: list[tuple[int, float]]
    said: str


@dataclass(frozen=True)
class _WatchedRanks(Ranks):
    before: list[Tensor] = field(default_factory=list)
    after: list[Tensor] = field(default_factory=list)

    def average_(self, tensors: Iterable[Tensor]) -> None:
        found = [tensor for tensor in tensors if tensor.is_floating_point()]
        self.before.append(_flat(found))
        super().average_(found)
        self.after.append(_flat(found))


def train(job: DiskJob) -> Watched:
    """Train to the end on this rank, or alone."""
    with pytest.MonkeyPatch.context() as patch, join_ranks(CPU) as (ranks, _):
        return _train(job, _WatchedRanks(ranks.rank, ranks.size, ranks.control), patch)


def _train(job: DiskJob, ranks: _WatchedRanks, patch: pytest.MonkeyPatch) -> Watched:
    screen = io.StringIO()
    digests: list[str] = []
    contexts: list[StepContext] = []
    parts: dict[str, Any] = {}

    def strikes(of: str) -> bool:
        return contexts[-1].attempt == 0 and job.fault == Fault(of, contexts[-1].step, ranks.rank)

    class WatchedLoop(Loop):
        def __init__(self, *, step: Any, state: Any, **options: Any) -> None:
            def watched(context: StepContext) -> Any:
                contexts.append(context)
                metrics = step(context)
                if strikes("kill"):
                    os.kill(os.getpid(), signal.SIGKILL)
                if strikes("weights"):
                    state["network"].head.classifier.weight.data[0, 0] = math.nan
                digests.append(_digest([part.state_dict() for part in state.values()]))
                return metrics

            parts.update(state)
            super().__init__(step=watched, state=state, **options)

    def make_loss(recipe: Recipe, *_: object) -> Any:
        criterion = _make_loss(recipe)
        return lambda *given: criterion(*given) * (math.nan if strikes("loss") else 1.0)

    patch.setattr(training, "Loop", WatchedLoop)
    patch.setattr(training, "make_loss", make_loss)
    if job.frozen_norms:
        patch.setattr(training, "Network", FrozenNorms)
    if job.save_always:
        patch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
        patch.setattr(GuardConfig, "for_device", lambda device: GuardConfig(snapshot_every=1))
    options: dict[str, Any] = {"workers": 0, **job.options}
    of_images = {name: options.pop(name) for name in ("workers", "max_damaged") if name in options}
    console = Console(file=screen, width=300)
    with ranks.together():
        images, held_out = images_on_disk(
            job.recipe,
            job.spec.resolution,
            *open_encoded_images(job.images),
            ranks=ranks,
            device=job.device,
            seed=0,
            say=lambda line: console.print(line, soft_wrap=True),
            **of_images,
        )
    found = training.train(
        job.spec,
        job.recipe,
        images,
        HeldOut(held_out, {"top1": "val_top1", "top5": "val_top5"}, keep_best=True),
        ranks=ranks,
        device=job.device,
        folder=job.folder,
        console=console,
        **{"seed": 0, "resume": False, "progress": False, **options},
    )
    if ranks.first:
        save_weights(job.folder / WEIGHTS, found.network, found.average, epoch=job.recipe.epochs - 1)
    return Watched(
        found,
        parts["network"].state_dict(),
        parts["average"].state_dict() if "average" in parts else {},
        digests,
        ranks.before,
        ranks.after,
        [(context.step, context.lr_scale) for context in contexts],
        screen.getvalue(),
    )


class FrozenNorms(Network):
    """A network whose batch norms stay in evaluation mode, so that the size of a batch changes nothing."""

    def train(self, mode: bool = True) -> FrozenNorms:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


_make_loss = training.make_loss


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors]) if tensors else torch.zeros(0)


def _digest(value: Any) -> str:
    known = hashlib.blake2b()

    def add(item: Any) -> None:
        if isinstance(item, Tensor):
            known.update(item.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(item, dict):
            for name, inner in item.items():
                known.update(repr(name).encode())
                add(inner)
        elif isinstance(item, (list, tuple)):
            for inner in item:
                add(inner)
        else:
            known.update(repr(item).encode())

    add(value)
    return known.hexdigest()
