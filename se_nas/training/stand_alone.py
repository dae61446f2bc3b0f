"""Training one network from scratch; the images that it is held against are looked at, never learned from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationInfo, field_validator
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from se_nas.data.in_memory.batches import Augmentation, DeviceImages, batches_per_epoch, epoch_order
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.hardware.device import autocast_for
from se_nas.layers.network import Network, initialise
from se_nas.records.numbers import BatchSize, Count, CountFromZero
from se_nas.records.record import Record
from se_nas.records.run_log import RunLog
from se_nas.space.specs import NetworkSpec
from se_nas.training.evaluate import accuracy
from se_nas.training.initial_weights import InitialWeights
from se_nas.training.loop import GuardConfig, Loop, Stateful, StepContext
from se_nas.training.optimizer import WeightAverage, clip_gradients, cosine_lr, make_sgd, set_learning_rate


class StepRecipe(Record):
    """How a network learns from its training images.

    Attributes:
        epochs: passes over the training images.
        batch_size: images in one step.
        momentum, weight_decay: of SGD with Nesterov momentum; norms and biases do not decay.
        label_smoothing: share of the target that is spread over all classes.
        learning_rate: peak of the cosine schedule, for this batch size.
        warmup_epochs: length of the linear rise to the peak.
        clip: greatest norm of all gradients together.
        cutout: side in pixels of the square that is blanked out (0: none).
    """

    epochs: Count = 30
    batch_size: BatchSize = 128
    learning_rate: float = Field(0.1, gt=0)
    warmup_epochs: float = Field(1.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    clip: float = Field(5.0, gt=0)
    cutout: CountFromZero = 0

    @field_validator("warmup_epochs")
    @classmethod
    def _ends(cls, value: float, info: ValidationInfo) -> float:
        if value > info.data.get("epochs", value):
            raise ValueError(f"must be at most epochs, {info.data['epochs']}")
        return value


class TrainingRecipe(StepRecipe):
    """How a found network is trained from scratch.

    Attributes:
        ema_decay: decay of a running average of the weights, which is evaluated beside them; null is no average.
        test_every: epochs between two looks at the test images, for the curve alone.
    """

    ema_decay: float | None = Field(None, gt=0, lt=1)
    test_every: Count = 5


@dataclass(frozen=True)
class HeldOut:
    """Images that a training looks at and never learns from.

    Attributes:
        name: what the history calls them: "test" gives it `test_accuracy`, and `ema_test_accuracy` of averaged weights.
        every: epochs between two looks; there is one after the last epoch anyhow.
    """

    name: str
    images: ImageSet
    every: int = 1


@dataclass(frozen=True)
class Training:
    """A trained network and what its training gave.

    Attributes:
        history: one dict an epoch: epoch, step, loss, accuracy (of training), lr, and the held-out accuracies, which
            are None in epochs without a look.
        seconds, cpu_seconds: wall and CPU time of the training, added up over resumed processes.
        images: training images seen.
        average: the network with averaged weights; None where there is no average.
    """

    network: Network
    history: list[dict[str, Any]]
    seconds: float
    cpu_seconds: float
    images: int
    average: nn.Module | None


@dataclass(frozen=True)
class Trained(Training):
    """A network trained on all training images, and what the test images say of it.

    Attributes:
        ema_test_accuracy: of the averaged weights; None where the recipe has none.
        test_images: images that the test accuracy is over.
    """

    test_accuracy: float
    ema_test_accuracy: float | None
    test_images: int


def train_network(
    spec: NetworkSpec,
    recipe: TrainingRecipe,
    info: DataInfo,
    train: ImageSet,
    test: ImageSet,
    *,
    device: torch.device,
    seed: int,
    folder: Path,
    resume: bool,
    initial: InitialWeights | None = None,
    progress: bool = True,
    console: Console | None = None,
) -> Trained:
    """Train on all training images and look at the test images; otherwise as `train_from_scratch`."""
    training = train_from_scratch(
        spec,
        recipe,
        info,
        train,
        HeldOut("test", test, recipe.test_every),
        phase="retrain",
        ema_decay=recipe.ema_decay,
        device=device,
        seed=seed,
        folder=folder,
        resume=resume,
        initial=initial,
        progress=progress,
        console=console,
    )
    last = training.history[-1]
    return Trained(
        **vars(training),
        test_accuracy=last["test_accuracy"],
        ema_test_accuracy=last.get("ema_test_accuracy"),
        test_images=len(test),
    )


def train_from_scratch(
    spec: NetworkSpec,
    recipe: StepRecipe,
    info: DataInfo,
    train: ImageSet,
    held_out: HeldOut,
    *,
    phase: str,
    ema_decay: float | None = None,
    after_look: Callable[[int, float], None] | None = None,
    device: torch.device,
    seed: int,
    folder: Path,
    resume: bool,
    initial: InitialWeights | None = None,
    progress: bool = True,
    console: Console | None = None,
) -> Training:
    """Train a network; checkpoints and logs go to `folder`, from which `resume` continues.

    Args:
        phase: names the training in the log and on the screen, and enters every random number.
        ema_decay: see `TrainingRecipe`.
        after_look: given an epoch, from 0, and the held-out accuracy of the weights after it. What it raises ends the
            training, which can be resumed. Epochs that a rollback or a resumed process repeats are looked at again.
        initial: what to start from in place of random weights.
        progress, console: see `training.loop.Loop`.

    Raises:
        CheckpointError: the checkpoint in `folder` is damaged or of another training.
        TrainingError: the loss does not stay finite.
    """
    torch.manual_seed(seed)
    network = Network(spec)
    initialise(network)
    if initial is not None:
        initial.put_into(network)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    augmented = DeviceImages(info, train, device, Augmentation(info.flip, info.crop_padding, recipe.cutout))
    looked_at = DeviceImages(info, held_out.images, device)
    everything = torch.arange(len(looked_at))
    optimizer = make_sgd(network, recipe.learning_rate, recipe.weight_decay, recipe.momentum)
    average = WeightAverage(network, ema_decay) if ema_decay is not None else None
    steps = batches_per_epoch(len(train), recipe.batch_size)
    order: dict[int, torch.Tensor] = {}

    def step(context: StepContext) -> dict[str, float | torch.Tensor]:
        if context.epoch not in order:
            order.clear()
            order[context.epoch] = epoch_order(len(train), seed, context.epoch)
        start = context.step_in_epoch * recipe.batch_size
        x, y = augmented.batch(order[context.epoch][start : start + recipe.batch_size])
        warmup = int(recipe.warmup_epochs * steps)
        rate = cosine_lr(context.step, context.total_steps, warmup, recipe.learning_rate, 0.0) * context.lr_scale
        set_learning_rate(optimizer, rate)
        network.train()
        optimizer.zero_grad(set_to_none=True)
        with autocast_for(device, True):
            logits = network(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=recipe.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(network.parameters(), recipe.clip)
        optimizer.step()
        if average is not None:
            average.update()
        return {"loss": loss.detach(), "accuracy": (logits.argmax(1) == y).float().mean(), "lr": rate}

    def end_epoch(epoch: int) -> dict[str, Any]:
        due = (epoch + 1) % held_out.every == 0 or epoch + 1 == recipe.epochs
        found = accuracy(network, looked_at, everything) if due else None
        result: dict[str, Any] = {f"{held_out.name}_accuracy": found}
        if average is not None:
            of_average = accuracy(average.module, looked_at, everything) if due else None
            result[f"ema_{held_out.name}_accuracy"] = of_average
        if found is not None and after_look is not None:
            after_look(epoch, found)
        return result

    state: dict[str, Stateful] = {"network": network, "optimizer": optimizer}
    if average is not None:
        state["average"] = average
    with RunLog(folder) as log:
        loop = Loop(
            name=phase,
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            step=step,
            end_epoch=end_epoch,
            state=state,
            checkpoint=folder / "checkpoint.pt",
            log=log,
            seed=seed,
            guard=GuardConfig(check_every=1 if device.type == "cpu" else 10),
            progress=progress,
            console=console,
        )
        history = loop.run(resume)
    images = recipe.epochs * steps * min(recipe.batch_size, len(train))
    averaged = average.module if average is not None else None
    return Training(network, history, loop.seconds, loop.cpu_seconds, images, averaged)
