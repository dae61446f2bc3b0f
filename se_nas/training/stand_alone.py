"""Training one network from scratch on all training images; the test images are looked at, never selected by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.nn import functional as F

from se_nas.data.batches import Augmentation, DeviceImages, batches_per_epoch, epoch_order
from se_nas.data.images import DataInfo, ImageSet
from se_nas.layers.network import Network, initialise
from se_nas.space.specs import NetworkSpec
from se_nas.training.device import autocast_for
from se_nas.training.evaluate import accuracy
from se_nas.training.log import RunLog
from se_nas.training.loop import GuardConfig, Loop, Stateful, StepContext
from se_nas.training.optimizer import WeightAverage, clip_gradients, cosine_lr, make_sgd, set_learning_rate


class TrainingRecipe(BaseModel):
    """How a network is trained from scratch.

    Attributes:
        learning_rate: peak of the cosine schedule, for this batch size.
        clip: greatest norm of all gradients together.
        ema_decay: of a running average of the weights, evaluated beside them; None for no average.
        cutout: side in pixels of the square that is blanked out (0: none).
        test_every: epochs between two looks at the test images, for the curve alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(0.1, gt=0)
    warmup_epochs: float = Field(1.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    clip: float = Field(5.0, gt=0)
    ema_decay: float | None = Field(None, gt=0, lt=1)
    cutout: int = Field(0, ge=0)
    test_every: int = Field(5, ge=1)


@dataclass(frozen=True)
class Trained:
    """A trained network and what its training gave.

    Attributes:
        ema_test_accuracy: of the averaged weights; None where the recipe has none.
        seconds: wall time of the training, added up over resumed processes.
        images: training images seen; test_images: images that the test accuracy is over.
    """

    network: Network
    history: list[dict[str, Any]]
    test_accuracy: float
    ema_test_accuracy: float | None
    seconds: float
    images: int
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
    progress: bool = True,
) -> Trained:
    """Train from random weights; checkpoints and logs go to `folder`, from which `resume` continues.

    Raises:
        CheckpointError: the checkpoint in `folder` is damaged or of another training.
        TrainingError: the loss does not stay finite.
    """
    torch.manual_seed(seed)
    network = Network(spec)
    initialise(network)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    augmented = DeviceImages(info, train, device, Augmentation(info.flip, info.crop_padding, recipe.cutout))
    held_out = DeviceImages(info, test, device)
    everything = torch.arange(len(test))
    optimizer = make_sgd(network, recipe.learning_rate, recipe.weight_decay, recipe.momentum)
    average = WeightAverage(network, recipe.ema_decay) if recipe.ema_decay is not None else None
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
        due = (epoch + 1) % recipe.test_every == 0 or epoch + 1 == recipe.epochs
        result: dict[str, Any] = {"test_accuracy": accuracy(network, held_out, everything) if due else None}
        if average is not None:
            result["ema_test_accuracy"] = accuracy(average.module, held_out, everything) if due else None
        return result

    state: dict[str, Stateful] = {"network": network, "optimizer": optimizer}
    if average is not None:
        state["average"] = average
    with RunLog(folder) as log:
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
            progress=progress,
        )
        history = loop.run(resume)
    last = history[-1]
    return Trained(
        network,
        history,
        test_accuracy=last["test_accuracy"],
        ema_test_accuracy=last.get("ema_test_accuracy"),
        seconds=loop.seconds,
        images=recipe.epochs * steps * min(recipe.batch_size, len(train)),
        test_images=len(test),
    )
