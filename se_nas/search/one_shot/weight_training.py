"""What every training of a supernet's weights shares: its set-up, the order of its batches and the end of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from se_nas.data.in_memory.batches import Augmentation, DeviceImages, batches_per_epoch, epoch_order
from se_nas.errors import ConfigError
from se_nas.records.numbers import BatchSize, Count
from se_nas.records.record import Record
from se_nas.records.run_log import RunLog
from se_nas.search.problem import SearchProblem
from se_nas.supernet.supernet import SuperNet
from se_nas.training.loop import GuardConfig, Loop, Stateful, StepContext
from se_nas.training.optimizer import clip_gradients, cosine_lr, make_sgd, set_learning_rate

#: File in a problem's folder that the training of its supernet goes on from, and that holds it when it is done.
CHECKPOINT = "checkpoint.pt"


class WeightConfig(Record):
    """How the weights of a supernet are trained.

    Attributes:
        batch_size: images in one step.
        learning_rate: peak of the schedule, which rises linearly and then falls to 0 as half a cosine.
        rate_warmup_epochs: length of the linear rise.
        momentum, weight_decay: of SGD with Nesterov momentum; norms and biases do not decay.
        label_smoothing: share of the target that is spread over all classes.
        clip: greatest norm of all gradients together.
        calibration_images: training images by which the batch norms of an architecture are recalibrated before it is
            evaluated.
    """

    batch_size: BatchSize = 128
    learning_rate: float = Field(0.1, gt=0)
    rate_warmup_epochs: float = Field(1.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(4e-5, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    clip: float = Field(5.0, gt=0)
    calibration_images: Count = 2048

    def _check_rate_warmup(self, epochs: int) -> None:
        """Raise ValueError unless the rise of the learning rate ends in a training of so many epochs."""
        if self.rate_warmup_epochs > epochs:
            raise ValueError(f"rate_warmup_epochs, {self.rate_warmup_epochs:g}, must be at most all epochs, {epochs}")


class PartBatches:
    """The batches of some of a problem's images, numbered over a whole training; each pass has an order of its own.

    Args:
        indices: (n,) of the images.
    """

    def __init__(self, images: DeviceImages, indices: Tensor, batch_size: int, seed: int) -> None:
        self._images, self._indices, self._size, self._seed = images, indices, batch_size, seed
        self.per_epoch = batches_per_epoch(len(indices), batch_size)
        self._turn, self._order = -1, indices

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        turn, place = divmod(number, self.per_epoch)
        if turn != self._turn:
            self._turn, self._order = turn, self._indices[epoch_order(len(self._indices), self._seed, turn)]
        return self._images.batch(self._order[place * self._size : (place + 1) * self._size])

    def seen(self, batches: int) -> int:
        """How many images so many batches have."""
        return batches * min(self._size, len(self._indices))


class SupernetTraining:
    """A supernet with its optimizer and images, to be made a training by a subclass's `step` and `end_epoch`.

    Args:
        indices: (n,) of the images that the weights learn from.

    Raises:
        ConfigError: the space leaves no choice.
    """

    def __init__(self, problem: SearchProblem, weights: WeightConfig, indices: Tensor) -> None:
        if not problem.space.choices:
            raise ConfigError(f"space {problem.space.name}", ["a space to search must leave a choice, but it has none"])
        self.problem, self.weights = problem, weights
        torch.manual_seed(problem.seed)
        self.supernet = SuperNet(problem.space)
        self.supernet.to(problem.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_sgd(
            self.supernet, weights.learning_rate, weights.weight_decay, weights.momentum, fused=False
        )
        augmentation = Augmentation(problem.info.flip, problem.info.crop_padding)
        self.images = DeviceImages(problem.info, problem.train, problem.device, augmentation)
        self.batches = PartBatches(self.images, indices, weights.batch_size, problem.seed)

    def step(self, context: StepContext) -> dict[str, float | Tensor]:
        """One step; its metrics."""
        raise NotImplementedError

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """What is noted of an epoch."""
        raise NotImplementedError

    def begin_step(self, context: StepContext) -> tuple[float, Tensor, Tensor]:
        """The step's learning rate, which is set, its images and labels; gradients are cleared.

        To None, not to zero: weights that no subnet of a step holds must not decay or move by their old momentum.
        """
        warmup = int(self.weights.rate_warmup_epochs * self.batches.per_epoch)
        highest = self.weights.learning_rate
        rate = cosine_lr(context.step, context.total_steps, warmup, highest, 0.0) * context.lr_scale
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        x, y = self.batches[context.step]
        return rate, x, y

    def update(self) -> None:
        """Move the weights by the gradients, clipped."""
        clip_gradients(self.supernet.parameters(), self.weights.clip)
        self.optimizer.step()

    def run(self, name: str, epochs: int, more: Mapping[str, Stateful]) -> tuple[list[dict[str, Any]], float, float]:
        """Train, or go on; the history, one dict an epoch, and wall and CPU seconds, added up over resumed processes.

        Args:
            more: what is saved and taken up again beside the supernet and its optimizer.

        Raises:
            CheckpointError, TrainingError: see `training.loop.Loop.run`.
        """
        problem = self.problem
        with RunLog(problem.folder) as log:
            loop = Loop(
                name=name,
                epochs=epochs,
                steps_per_epoch=self.batches.per_epoch,
                step=self.step,
                end_epoch=self.end_epoch,
                state={"supernet": self.supernet, "optimizer": self.optimizer, **more},
                checkpoint=problem.folder / CHECKPOINT,
                log=log,
                seed=problem.seed,
                guard=GuardConfig(check_every=1 if problem.device.type == "cpu" else 10),
                progress=problem.progress,
            )
            history = loop.run(problem.resume)
        return history, loop.seconds, loop.cpu_seconds
