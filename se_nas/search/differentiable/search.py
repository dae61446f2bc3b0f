"""Differentiable search: weights and choice logits of one supernet learn in turn, on disjoint parts of the images.

After a pretraining of the weights on architectures drawn uniformly, every step has two halves (DARTS, arXiv 1806.09055,
first order): the weights take one on an architecture drawn from the present probabilities, sliced and at its own cost;
the logits take one on the one-pass mixture under Gumbel-softmax (as FBNet, arXiv 1812.03443) and are projected onto
those whose expected costs keep the budgets (`BudgetProjection`). Weights that have only met whole architectures leave
no gap when one is decoded. Where the resolution is a choice, every step draws one; one set of logits is decoded at
each, and the validation of what is decoded says which resolution is taken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, model_validator
from rich.console import Console
from torch import Tensor

from se_nas.cost.metrics import is_aside
from se_nas.data.in_memory.batches import at_side
from se_nas.hardware.device import autocast_for, sent
from se_nas.hardware.graph_step import PARTS, RANKS, Asked, captures, compiles
from se_nas.records.former_names import by_present_names
from se_nas.records.models.history import Epoch, History
from se_nas.records.models.stopped import Stopped
from se_nas.records.numbers import Count, CountFromZero
from se_nas.search.budgets.decode import Decoder, check_feasible
from se_nas.search.budgets.resolutions import decoded_at_each, resolutions_within, with_resolutions
from se_nas.search.differentiable.budget_projection import BudgetProjection
from se_nas.search.differentiable.choice_logits import ChoiceLogits
from se_nas.search.differentiable.mixture_passes import Graphs, choice_passes, weight_passes
from se_nas.search.differentiable.watchdog import warnings_of
from se_nas.search.one_shot.inheritance import inherited_accuracy
from se_nas.search.one_shot.weight_training import WeightConfig, WeightTrainer
from se_nas.search.problem import SearchProblem
from se_nas.search.starting import StartingConfig, slower
from se_nas.search.stopping import StoppingConfig, since_better
from se_nas.space.architecture import Architecture
from se_nas.supernet.supernet import SuperNet
from se_nas.training.guard import Stateful
from se_nas.training.images import part_seed
from se_nas.training.loop import StepContext
from se_nas.training.metrics import print_line


class DifferentiableConfig(StoppingConfig, StartingConfig, WeightConfig):
    """How the differentiable search runs; see also `WeightConfig`, `StoppingConfig` and `StartingConfig`.

    Attributes:
        strategy: "differentiable".
        choice_learning_rate: learning rate of Adam on the choice logits.
        pretrain_epochs: epochs of weight steps alone, before the logits move.
        epochs: epochs of weight steps and choice steps, after these.
        restarts: how many searches are made, each from another seed and with a supernet of its own; the answer is the
            one of the best accuracy on the validation part. Searches end farther apart than trainings of one network do
            (runs/NOTES.md).
        choice_every: weight steps for each choice step.
        relaxation: "gumbel" mixes under Gumbel-softmax samples, "softmax" under the probabilities themselves.
        temperature: temperature of the relaxation in the first and in the last epoch; it falls geometrically between.
        weight_step: "sampled" trains the weights on whole architectures, "mixture" on the relaxed mixture.
        validate_every: epochs between two evaluations of the architecture that would be decoded now.
        compile: whether the mixture's steps are compiled by torch; see `Recipe`.
        cuda_graphs: whether CUDA captures the mixture's steps; see `Recipe`.
    """

    strategy: Literal["differentiable"] = "differentiable"
    pretrain_epochs: CountFromZero = 5
    epochs: Count = 20
    restarts: Count = 1
    choice_every: Count = 1
    choice_learning_rate: float = Field(0.05, gt=0)
    relaxation: Literal["gumbel", "softmax"] = "gumbel"
    temperature: tuple[PositiveFloat, PositiveFloat] = (3.0, 0.5)
    weight_step: Literal["sampled", "mixture"] = "sampled"
    validate_every: Count = 1
    compile: Asked = "auto"
    cuda_graphs: Asked = "auto"

    @model_validator(mode="before")
    @classmethod
    def _by_present_names(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = by_present_names(value, {"warmup_epochs": "pretrain_epochs"}, "search")
        return value if value.get("weights") is None else slower(value, cls.model_fields["learning_rate"].default)

    @property
    def weight_rate(self) -> float:
        """See `StartingConfig`."""
        return self.learning_rate


@dataclass(frozen=True, kw_only=True)
class DifferentiableResult:
    """What a search found out; the answer under any budgets is a decode of `scores`.

    Attributes:
        scores: for each choice the logits of its options; of the resolution see `with_resolutions`.
        history: as the report reads it.
        seconds, cpu_seconds: wall and CPU time of the training, added up over resumed processes.
        images: training images seen, of both parts.
        stopped: why it ended early, if it did.
    """

    scores: dict[str, list[float]]
    history: History
    supernet: SuperNet
    seconds: float
    cpu_seconds: float
    images: int
    stopped: Stopped | None = None

    @property
    def accuracy(self) -> float | None:
        """On the validation part, of what the scores decode to; None where it ended before it looked."""
        if self.stopped is None:
            return self.history[-1].validation_accuracy
        return max(_validated(self.history), default=None)


def _validated(history: History) -> list[float]:
    return [row.validation_accuracy for row in history if row.validation_accuracy is not None]


class _Search(WeightTrainer):
    """The state of one differentiable search and its two kinds of step."""

    def __init__(self, problem: SearchProblem, config: DifferentiableConfig) -> None:
        self.total_epochs = config.pretrain_epochs + config.epochs
        super().__init__(problem, config, problem.parts["weights"], self.total_epochs)
        self.config = config
        self.decoder = Decoder(problem.space, problem.tables, problem.budgets)
        self.logits = ChoiceLogits(problem.space, resolutions_within(self.decoder))
        self.projection = BudgetProjection(problem.budgets)
        # the first moment decays fast because each Gumbel sample points its own way (as in DARTS, section 3.1.1)
        self.choice_optimizer = torch.optim.Adam(self.logits.parameters(), config.choice_learning_rate, (0.5, 0.999))
        self.choice_batches = self.shared_out(problem.parts["choices"])
        plain = self.recipe.model_copy(update={"label_smoothing": 0.0})
        self.choice_criterion = self.criterion_for(self.choice_batches, plain)
        self.choice_steps_per_epoch = math.ceil(self.batches.per_epoch / config.choice_every)
        weight_graphs = self._graphs(self.batches.per_epoch, {PARTS: self.recipe.accumulate > 1})
        self._weight_passes = weight_passes(self.supernet, self.logits, self.criterion, self._backward, weight_graphs)
        choice_graphs = self._graphs(self.choice_steps_per_epoch, {})
        self._choice_passes = choice_passes(self.supernet, self.logits, self.choice_criterion, choice_graphs)

    def _graphs(self, steps_per_epoch: int, hindrances: Mapping[str, bool]) -> Graphs:
        """How the mixture's passes are run.

        Raises:
            ConfigError: they cannot be captured, as they are to be.
        """
        config, device, steps = self.config, self.problem.device, self.config.epochs * steps_per_epoch
        hindrances = {RANKS: self.ranks.size > 1, **hindrances}
        return Graphs(
            compiled=compiles(config.compile, device, steps),
            captured=captures(config.cuda_graphs, device, steps, "search", hindrances),
            say=self._say,
        )

    def _say(self, line: str) -> None:
        if self.ranks.first:
            print_line(Console(stderr=True), f"search: the mixture's steps are {line}")

    # ---- steps

    def step(self, context: StepContext) -> dict[str, float | Tensor]:
        """One weight step and, after pretraining, every `choice_every` of them one choice step."""
        searching = context.epoch >= self.config.pretrain_epochs
        metrics = self._weight_step(context, searching)
        if searching and context.step_in_epoch % self.config.choice_every == 0:
            metrics |= self._choice_step(context)
        return metrics

    def _weight_step(self, context: StepContext, searching: bool) -> dict[str, float | Tensor]:
        rate = self.update.begin(context)
        found = []
        self.supernet.train()
        for part, x, y in self.parts_of(self.batches, context.step, context.seed):
            rng = np.random.default_rng([context.seed, part])
            if searching and self.config.weight_step == "mixture":
                with torch.no_grad():
                    relaxed = self._relaxed(context.epoch)
                x = at_side(x, self.logits.drawn_resolution(rng))
                found.append(self._weight_passes(x, y, sent(relaxed, self.problem.device)))
            else:
                found.append(self._sampled_passes(self.logits.sample(rng) if searching else self._sampled(rng), x, y))
        self.end_update()
        loss, accuracy = (torch.stack(each).mean() for each in zip(*found, strict=True))
        return {"loss": loss, "accuracy": accuracy, "lr": rate}

    def _sampled_passes(self, architecture: Architecture, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        self.supernet.activate(architecture)
        with autocast_for(self.problem.device):
            predicted = self.supernet(self.seen_by(architecture, x))
            loss = self.criterion(predicted.float(), y)
        self._backward(loss)
        return loss.detach(), (predicted.argmax(1) == y).float().mean()

    def _backward(self, loss: Tensor) -> None:
        self.update.backward(loss / self.recipe.accumulate)

    def _sampled(self, rng: np.random.Generator) -> Architecture:
        """One drawn uniformly, of a resolution at which something keeps the budgets."""
        space = self.problem.space
        drawn = (space.sample(rng) for _ in itertools.count())
        return next(one for one in drawn if space.side.axis.picked(one.as_dict()) in self.logits.resolutions)

    def _choice_step(self, context: StepContext) -> dict[str, float | Tensor]:
        before = (context.epoch - self.config.pretrain_epochs) * self.choice_steps_per_epoch
        batch = before + context.step_in_epoch // self.config.choice_every
        seed = part_seed(context.seed, "choice step")
        losses, logits = [], self.logits.logits
        logits.grad = torch.zeros_like(logits)
        for part, x, y in self.parts_of(self.choice_batches, batch, seed):
            x = at_side(x, self.logits.drawn_resolution(np.random.default_rng([seed, part])))
            relaxed = self._relaxed(context.epoch)
            loss, of_relaxed = self._choice_passes(x, y, sent(relaxed.detach(), self.problem.device))
            (gradient,) = torch.autograd.grad(relaxed, [logits], of_relaxed.to(relaxed.device))
            logits.grad.add_(gradient, alpha=1 / self.recipe.accumulate)
            losses.append(loss)
        self.ranks.average_([logits.grad])
        self.choice_optimizer.step()
        self.projection.project(self.logits, self.problem.tables)
        return {"choice_loss": torch.stack(losses).mean()}

    def _relaxed(self, epoch: int) -> Tensor:
        return self.logits.relaxed(self.temperature(epoch), self.config.relaxation == "gumbel")

    def temperature(self, epoch: int) -> float:
        """Of the relaxation in an epoch; the first one's until pretraining is over."""
        first, last = self.config.temperature
        share = max(0, epoch - self.config.pretrain_epochs) / max(1, self.config.epochs - 1)
        return float(first * (last / first) ** share)

    # ---- between epochs

    def enough(self, history: History, seconds: float) -> bool:
        """Whether a rule of the configuration ends it."""
        return self.config.rule_that_stops(seconds, since_better(_validated(history))) is not None

    def end_epoch(self, epoch: int) -> dict[str, object]:
        """What the report shows of an epoch, and the accuracy of what would be decoded now."""
        config = self.config
        searching = epoch >= config.pretrain_epochs
        self.ranks.copy_first_([self.logits.logits])  # other processors may round otherwise
        entropies = self.logits.entropy()
        due = searching and ((epoch + 1) % config.validate_every == 0 or epoch + 1 == self.total_epochs)
        accuracies = {}
        if due:
            decoded = decoded_at_each(self.decoder, self.logits.scores()) if self.ranks.first else {}
            architectures = {str(resolution): found.architecture for resolution, found in decoded.items()}
            accuracies = {
                resolution: inherited_accuracy(
                    self.supernet, architecture, self.images, self.problem, config.calibration_images, self.ranks
                )
                for resolution, architecture in self.ranks.from_first(architectures).items()
            }
        with torch.no_grad():
            drawn = self.logits.probabilities()
            multipliers = self.projection.by_metric()
            told = {n: t for n, t in self.problem.tables.items() if n in multipliers or not is_aside(n)}
            expected = {name: float(table.expected_cost(drawn)) for name, table in told.items()}
            probabilities = {name: drawn[name].tolist() for name in entropies}
        entry: dict[str, object] = {
            "searching": searching,
            "validation_accuracy": max(accuracies.values(), default=None),
            "temperature": self.temperature(epoch) if searching else None,
            "entropy": sum(entropies.values()) / max(1, len(entropies)),
            "expected": expected,
            "multipliers": multipliers,
            "probabilities": probabilities,
            "warnings": warnings_of(
                self.problem, expected, probabilities, entropies, epoch - config.pretrain_epochs, config.epochs
            )
            if searching
            else [],
        }
        if accuracies and self.problem.space.side.varies:
            entry["accuracy_at"] = accuracies
        if self.problem.on_epoch is not None and self.ranks.first:
            self.problem.on_epoch({"epoch": epoch, **entry})
        return entry


def search_differentiable(
    problem: SearchProblem, config: DifferentiableConfig, name: str = "search"
) -> DifferentiableResult:
    """Run, or resume, one differentiable search; `restarts` is not read here.

    Args:
        name: of the search, in what is shown and logged; part of what its random numbers are seeded from.

    Raises:
        ConfigError: the space leaves no choice.
        InfeasibleBudgetError: before any training, when no architecture keeps the budgets.
        CheckpointError, TrainingError: see `training.loop.Loop.run`.
    """
    with problem.ranks.together():
        check_feasible(problem.space, problem.tables, problem.budgets)
        search = _Search(problem, config)
    more: dict[str, Stateful] = {
        "logits": search.logits,
        "projection": search.projection,
        "choice_optimizer": search.choice_optimizer,
    }
    history, seconds, cpu_seconds = search.run(name, more)
    done, searched = len(history), max(0, len(history) - config.pretrain_epochs)
    images = done * search.batches.per_epoch * search.batches.images_per_batch
    images += searched * search.choice_steps_per_epoch * search.choice_batches.images_per_batch
    scores, stopped, judged = search.logits.scores(), None, history[-1]
    rule = config.rule_that_stops(seconds, since_better(_validated(history)))
    if done < search.total_epochs and rule is not None:
        scores, judged = _best_scores(history) or (scores, judged)
        stopped = config.stopped(rule, seconds, done, search.total_epochs, "epochs")
    worth = {option: (judged.accuracy_at or {}).get(str(option), -1.0) for option in search.logits.resolutions}
    return DifferentiableResult(
        scores=with_resolutions(problem.space, scores, worth),
        history=history,
        supernet=search.supernet,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        images=images,
        stopped=stopped,
    )


def _best_scores(history: History) -> tuple[dict[str, list[float]], Epoch] | None:
    """Those of the epoch of the best validation, and it: a search that ends early has not been annealed to its last."""
    best = max(history, key=lambda row: -1.0 if row.validation_accuracy is None else row.validation_accuracy)
    if best.validation_accuracy is None or best.probabilities is None:
        return None
    tiny = float(np.finfo(np.float32).tiny)
    return {name: np.log(np.maximum(shares, tiny)).tolist() for name, shares in best.probabilities.items()}, best
