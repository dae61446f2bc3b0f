"""One-shot training of a supernet whose subnets a black-box search then judges by their inherited weights.

Which subnets a step trains is the one idea here, and there are three answers: the sandwich rule with in-place
distillation (arXiv 1903.05134; BigNAS, arXiv 2003.11142), strict fairness (FairNAS, arXiv 1907.01845, section 3) and
one subnet drawn uniformly (SPOS, arXiv 1904.00420). Every subnet runs sliced, at its own cost, and gives up its
activations before the next one starts, so that a step needs the memory of its largest subnet alone. Of a batch in
several parts (`weight_training`) each part is a step of its own in this, all of them before one update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from se_nas.hardware.device import autocast_for
from se_nas.records.models.history import History
from se_nas.records.numbers import Count, CountFromZero
from se_nas.search.budgets.decode import greatest_cost, least_cost
from se_nas.search.one_shot.inheritance import inherited_accuracy
from se_nas.search.one_shot.samplings import divergence, fair_picks
from se_nas.search.one_shot.weight_training import WeightConfig, WeightTrainer
from se_nas.search.problem import SearchProblem
from se_nas.search.stopping import PREPARE_SHARE
from se_nas.space.architecture import Architecture
from se_nas.supernet.supernet import SuperNet
from se_nas.training.loop import StepContext


class OneShotConfig(WeightConfig):
    """How a supernet is trained for a black-box search; see also `WeightConfig`.

    Attributes:
        sampling: what a step trains. "sandwich": the subnet of the most MACs on the labels, then the one of the fewest
            and `random_subnets` drawn uniformly on the soft answers of the first. "strict_fairness": as many subnets as
            the largest choice has options, see `fair_picks`. "uniform": one subnet drawn uniformly. The gradients of a
            step's subnets add up, each with weight 1, for one update; of several parts the mean of their sums is taken.
            Distillation has no label smoothing.
        random_subnets: subnets drawn in a sandwich step; the other samplings do not read it.
        epochs: passes over the images that train the weights.
        validate_every: epochs between two validations of the largest and the smallest subnet; the last epoch has one.
    """

    sampling: Literal["sandwich", "strict_fairness", "uniform"] = "sandwich"
    random_subnets: CountFromZero = 2
    epochs: Count = 30
    validate_every: Count = 5


@dataclass(frozen=True)
class OneShotResult:
    """A trained supernet. Its running batch-norm statistics are of no subnet: recalibrate each one that is used.

    Attributes:
        history: an entry an epoch: epoch, step; loss and accuracy of training, means over the subnets that learn from
            labels; distillation, the mean divergence of the others from their teacher (sandwich alone); lr;
            largest_accuracy and smallest_accuracy on the validation part, None in epochs without validation.
        seconds, cpu_seconds: wall and CPU time of the training, added up over resumed processes.
        images: training images seen, an image of a batch counted once however many subnets it trained.
    """

    supernet: SuperNet
    history: History
    seconds: float
    cpu_seconds: float
    images: int


class _OneShot(WeightTrainer):
    """The state of one training and its step."""

    def __init__(self, problem: SearchProblem, config: OneShotConfig) -> None:
        # no choice steps here, so that their images are free to train the weights
        indices = torch.cat([problem.parts["weights"], problem.parts["choices"]])
        super().__init__(problem, config, indices, config.epochs)
        self.config = config
        self.largest = greatest_cost(problem.space, problem.tables, "macs").architecture
        self.smallest = least_cost(problem.space, problem.tables, "macs").architecture

    def subnets(self, context: StepContext, part: int = 0) -> list[Architecture]:
        """What a part of a step trains; under the sandwich rule the first is the others' teacher."""
        space, config = self.problem.space, self.config
        if config.sampling == "strict_fairness":
            turn = context.step * self.ranks.size * self.recipe.accumulate + part
            return [space.architecture(picks) for picks in fair_picks(space, self.problem.seed, turn)]
        rng = np.random.default_rng([context.seed, part])
        if config.sampling == "uniform":
            return [space.sample(rng)]
        return [self.largest, self.smallest, *(space.sample(rng) for _ in range(config.random_subnets))]

    def step(self, context: StepContext) -> dict[str, float | Tensor]:
        """One update from the added gradients of the step's subnets."""
        rate = self.update.begin(context)
        found = [
            self.add_gradients(self.subnets(context, part), x, y)
            for part, x, y in self.parts_of(self.batches, context.step, context.seed)
        ]
        self.end_update()
        return {**{name: torch.stack([metrics[name] for metrics in found]).mean() for name in found[0]}, "lr": rate}

    def add_gradients(self, subnets: Sequence[Architecture], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Run the subnets one after another, each at its resolution, backwards too; returns their mean losses."""
        self.supernet.train()
        teacher: Tensor | None = None
        losses, accuracies, divergences = [], [], []
        for subnet in subnets:
            with autocast_for(self.problem.device):
                predicted = self.supernet.activate(subnet)(self.seen_by(subnet, x))
            predicted = predicted.float()
            if teacher is None:
                loss = self.criterion(predicted, y)
                losses.append(loss.detach())
                accuracies.append((predicted.detach().argmax(1) == y).float().mean())
            else:
                loss = divergence(predicted, teacher)
                divergences.append(loss.detach())
            self.update.backward(loss / self.recipe.accumulate)
            if self.config.sampling == "sandwich" and teacher is None:
                teacher = predicted
        metrics = {"loss": torch.stack(losses).mean(), "accuracy": torch.stack(accuracies).mean()}
        return metrics | ({"distillation": torch.stack(divergences).mean()} if divergences else {})

    def end_epoch(self, epoch: int) -> dict[str, float | None]:
        """Validation of both ends of the space, where it is due."""
        due = (epoch + 1) % self.config.validate_every == 0 or epoch + 1 == self.config.epochs
        return {
            "largest_accuracy": self.validate(self.largest) if due else None,
            "smallest_accuracy": self.validate(self.smallest) if due else None,
        }

    def enough(self, history: History, seconds: float) -> bool:
        """Whether it took what the problem allows."""
        limit = self.problem.max_seconds
        return limit is not None and seconds >= PREPARE_SHARE * limit

    def validate(self, architecture: Architecture) -> float:
        """Accuracy on the validation part with inherited weights and recalibrated norms."""
        return inherited_accuracy(
            self.supernet, architecture, self.images, self.problem, self.config.calibration_images, self.ranks
        )


def train_one_shot(problem: SearchProblem, config: OneShotConfig) -> OneShotResult:
    """Train, or resume training, the supernet of a problem on its parts "weights" and "choices" together.

    The budgets play no part: one supernet serves them all. "macs" must be among the tables. It ends early, after an
    epoch, where it took its share of the problem's `max_seconds`.

    Raises:
        ConfigError: the space leaves no choice.
        CheckpointError, TrainingError: see `training.loop.Loop.run`.
    """
    with problem.ranks.together():
        training = _OneShot(problem, config)
    history, seconds, cpu_seconds = training.run("supernet", {})
    images = training.batches.seen(len(history) * training.batches.per_epoch)
    return OneShotResult(training.supernet, history, seconds, cpu_seconds, images)
