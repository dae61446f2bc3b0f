"""Training one network on images that are read from disk as they are needed, on one device or on many ranks.

A step's global batch is cut into ranks * accumulate parts, and all that is random in a part (Mixup, erasing, dropped
paths) is a function of the seed, the step and the part's number: k ranks therefore take the same step as one rank that
accumulates k times. Each part has batch-norm statistics of its own; the running ones are averaged over the ranks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from se_nas.data.on_disk.encoded_images import EncodedImages
from se_nas.data.on_disk.stream import EvaluationStream, TrainStream
from se_nas.data.on_disk.transforms import normalise
from se_nas.errors import CheckpointError
from se_nas.hardware.device import autocast_as, autocast_dtype
from se_nas.layers.network import Network, initialise
from se_nas.records.checkpoint import load_checkpoint, previous_path
from se_nas.records.files import write_json
from se_nas.records.run_log import RunLog, SilentLog
from se_nas.space.specs import NetworkSpec
from se_nas.training.distributed import Ranks
from se_nas.training.evaluate import top_accuracies
from se_nas.training.initial_weights import InitialWeights
from se_nas.training.loop import GuardConfig, Loop, Stateful, StepContext
from se_nas.training.optimizer import clip_gradients, set_learning_rate
from se_nas.training.recipe import Recipe
from se_nas.training.timm_parts import (
    distillation_loss,
    learning_rates,
    make_average,
    make_erasing,
    make_loss,
    make_mixup,
    make_optimizer,
)
from se_nas.training.trained_network import BEST_WEIGHTS, WEIGHTS, save_weights

SAVE_EVERY_SECONDS = 300.0
DAMAGED = "damaged.json"


@dataclass(frozen=True)
class DiskTraining:
    """What a training from disk gave.

    Attributes:
        history: one dict an epoch: epoch, step, loss, lr, accuracy (of training, where labels are not mixed), and of
            the held-out images val_top1, val_top5, ema_val_top1, ema_val_top5 in epochs that looked at them.
        best: the epoch of the best held-out top-1 accuracy, which of "network" and "average" had it, and its value.
        seconds: wall time, added up over resumed processes.
        images: training images seen, by all ranks.
        damaged: names of images that could not be decoded, with the reason.
    """

    history: list[dict[str, Any]]
    best: dict[str, Any]
    seconds: float
    images: int
    damaged: dict[str, str]


class _Best:
    """The best held-out accuracy so far, as a part of the training state, and on the first rank its file of weights."""

    def __init__(self, path: Path | None) -> None:
        self.found: dict[str, Any] = {"epoch": None, "weights": None, "top1": -1.0}
        self._path = path

    def save(self, network: nn.Module, average: nn.Module | None) -> None:
        """Write the weights that were found best, which are those of now."""
        if self._path is not None:
            save_weights(self._path, network, average, **self.found)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.found)

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.found = dict(state)
        # an epoch that is undone may have put its own weights in the file's place
        if self._path is not None and not self._is_of(self._path) and self._is_of(previous_path(self._path)):
            os.replace(previous_path(self._path), self._path)

    def _is_of(self, path: Path) -> bool:
        try:
            saved = load_checkpoint(path)
        except CheckpointError:
            return False
        return {name: saved.get(name) for name in self.found} == self.found


def train_from_disk(
    spec: NetworkSpec,
    recipe: Recipe,
    train: EncodedImages,
    held_out: EncodedImages,
    *,
    ranks: Ranks,
    device: torch.device,
    seed: int,
    workers: int,
    folder: Path,
    resume: bool,
    teacher: nn.Module | None = None,
    max_damaged: int = 100,
    keep_every: int | None = None,
    initial: InitialWeights | None = None,
    progress: bool = True,
    console: Console | None = None,
) -> DiskTraining:
    """Train a network; `folder` gets the checkpoint, the log and the weights, last and best.

    Args:
        workers: processes of this rank that decode images; 0 decodes in this one.
        teacher: a network in evaluation mode on `device`, for a recipe with distillation.
        max_damaged: images of this rank that may be left out because they cannot be decoded.
        keep_every: epochs between two files of weights that are kept, `epochs/NNNN.pt`; None keeps none.
        initial: what to start from in place of random weights.

    Raises:
        CheckpointError: the checkpoint in `folder` is damaged or of another training.
        ConfigError: the batch cannot be divided among the ranks, or images are fewer than a batch.
        DataError: too many images are damaged.
        TrainingError: the loss does not stay finite, or another rank was lost.
    """
    console = console or Console(stderr=True)

    def report(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    with ranks.together():
        micro_batch = recipe.micro_batch(ranks.size)
        stream = TrainStream(
            train,
            recipe.train_transform(spec.resolution),
            batch_size=recipe.batch_size,
            rank=ranks.rank,
            ranks=ranks.size,
            accumulate=recipe.accumulate,
            seed=seed,
            workers=workers,
            repeats=recipe.repeats,
            max_damaged=max_damaged,
            pin_memory=device.type == "cuda",
            report=report,
        )
        looked_at = EvaluationStream(
            held_out,
            recipe.eval_transform(spec.resolution),
            batch_size=micro_batch,
            rank=ranks.rank,
            ranks=ranks.size,
            workers=workers,
            max_damaged=max_damaged,
            pin_memory=device.type == "cuda",
            report=report,
        )
    try:
        return train_on_streams(
            spec,
            recipe,
            stream,
            looked_at,
            ranks=ranks,
            device=device,
            seed=seed,
            folder=folder,
            resume=resume,
            teacher=teacher,
            keep_every=keep_every,
            initial=initial,
            progress=progress,
            console=console,
        )
    finally:
        stream.close()


def train_on_streams(
    spec: NetworkSpec,
    recipe: Recipe,
    stream: TrainStream,
    looked_at: EvaluationStream,
    *,
    ranks: Ranks,
    device: torch.device,
    seed: int,
    folder: Path,
    resume: bool,
    teacher: nn.Module | None,
    keep_every: int | None,
    initial: InitialWeights | None = None,
    progress: bool,
    console: Console,
) -> DiskTraining:
    """What `train_from_disk` does once the images stream; it does not close the streams.

    Args:
        stream: of this rank's training batches.
        looked_at: of this rank's held-out images.
    """
    torch.manual_seed(seed)
    network = Network(spec)
    initialise(network, zero_last=recipe.zero_init_last)
    if initial is not None:
        initial.put_into(network)
    network.set_drop_path(recipe.drop_path)
    if recipe.dropout is not None:
        network.set_dropout(recipe.dropout)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    network = network.to(device, memory_format=layout)  # type: ignore[call-overload]
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    run = torch.compile(network) if recipe.compile else network
    wrapped = ranks.wrapped(run, device)  # type: ignore[arg-type]

    steps = stream.steps_per_epoch
    optimizer = make_optimizer(network, recipe, recipe.peak_learning_rate)
    rates = learning_rates(recipe, steps)
    criterion = make_loss(recipe)
    mixup = make_mixup(recipe, spec.head.classes)
    erasing = make_erasing(recipe)
    average = make_average(network, recipe)
    averaged = average.module if average is not None else None
    halves = autocast_dtype(device, recipe.precision) == torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=halves)
    best = _Best(folder / BEST_WEIGHTS if ranks.first else None)

    def step(context: StepContext) -> dict[str, float | Tensor]:
        rate = rates(context.step) * context.lr_scale
        set_learning_rate(optimizer, rate)
        network.train()
        optimizer.zero_grad(set_to_none=True)
        losses, hits = [], []
        micro_batches = stream.micro_batches(context.epoch, context.step_in_epoch)
        for number, (images, labels) in enumerate(micro_batches):
            part_seed = _part_seed(context.seed, number * ranks.size + ranks.rank)
            x = normalise(images.to(device, non_blocking=True))
            y = labels.to(device, non_blocking=True)
            target = y
            mixing = mixup if recipe.mixes_in(context.epoch) else None
            if mixing is not None:
                x, target = mixing(x, y, part_seed)
            if erasing is not None:
                x = erasing(x, part_seed)
            torch.manual_seed(part_seed)
            last = number + 1 == len(micro_batches)
            with nullcontext() if last or ranks.size == 1 else wrapped.no_sync():  # type: ignore[operator]
                with autocast_as(device, recipe.precision):
                    logits = wrapped(x)
                loss = criterion(logits.float(), target)
                if teacher is not None and recipe.distillation is not None:
                    loss = _distilled(recipe, loss, logits, teacher, x, device)
                scaler.scale(loss / len(micro_batches)).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            if mixing is None:
                hits.append((logits.detach().argmax(1) == y).float().mean())
        if recipe.clip is not None:
            scaler.unscale_(optimizer)
            clip_gradients(network.parameters(), recipe.clip)
        scaler.step(optimizer)
        scaler.update()
        ranks.average_(network.buffers())
        if average is not None:
            average.update(context.step)
        metrics: dict[str, float | Tensor] = {"loss": torch.stack(losses).mean(), "lr": rate}
        return metrics | ({"accuracy": torch.stack(hits).mean()} if hits else {})

    def end_epoch(epoch: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        if (epoch + 1) % recipe.evaluate_every == 0 or epoch + 1 == recipe.epochs:
            for name, candidate in (("network", network), ("average", averaged)):
                if candidate is None:
                    continue
                found = top_accuracies(candidate, looked_at, device, ranks, recipe.precision)
                prefix = "ema_val" if name == "average" else "val"
                result |= {f"{prefix}_top1": found["top1"], f"{prefix}_top5": found["top5"]}
                if found["top1"] > best.found["top1"]:
                    best.found = {"epoch": epoch, "weights": name, "top1": found["top1"]}
            if best.found["epoch"] == epoch:
                best.save(network, averaged)
        if keep_every and (epoch + 1) % keep_every == 0 and ranks.first:
            save_weights(folder / "epochs" / f"{epoch + 1:04d}.pt", network, averaged, epoch=epoch)
        _record_damaged(folder, ranks, known | stream.damaged | looked_at.damaged)
        return result

    known = _recorded_damaged(folder) if resume and ranks.first else {}

    state: dict[str, Stateful] = {"network": network, "optimizer": optimizer, "best": best}
    if average is not None:
        state["average"] = average
    if halves:
        state["scaler"] = scaler
    with ranks.losing_none(), RunLog(folder) if ranks.first else SilentLog() as log:
        loop = Loop(
            name="retrain",
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            step=step,
            end_epoch=end_epoch,
            state=state,
            checkpoint=folder / "checkpoint.pt",
            log=log,
            seed=seed,
            guard=GuardConfig(check_every=1 if device.type == "cpu" else 10),
            save_every_seconds=SAVE_EVERY_SECONDS,
            progress=progress,
            console=console,
            ranks=ranks,
        )
        history = loop.run(resume)
    if ranks.first:
        save_weights(folder / WEIGHTS, network, averaged, epoch=recipe.epochs - 1)
    return DiskTraining(
        history,
        best.found,
        loop.seconds,
        recipe.epochs * steps * recipe.batch_size,
        _record_damaged(folder, ranks, known | stream.damaged | looked_at.damaged),
    )


def _distilled(
    recipe: Recipe, loss: Tensor, logits: Tensor, teacher: nn.Module, x: Tensor, device: torch.device
) -> Tensor:
    """The loss and the distillation loss, weighted."""
    assert recipe.distillation is not None
    alpha, temperature = recipe.distillation.alpha, recipe.distillation.temperature
    with torch.no_grad(), autocast_as(device, recipe.precision):
        wanted = teacher(x)
    return (1 - alpha) * loss + alpha * distillation_loss(logits.float(), wanted.float(), temperature)


def _part_seed(seed: int, part: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {part}".encode(), digest_size=8).digest(), "little") >> 1


def _record_damaged(folder: Path, ranks: Ranks, damaged: Mapping[str, str]) -> dict[str, str]:
    """All ranks' damaged images; the first rank writes them down where there are any."""
    found = {name: reason for part in ranks.gathered(dict(damaged)) for name, reason in part.items()}
    if found and ranks.first:
        write_json(folder / DAMAGED, dict(sorted(found.items())))
    return found


def _recorded_damaged(folder: Path) -> dict[str, str]:
    """What an earlier process wrote down; images that it met may not come again in what is left of the last epoch."""
    path = folder / DAMAGED
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found
