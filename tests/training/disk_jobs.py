"""`train_from_disk` as one rank runs it, watched step by step."""

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
from se_nas.layers.network import Network
from se_nas.space.specs import NetworkSpec
from se_nas.training import disk_training
from se_nas.training.disk_training import DiskTraining, train_from_disk
from se_nas.training.distributed import Ranks, join_ranks
from se_nas.training.loop import GuardConfig, Loop, StepContext
from se_nas.training.recipe import Recipe

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Fault:
    """NaN in the "loss" or the "weights" of one rank, or SIGKILL ("kill"), in one step of the first attempt."""

    of: str
    step: int
    rank: int


@dataclass(frozen=True)
class DiskJob:
    """What to train, and how; `options` are those of `train_from_disk`."""

    folder: Path
    images: Path
    spec: NetworkSpec
    recipe: Recipe
    frozen_norms: bool = False
    fault: Fault | None = None
    save_always: bool = False
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

    training: DiskTraining
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

    def make_loss(recipe: Recipe) -> Any:
        criterion = _make_loss(recipe)
        return lambda *given: criterion(*given) * (math.nan if strikes("loss") else 1.0)

    patch.setattr(disk_training, "Loop", WatchedLoop)
    patch.setattr(disk_training, "make_loss", make_loss)
    if job.frozen_norms:
        patch.setattr(disk_training, "Network", FrozenNorms)
    if job.save_always:
        patch.setattr(disk_training, "SAVE_EVERY_SECONDS", 0.0)
        patch.setattr(disk_training, "GuardConfig", lambda check_every: GuardConfig(snapshot_every=1))
    options: dict[str, Any] = {"seed": 0, "workers": 0, "resume": False, "progress": False, **job.options}
    training = train_from_disk(
        job.spec,
        job.recipe,
        *open_encoded_images(job.images),
        ranks=ranks,
        device=CPU,
        folder=job.folder,
        console=Console(file=screen, width=300),
        **options,
    )
    return Watched(
        training,
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


_make_loss = disk_training.make_loss


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors]) if tensors else torch.zeros(0)


def _digest(value: Any) -> str:
    known = hashlib.blake2b()

    def add(item: Any) -> None:
        if isinstance(item, Tensor):
            known.update(item.detach().contiguous().numpy().tobytes())
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
