"""What every training of a supernet's weights shares: its set-up, the parts of its batches and the end of its steps.

A step's batch is cut into ranks * accumulate parts, each of which has an architecture and noise of its own, drawn from
the step's seed and the part's number: k ranks therefore take the step of one rank that accumulates k parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from se_nas.data.balance import balanced_weights
from se_nas.data.in_memory.batches import at_side
from se_nas.data.training_batches import TrainingBatches
from se_nas.errors import ConfigError
from se_nas.records.former_names import without_constants
from se_nas.records.models.history import History
from se_nas.records.numbers import BatchSize, Count
from se_nas.records.record import Record
from se_nas.records.run_log import RunLog, SilentLog
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import Architecture
from se_nas.supernet.supernet import SuperNet
from se_nas.training.guard import GuardConfig, Stateful
from se_nas.training.images import part_seed
from se_nas.training.loop import Loop, StepContext
from se_nas.training.optimizer import WeightUpdate, make_average
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import default_recipe
from se_nas.training.timm_parts import make_loss

#: File in a problem's folder that the training of its supernet goes on from, and that holds it when it is done.
CHECKPOINT = "checkpoint.pt"


_BALANCE = ("class_weights", "balanced_sampling")


class WeightConfig(Record):
    """How the weights of a supernet are trained.

    Attributes:
        batch_size: images in one step, over all ranks and accumulated parts.
        accumulate: parts that each rank takes its share of a step's batch in, one after the other. Each part has an
            architecture of its own, and their gradients are averaged.
        learning_rate: peak of the schedule, which rises linearly for one epoch and then falls to 0 as half a cosine.
        momentum, weight_decay: what SGD with Nesterov momentum takes; norms and biases do not decay.
        label_smoothing: share of the target that is spread over all classes.
        class_weights: "balanced" lets the loss of an image count the more the fewer its class has among those that the
            weights learn from, in every step on labels; null counts images alike.
        balanced_sampling: whether every class is drawn equally often, in steps on weights and on choices.
        clip: greatest norm of all gradients together.
        calibration_images: training images by which the batch norms of an architecture are recalibrated before it is
            evaluated.
    """

    batch_size: BatchSize = 128
    accumulate: Count = 1
    learning_rate: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(4e-5, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    class_weights: Literal["balanced"] | None = None
    balanced_sampling: bool = False
    clip: float = Field(5.0, gt=0)
    calibration_images: Count = 2048

    @model_validator(mode="before")
    @classmethod
    def _without_rate_warmup(cls, value: Any) -> Any:
        return without_constants(value, {"rate_warmup_epochs": 1})

    def recipe(self, epochs: int) -> Recipe:
        """As a recipe of so many epochs."""
        names = ("batch_size", "accumulate", "learning_rate", "momentum", "weight_decay", "label_smoothing", "clip")
        return default_recipe(epochs=epochs, **{name: getattr(self, name) for name in (*names, *_BALANCE)})

    def check_ranks(self, ranks: int) -> None:
        """Raise ConfigError unless the batch divides among so many ranks."""
        self.recipe(1).micro_batch(ranks, "search")


class WeightTrainer:
    """A supernet with its optimizer and images, to be made a training by a subclass's `step` and `end_epoch`.

    Args:
        indices: (n,) of the images that the weights learn from.
        epochs: of the whole training.

    Raises:
        ConfigError: the space leaves no choice, or a batch cannot be divided.
    """

    def __init__(self, problem: SearchProblem, weights: WeightConfig, indices: Tensor, epochs: int) -> None:
        if not problem.space.choices:
            raise ConfigError(f"space {problem.space.name}", ["a space to search must leave a choice, but it has none"])
        self.problem, self.ranks, self.recipe = problem, problem.ranks, weights.recipe(epochs)
        weights.check_ranks(self.ranks.size)
        torch.manual_seed(problem.seed)
        self.supernet = SuperNet(problem.space)
        if problem.start is not None:
            problem.start.put_into(self.supernet)
        self.supernet.to(problem.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.images = problem.images(augmented=True)
        self.batches = self.shared_out(indices)
        self.criterion = self.criterion_for(self.batches, self.recipe)
        self.update = WeightUpdate(
            self.supernet, self.recipe, self.batches.per_epoch, device=problem.device, fused=False
        )

        self.average = make_average(self.supernet, self.recipe)

    @property
    def trained(self) -> SuperNet:
        """The supernet, or its running average where the recipe has one."""
        if self.average is None:
            return self.supernet
        assert isinstance(self.average.module, SuperNet)
        return self.average.module

    def seen_by(self, architecture: Architecture, x: Tensor) -> Tensor:
        """Images (B, C, H, W) at the resolution of an architecture."""
        return at_side(x, self.problem.space.side.picked(architecture.as_dict()))

    def shared_out(self, indices: Tensor) -> TrainingBatches:
        """This rank's share of batches of some of the images.

        Raises:
            ConfigError: a batch of all of them is to be divided.
        """
        recipe = self.recipe
        if len(indices) < recipe.batch_size and self.ranks.size * recipe.accumulate > 1:
            what = f"must be at most the images of each part of the data, here {len(indices)}, to be divided"
            raise ConfigError("search", [f"batch_size: {what}, but got {recipe.batch_size}"])
        return self.images.training_batches(
            indices,
            recipe.batch_size,
            self.problem.seed,
            balanced=recipe.balanced_sampling,
            ranks=self.ranks,
            accumulate=recipe.accumulate,
        )

    def parts_of(self, batches: TrainingBatches, number: int, seed: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """This rank's parts of a batch, each with its number among those of all ranks; torch's generator is seeded for
        each.
        """
        for own, (x, y) in enumerate(batches.parts(number, seed)):
            part = own * self.ranks.size + self.ranks.rank
            torch.manual_seed(part_seed(seed, part))
            yield part, x, y

    def end_update(self) -> None:
        """Move the weights by the gradients of all ranks' parts."""
        self.ranks.average_gradients_(self.supernet.parameters())
        self.update.end()

    def criterion_for(self, batches: TrainingBatches, recipe: Recipe) -> Callable[[Tensor, Tensor], Tensor]:
        """The recipe's loss of logits and labels, with the weights of classes among these images where it has any."""
        if recipe.class_weights is None:
            return make_loss(recipe)
        weights = torch.from_numpy(balanced_weights(batches.labels, self.problem.info.classes))
        return make_loss(recipe, weights.to(self.problem.device))

    def step(self, context: StepContext) -> dict[str, float | Tensor]:
        """One step; its metrics."""
        raise NotImplementedError

    def end_epoch(self, epoch: int) -> Mapping[str, object]:
        """What is noted of an epoch."""
        raise NotImplementedError

    def enough(self, history: History, seconds: float) -> bool:
        """Whether the training ends after the epochs of this history, though it was to have more."""
        return False

    def run(self, name: str, more: Mapping[str, Stateful]) -> tuple[History, float, float]:
        """Train, or go on; the history, and wall and CPU seconds, added up over resumed processes; CPU over all ranks.

        Args:
            more: what is saved and taken up again beside the supernet and its optimizer.

        Raises:
            CheckpointError, TrainingError: see `training.loop.Loop.run`.
        """
        problem, ranks = self.problem, self.ranks
        average = {} if self.average is None else {"average": self.average}
        # a library, or another kind of processor, may have drawn other weights on another machine
        ranks.copy_first_([*self.supernet.parameters(), *self.supernet.buffers()])
        with RunLog(problem.folder) if ranks.first else SilentLog() as log, closing(self.images):
            loop = Loop(
                name=name,
                epochs=self.recipe.epochs,
                steps_per_epoch=self.batches.per_epoch,
                step=self._step,
                end_epoch=self._end_epoch,
                enough=lambda history, seconds: ranks.from_first(self.enough(history, seconds)),
                state={"supernet": self.supernet, **self.update.state, **average, **more},
                checkpoint=problem.folder / CHECKPOINT,
                log=log,
                seed=problem.seed,
                guard=GuardConfig.for_device(problem.device),
                progress=problem.progress,
                ranks=ranks,
            )
            history = loop.run(problem.resume)
        # a rank that counted other seconds would start other restarts
        seconds: float = ranks.from_first(loop.seconds)
        (cpu_seconds,) = ranks.sum([loop.cpu_seconds])
        return history, seconds, cpu_seconds

    def _step(self, context: StepContext) -> dict[str, float | Tensor]:
        metrics = self.step(context)
        self.ranks.average_(self.supernet.buffers())
        if self.average is not None:
            self.average.update(context.step)
        return metrics

    def _end_epoch(self, epoch: int) -> Mapping[str, object]:
        found = self.end_epoch(epoch)
        with self.ranks.together():
            self.images.tell_of_damage(self.ranks)
        return found
