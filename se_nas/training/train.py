"""Training one network by a recipe, on one device or on many ranks; its images may lie in memory or on disk.

A step's batch is cut into ranks * accumulate parts, and all that is random in a part (augmentation, Mixup, erasing,
dropped paths) is a function of the seed, the step and the part's number: k ranks therefore take the same step as one
rank that accumulates k times. Each part has batch-norm statistics of its own; the running ones are averaged over the
ranks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from se_nas.cost.memory import least_training_bytes
from se_nas.data.balance import balanced_weights
from se_nas.data.training_batches import TrainingBatches
from se_nas.errors import CheckpointError
from se_nas.hardware.device import arithmetic, autocast_dtype, autocast_for
from se_nas.hardware.distributed import Ranks
from se_nas.hardware.graph_step import PARTS, RANKS, Compiled, GraphStep, captures, compiles
from se_nas.hardware.memory import check_fits
from se_nas.layers.freezing import freeze
from se_nas.layers.network import Network, initialise
from se_nas.records.checkpoint import StateDict, load_checkpoint, previous_path
from se_nas.records.files import write_json
from se_nas.records.models.history import History
from se_nas.records.models.run_result import BestEpoch
from se_nas.records.record import read_value
from se_nas.records.run_log import RunLog, SilentLog
from se_nas.space.specs import NetworkSpec
from se_nas.training.evaluate import top_accuracies
from se_nas.training.guard import GuardConfig, Stateful
from se_nas.training.images import HeldOutImages, part_seed
from se_nas.training.initial_weights import InitialWeights
from se_nas.training.loop import Loop, StepContext
from se_nas.training.metrics import print_line
from se_nas.training.optimizer import WeightUpdate, make_average
from se_nas.training.recipe import Recipe
from se_nas.training.timm_parts import distillation_loss, make_cutout, make_erasing, make_loss, make_mixup
from se_nas.training.trained_network import BEST_WEIGHTS, Accuracies, save_weights

SAVE_EVERY_SECONDS = 120.0
DAMAGED = "damaged.json"


@dataclass(frozen=True)
class HeldOut:
    """Images that a training looks at and never learns from.

    Attributes:
        columns: what the history calls the accuracies "top1" and "top5" that it is to have; those of averaged weights
            get "ema_" before the name.
        keep_best: whether the best weights by these images are kept. Not of test images that a result is told of.
        after_look: given an epoch, from 0, and the top-1 accuracy of the weights after it. What it raises ends the
            training, which can be resumed. Epochs that a rollback or a resumed process repeats are looked at again.
    """

    images: HeldOutImages
    columns: Mapping[str, str]
    keep_best: bool = False
    after_look: Callable[[int, float], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training came to.

    Attributes:
        average: the network with averaged weights; None where the recipe has no average.
        history: an entry an epoch: epoch, step, loss, lr, accuracy (of training, where labels are not mixed), and the
            held-out accuracies, which are None in epochs without a look; balanced_accuracy, the mean over the classes;
            and in the last epoch class_accuracy and class_images, a list each of all classes.
        accuracies: top-1 on the held-out images at the end.
        best: by held-out top-1 accuracy, where the best weights are kept; else None.
        seconds, cpu_seconds: wall and CPU time of this rank, added up over resumed processes.
        images: training images seen, by all ranks.
        damaged: names of images that could not be decoded, with the reason.
    """

    network: Network
    average: nn.Module | None
    history: History
    accuracies: Accuracies
    best: BestEpoch | None
    seconds: float
    cpu_seconds: float
    images: int
    damaged: dict[str, str]


class _Best:
    """The best held-out accuracy so far, as a part of the training state, and on the first rank its file of weights."""

    def __init__(self, path: Path | None) -> None:
        self.found: BestEpoch | None = None
        self._path = path

    def save(self, network: nn.Module, average: nn.Module | None, accuracies: Accuracies) -> None:
        """Write the weights that were found best, which are those of now."""
        if self._path is not None and self.found is not None:
            save_weights(self._path, network, average, accuracies=accuracies, **self.found.plain())

    def state_dict(self) -> StateDict:
        return self.found.plain() if self.found else {}

    def load_state_dict(self, state: StateDict, /) -> None:
        self.found = BestEpoch(**state) if state.get("epoch") is not None else None
        # an epoch that is undone may have put its own weights in the file's place
        if self._path is not None and not self._is_of(self._path) and self._is_of(previous_path(self._path)):
            os.replace(previous_path(self._path), self._path)

    def _is_of(self, path: Path) -> bool:
        try:
            saved = load_checkpoint(path)
        except CheckpointError:
            return False
        return self.found is not None and all(saved.get(name) == value for name, value in self.found.plain().items())


def train(
    spec: NetworkSpec,
    recipe: Recipe,
    images: TrainingBatches,
    held_out: HeldOut,
    *,
    device: torch.device,
    seed: int,
    folder: Path,
    resume: bool,
    name: str = "retrain",
    ranks: Ranks | None = None,
    teacher: nn.Module | None = None,
    keep_every: int | None = None,
    initial: InitialWeights | None = None,
    progress: bool = True,
    console: Console | None = None,
) -> Outcome:
    """Train a network; checkpoints, logs and the best weights go to `folder`, from which `resume` continues.

    Args:
        images: of this rank; closed at the end.
        name: of the training in the log and on the screen; enters every random number.
        teacher: a network in evaluation mode on `device`, for a recipe with distillation.
        keep_every: epochs between two files of weights that are kept, `epochs/NNNN.pt`; None keeps none.
        initial: what to start from in place of random weights.
        progress, console: see `training.loop.Loop`.

    Raises:
        CheckpointError: the checkpoint in `folder` is damaged or of another training.
        DataError: too many images are damaged.
        TrainingError: the loss does not stay finite, or another rank was lost.
    """
    ranks = ranks or Ranks()
    batch = recipe.micro_batch(ranks.size)
    what = f"training: the network with batches of {batch:,} images takes"
    check_fits(least_training_bytes(spec, batch), device, what)
    network = _network(spec, recipe, seed, initial, device)
    frozen = freeze(network, recipe.freeze)
    kept = {buffer for module in frozen for buffer in module.buffers()}
    running = [buffer for buffer in network.buffers() if buffer not in kept]
    steps = recipe.epochs * images.per_epoch
    compiled = Compiled(network) if compiles(recipe.compile, device, steps) else None
    wrapped = ranks.wrapped(compiled or network, device)

    halves = autocast_dtype(device, recipe.precision) == torch.float16
    captured = captures_steps(recipe, device, ranks.size, steps)
    update = WeightUpdate(network, recipe, images.per_epoch, device=device, scaled=halves)
    weights_of_classes = None
    if recipe.class_weights is not None:
        weights_of_classes = torch.from_numpy(balanced_weights(images.labels, spec.head.classes)).to(device)
    criterion = make_loss(recipe, weights_of_classes)
    mixup = make_mixup(recipe, spec.head.classes)
    changes = [change for change in (make_cutout(recipe), make_erasing(recipe)) if change is not None]
    average = make_average(network, recipe)
    averaged = average.module if average is not None else None
    best = _Best(folder / BEST_WEIGHTS if ranks.first and held_out.keep_best else None)

    def passes(x: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        """The loss and, of labels that are not mixed, the accuracy of a part, whose gradients are added."""
        with autocast_for(device, recipe.precision):
            logits = wrapped(x)
        loss = criterion(logits.float(), target)
        if teacher is not None and recipe.distillation is not None:
            loss = _distilled(recipe, loss, logits, teacher, x, device)
        update.backward(loss / recipe.accumulate)
        hits = () if target.dim() > 1 else ((logits.detach().argmax(1) == target).float().mean(),)
        return loss.detach(), *hits

    def say(line: str) -> None:
        if ranks.first:
            print_line(console or Console(stderr=True), f"{name}: {line}")

    run = GraphStep(passes, network, compiled=compiled, captured=captured, say=say)

    def step(context: StepContext) -> dict[str, float | Tensor]:
        rate = update.begin(context)
        network.train()
        for module in frozen:
            module.eval()
        found = []
        mixing = mixup if recipe.mixes_in(context.epoch) else None
        for number, (x, y) in enumerate(images.parts(context.step, context.seed)):
            own_seed = part_seed(context.seed, number * ranks.size + ranks.rank)
            target = y
            if mixing is not None:
                x, target = mixing(x, y, own_seed)
            for change in changes:
                x = change(x, own_seed)
            torch.manual_seed(own_seed)
            last = number + 1 == recipe.accumulate
            with nullcontext() if last or ranks.size == 1 else wrapped.no_sync():  # type: ignore[operator]
                found.append(run(x, target))
        update.end()
        ranks.average_(running)
        if average is not None:
            average.update(context.step)
        loss, *hits = (torch.stack(each).mean() for each in zip(*found, strict=True))
        metrics: dict[str, float | Tensor] = {"loss": loss, "lr": rate}
        return metrics | ({"accuracy": hits[0]} if hits else {})

    def look(epoch: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        due = (epoch + 1) % recipe.evaluate_every == 0 or epoch + 1 == recipe.epochs
        for weights, prefix, candidate in (("network", "", network), ("average", "ema_", averaged)):
            if candidate is None:
                continue
            found = top_accuracies(candidate, held_out.images, device, ranks, recipe.precision) if due else None
            result |= {prefix + column: found and getattr(found, kind) for kind, column in held_out.columns.items()}
            result[f"{prefix}balanced_accuracy"] = found and found.balanced
            if found is None:
                continue
            if epoch + 1 == recipe.epochs:
                result |= {f"{prefix}class_accuracy": found.by_class, "class_images": found.class_images}
            if best.found is None or found.top1 > best.found.top1:
                best.found = BestEpoch(epoch=epoch, weights=weights, top1=found.top1)
            if weights == "network" and held_out.after_look is not None:
                held_out.after_look(epoch, found.top1)
        if best.found is not None and best.found.epoch == epoch:
            best.save(network, averaged, accuracies_in(result, held_out))
        return result

    def end_epoch(epoch: int) -> dict[str, Any]:
        result = look(epoch)
        if keep_every and (epoch + 1) % keep_every == 0 and ranks.first:
            path = folder / "epochs" / f"{epoch + 1:04d}.pt"
            save_weights(path, network, averaged, accuracies=accuracies_in(result, held_out), epoch=epoch)
        damaged()
        return result

    known = _recorded_damaged(folder) if resume and ranks.first else {}

    def damaged() -> dict[str, str]:
        return _record_damaged(folder, ranks, {**known, **images.damaged, **held_out.images.damaged})

    state: dict[str, Stateful] = {"network": network, **update.state}
    if held_out.keep_best:
        state["best"] = best
    if average is not None:
        state["average"] = average
    try:
        with arithmetic(device, tuned=True), ranks.losing_none(), RunLog(folder) if ranks.first else SilentLog() as log:
            loop = Loop(
                name=name,
                epochs=recipe.epochs,
                steps_per_epoch=images.per_epoch,
                step=step,
                end_epoch=end_epoch,
                state=state,
                checkpoint=folder / "checkpoint.pt",
                log=log,
                seed=seed,
                guard=GuardConfig.for_device(device),
                save_every_seconds=SAVE_EVERY_SECONDS,
                progress=progress,
                console=console,
                ranks=ranks,
            )
            history = loop.run(resume)
    finally:
        images.close()
    return Outcome(
        network=network,
        average=averaged,
        history=history,
        accuracies=accuracies_in(history[-1].plain(), held_out),
        best=best.found if held_out.keep_best else None,
        seconds=loop.seconds,
        cpu_seconds=loop.cpu_seconds,
        images=recipe.epochs * images.per_epoch * images.images_per_batch,
        damaged=damaged(),
    )


def accuracies_in(epoch: Mapping[str, float | None], held_out: HeldOut) -> Accuracies:
    """What an epoch of the history says of the held-out images."""
    column = held_out.columns["top1"]
    return {"network": epoch.get(column), "average": epoch.get(f"ema_{column}")}


def captures_steps(recipe: Recipe, device: torch.device, ranks: int, steps: int, where: str = "recipe") -> bool:
    """Whether CUDA captures the steps of a training by a recipe; see `captures`."""
    hindrances = {
        RANKS: ranks > 1,
        PARTS: recipe.accumulate > 1,
        "with float16, whose gradients are scaled": autocast_dtype(device, recipe.precision) == torch.float16,
    }
    return captures(recipe.cuda_graphs, device, steps, where, hindrances)


def _network(
    spec: NetworkSpec, recipe: Recipe, seed: int, initial: InitialWeights | None, device: torch.device
) -> Network:
    """The network as a training begins."""
    torch.manual_seed(seed)
    network = Network(spec)
    initialise(network, zero_last=recipe.zero_init_last)
    if initial is not None:
        initial.put_into(network)
    network.set_drop_path(recipe.drop_path)
    if recipe.dropout is not None:
        network.set_dropout(recipe.dropout)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _distilled(
    recipe: Recipe, loss: Tensor, logits: Tensor, teacher: nn.Module, x: Tensor, device: torch.device
) -> Tensor:
    """The loss and the distillation loss, weighted."""
    assert recipe.distillation is not None
    alpha, temperature = recipe.distillation.alpha, recipe.distillation.temperature
    with torch.no_grad(), autocast_for(device, recipe.precision):
        wanted = teacher(x)
    return (1 - alpha) * loss + alpha * distillation_loss(logits.float(), wanted.float(), temperature)


def _record_damaged(folder: Path, ranks: Ranks, damaged: Mapping[str, str]) -> dict[str, str]:
    """All ranks' damaged images; the first rank writes them down where there are any."""
    found = {name: reason for part in ranks.gathered(dict(damaged)) for name, reason in part.items()}
    if found and ranks.first:
        write_json(folder / DAMAGED, dict(sorted(found.items())))
    return found


def _recorded_damaged(folder: Path) -> dict[str, str]:
    """What an earlier process wrote down; images that it met may not come again in what is left of the last epoch."""
    path = folder / DAMAGED
    found: dict[str, str] = read_value(dict[str, str], path) if path.exists() else {}
    return found
