"""One-shot training of a supernet whose subnets a black-box search then judges by their inherited weights.

Which subnets a step trains is the one idea here, and there are four answers: the sandwich rule with in-place
distillation (arXiv 1903.05134; BigNAS, arXiv 2003.11142), the same with the best or the worst of several drawn subnets
(BestUp and WorstUp of AttentiveNAS, arXiv 2011.09011), strict fairness (FairNAS, arXiv 1907.01845, section 3) and one
subnet drawn uniformly (SPOS, arXiv 1904.00420). Every subnet runs sliced, at its own cost, and gives up its
activations before the next one starts, so that a step needs the memory of its largest subnet alone. Of a batch in
several parts (`weight_training`) each part is a step of its own in this, all of them before one update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from se_nas.data.in_memory.batches import at_side
from se_nas.errors import ConfigError
from se_nas.hardware.device import autocast_for
from se_nas.layers.network import Network
from se_nas.records.checkpoint import StateDict, weights_digest
from se_nas.records.models.history import History
from se_nas.search.budgets.decode import greatest_cost, least_cost
from se_nas.search.one_shot.config import ATTENTIVE, CANDIDATES, OneShotConfig
from se_nas.search.one_shot.inheritance import inherited_accuracy
from se_nas.search.one_shot.samplings import alike, fair_picks
from se_nas.search.one_shot.weight_training import WeightTrainer
from se_nas.search.problem import SearchProblem
from se_nas.search.stopping import PREPARE_SHARE
from se_nas.space.architecture import Architecture
from se_nas.supernet.supernet import SuperNet
from se_nas.training.loop import StepContext


@dataclass(frozen=True)
class OneShotResult:
    """A trained supernet. Its running batch-norm statistics are of no subnet: recalibrate each one that is used.

    Attributes:
        history: an entry an epoch: epoch, step; loss and accuracy of training, means over the subnets that learn from
            labels; distillation, the mean divergence of those that have a teacher from it; lr;
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
        if (config.teacher is None) != (problem.teacher is None):
            raise ConfigError(
                "search.supernet", ["teacher: must be given with the network that it names, but is alone"]
            )
        self.config, self.divergence, self.teacher = config, config.divergence, problem.teacher and problem.teacher()
        self.largest = greatest_cost(problem.space, problem.tables, "macs").architecture
        self.smallest = least_cost(problem.space, problem.tables, "macs").architecture

    def subnets(self, context: StepContext, part: int = 0) -> list[Architecture]:
        """What a part of a step trains, but for what `attended` chooses; of the sandwich rule and its kin the largest
        is the first.
        """
        space, config = self.problem.space, self.config
        if config.sampling == "strict_fairness":
            turn = context.step * self.ranks.size * self.recipe.accumulate + part
            return [space.architecture(picks) for picks in fair_picks(space, self.problem.seed, turn)]
        rng = np.random.default_rng([context.seed, part])
        if config.sampling == "uniform":
            return [space.sample(rng)]
        both = [self.largest, self.smallest]
        return (
            both if config.sampling in ATTENTIVE else both + [space.sample(rng) for _ in range(config.random_subnets)]
        )

    @torch.no_grad()
    def attended(self, context: StepContext, part: int, x: Tensor, y: Tensor) -> list[Architecture]:
        """Of several draws of alike subnets each time the one that is best, or worst, on these images."""
        rng = np.random.default_rng([context.seed, part])
        table, count = self.problem.tables["macs"], self.config.candidates or CANDIDATES
        drawn = [alike(table, rng, count) for _ in range(self.config.random_subnets)]
        self.supernet.train()
        losses = torch.stack([self.criterion(self.answers(subnet, x), y) for group in drawn for subnet in group])
        best = self.config.sampling == "best_up"
        chosen = (losses if best else -losses).view(len(drawn), count).argmin(1).tolist()  # the one wait for the device
        return [group[number] for group, number in zip(drawn, chosen, strict=True)]

    def answers(self, subnet: Architecture, x: Tensor) -> Tensor:
        """Logits (B, classes) float32 of a subnet, of images at its resolution."""
        with autocast_for(self.problem.device):
            logits: Tensor = self.supernet.activate(subnet)(self.seen_by(subnet, x))
        return logits.float()

    @torch.no_grad()
    def taught(self, x: Tensor) -> Tensor | None:
        """Logits (B, classes) float32 of the teacher, of images at its resolution where that is known; None without."""
        if self.teacher is None:
            return None
        seen = at_side(x, self.teacher.spec.resolution) if isinstance(self.teacher, Network) else x
        with autocast_for(self.problem.device):
            logits: Tensor = self.teacher(seen)
        return logits.float()

    def step(self, context: StepContext) -> dict[str, float | Tensor]:
        """One update from the added gradients of the step's subnets."""
        rate = self.update.begin(context)
        found = []
        for part, x, y in self.parts_of(self.batches, context.step, context.seed):
            subnets = self.subnets(context, part)
            if self.config.sampling in ATTENTIVE:
                subnets += self.attended(context, part, x, y)
            found.append(self.add_gradients(subnets, x, y))
        self.end_update()
        return {**{name: torch.stack([metrics[name] for metrics in found]).mean() for name in found[0]}, "lr": rate}

    def add_gradients(self, subnets: Sequence[Architecture], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Run the subnets one after another, each at its resolution, backwards too; returns their mean losses."""
        self.supernet.train()
        soft = self.taught(x)
        in_place = soft is None and self.divergence is not None
        losses, accuracies, divergences = [], [], []
        for subnet in subnets:
            predicted, parts = self.answers(subnet, x), []
            if soft is None or not in_place:
                parts.append(self.criterion(predicted, y))
                losses.append(parts[-1].detach())
                accuracies.append((predicted.detach().argmax(1) == y).float().mean())
            if soft is not None and self.divergence is not None:
                parts.append(self.divergence(predicted, soft))
                divergences.append(parts[-1].detach())
            self.update.backward(torch.stack(parts).sum() / self.recipe.accumulate)
            if soft is None and in_place:
                soft = predicted.detach()
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
            self.trained, architecture, self.images, self.problem, self.config.calibration_images, self.ranks
        )


class _SameTeacher:
    """That a training which goes on has the teacher that it began with, as a part of its state."""

    def __init__(self, teacher: nn.Module) -> None:
        self._digest = weights_digest(teacher.state_dict())[:16]

    def state_dict(self) -> StateDict:
        return {"digest": self._digest}

    def load_state_dict(self, state: StateDict, /) -> None:
        if state.get("digest") != self._digest:
            must = "search.supernet.teacher must be the network that the training began with"
            raise ValueError(f"{must}, of SHA-256 {state.get('digest')}..., but it is another")


def train_one_shot(problem: SearchProblem, config: OneShotConfig) -> OneShotResult:
    """Train, or resume training, the supernet of a problem on its parts "weights" and "choices" together.

    The budgets play no part: one supernet serves them all. "macs" must be among the tables. It ends early, after an
    epoch, where it took its share of the problem's `max_seconds`.

    Raises:
        ConfigError: the space leaves no choice, or the teacher is not that of the configuration.
        CheckpointError: the teacher is another than that of the training to resume; see `training.loop.Loop.run`.
        TrainingError: see `training.loop.Loop.run`.
    """
    with problem.ranks.together():
        training = _OneShot(problem, config)
    more = {} if training.teacher is None else {"teacher": _SameTeacher(training.teacher)}
    history, seconds, cpu_seconds = training.run("supernet", more)
    images = len(history) * training.batches.per_epoch * training.batches.images_per_batch
    return OneShotResult(training.trained, history, seconds, cpu_seconds, images)
