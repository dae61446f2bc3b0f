"""One-shot training of a supernet whose subnets a black-box search then judges by their inherited weights.

Which subnets a step trains is the one idea here, and there are four answers: the sandwich rule with in-place
distillation (arXiv 1903.05134; BigNAS, arXiv 2003.11142), the same with the best or the worst of several drawn subnets
(BestUp and WorstUp of AttentiveNAS, arXiv 2011.09011), strict fairness (FairNAS, arXiv 1907.01845, section 3) and one
subnet drawn uniformly (SPOS, arXiv 1904.00420). Every subnet runs sliced, at its own cost, and gives up its
activations before the next one starts, so that a step needs the memory of its largest subnet alone. Of a batch in
several parts (`weight_training`) each part is a step of its own in this, all of them before one update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from se_nas.hardware.device import autocast_for
from se_nas.records.bounds import MOST_COUNT
from se_nas.records.models.history import History
from se_nas.records.numbers import Count, CountFromZero
from se_nas.search.budgets.decode import greatest_cost, least_cost
from se_nas.search.one_shot.distillation import DIVERGENCES
from se_nas.search.one_shot.inheritance import inherited_accuracy
from se_nas.search.one_shot.samplings import alike, fair_picks
from se_nas.search.one_shot.weight_training import WeightConfig, WeightTrainer
from se_nas.search.problem import SearchProblem
from se_nas.search.stopping import PREPARE_SHARE
from se_nas.space.architecture import Architecture
from se_nas.supernet.supernet import SuperNet
from se_nas.training.loop import StepContext
from se_nas.training.recipe import Decay, Recipe

#: Samplings that choose among several subnets, and those whose steps begin with the largest one.
ATTENTIVE = ("best_up", "worst_up")
IN_PLACE = ("sandwich", *ATTENTIVE)
#: Subnets to choose among, unless the run file says otherwise: as many as AttentiveNAS has where it looks at the loss.
_CANDIDATES = 3


class OneShotConfig(WeightConfig):
    """How a supernet is trained for a black-box search; see also `WeightConfig`.

    Attributes:
        sampling: what a step trains. "sandwich": the subnet of the most MACs on the labels, then the one of the fewest
            and `random_subnets` drawn uniformly on the soft answers of the first. "best_up", "worst_up": the same, but
            each of the latter is, of `candidates` subnets of about one number of MACs, the one of the least or of the
            greatest loss on the step's own images and labels, with the supernet's weights of then; AttentiveNAS has a
            trained predictor of accuracy beside this loss. "strict_fairness": as many subnets as the largest choice has
            options, see `fair_picks`. "uniform": one subnet drawn uniformly. The gradients of a step's subnets add up,
            each with weight 1, for one update; of several parts the mean of their sums is taken.
        random_subnets: subnets drawn in a step of the sandwich rule and its kin; the other samplings do not read it.
        candidates: subnets among which "best_up" and "worst_up" choose, each run forward once more; null is 3 there.
        distillation: what is learned from soft answers. "kl": the KL divergence from them; "alpha": AlphaNet's
            divergence (arXiv 2102.07954), see `alpha_divergence`; "none": all subnets learn from the labels alone.
            "auto" is "kl" where there is a largest subnet to learn from, else "none". It has no label smoothing.
        average_decay: decay of a running average of the supernet's weights, as timm's; it is then what validation,
            evaluation and inheritance take. null is no average.
        epochs: passes over the images that train the weights.
        validate_every: epochs between two validations of the largest and the smallest subnet; the last epoch has one.
    """

    sampling: Literal["sandwich", "best_up", "worst_up", "strict_fairness", "uniform"] = "sandwich"
    random_subnets: CountFromZero = 2
    candidates: int | None = Field(None, ge=2, le=MOST_COUNT)
    distillation: Literal["auto", "none", "kl", "alpha"] = "auto"
    average_decay: Decay | None = None
    epochs: Count = 30
    validate_every: Count = 5

    @field_validator("random_subnets")
    @classmethod
    def _some_to_choose(cls, value: int, info: ValidationInfo) -> int:
        if value == 0 and info.data.get("sampling") in ATTENTIVE:
            raise ValueError(f"must be at least 1 with sampling {info.data['sampling']}, which chooses these")
        return value

    @field_validator("candidates")
    @classmethod
    def _chosen_among(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("sampling", "best_up") not in ATTENTIVE:
            raise ValueError(f"must be null unless sampling is {' or '.join(ATTENTIVE)}, which alone choose")
        return value

    @field_validator("distillation")
    @classmethod
    def _something_to_learn_from(cls, value: str, info: ValidationInfo) -> str:
        if value in DIVERGENCES and info.data.get("sampling", "sandwich") not in IN_PLACE:
            raise ValueError(
                f"must be none unless sampling is one of {', '.join(IN_PLACE)}, which have a largest subnet"
            )
        return value

    def recipe(self, epochs: int) -> Recipe:
        """With the average."""
        return super().recipe(epochs).model_copy(update={"average_decay": self.average_decay})

    @property
    def divergence(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Of a subnet's answers from a teacher's, what it learns by; None where all learn from the labels."""
        auto = "kl" if self.sampling in IN_PLACE else "none"
        return DIVERGENCES.get(auto if self.distillation == "auto" else self.distillation)


@dataclass(frozen=True)
class OneShotResult:
    """A trained supernet. Its running batch-norm statistics are of no subnet: recalibrate each one that is used.

    Attributes:
        history: an entry an epoch: epoch, step; loss and accuracy of training, means over the subnets that learn from
            labels; distillation, the mean divergence of the others from their teacher, where they have one; lr;
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
        self.config, self.divergence = config, config.divergence
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
        table, count = self.problem.tables["macs"], self.config.candidates or _CANDIDATES
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
        teacher: Tensor | None = None
        losses, accuracies, divergences = [], [], []
        for subnet in subnets:
            predicted = self.answers(subnet, x)
            if teacher is None or self.divergence is None:
                loss = self.criterion(predicted, y)
                losses.append(loss.detach())
                accuracies.append((predicted.detach().argmax(1) == y).float().mean())
            else:
                loss = self.divergence(predicted, teacher)
                divergences.append(loss.detach())
            self.update.backward(loss / self.recipe.accumulate)
            if teacher is None and self.config.sampling in IN_PLACE:
                teacher = predicted.detach()
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
    return OneShotResult(training.trained, history, seconds, cpu_seconds, images)
