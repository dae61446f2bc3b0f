"""What a run file says of an Optuna-driven search; read without Optuna."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from se_nas.records.bounds import MOST_COUNT
from se_nas.records.numbers import Count
from se_nas.search.black_box.stand_alone_evaluator import checked_short_recipe, short_recipe
from se_nas.search.one_shot.training import OneShotConfig
from se_nas.search.strategy_config import StrategyConfig
from se_nas.training.recipe import Recipe

Sampler = Literal["auto", "nsga2", "nsga3", "tpe", "gp", "random", "evolution"]
ShortRecipe = Annotated[Recipe, BeforeValidator(short_recipe), AfterValidator(checked_short_recipe)]
Objective = Literal["accuracy", "macs", "params", "latency_ms"]


class OptunaConfig(StrategyConfig):
    """How a black-box search runs.

    Attributes:
        strategy: "optuna".
        sampler: "auto" is NSGA-II for several objectives and regularised evolution for accuracy alone.
        objectives: accuracy, raised, with any of the costs, lowered. Budgets bind whether they are objectives or not.
        max_evaluations: distinct architectures to evaluate, pruned ones included.
        population: architectures in a generation of NSGA-II and NSGA-III, or alive at a time in regularised evolution.
        tournament: candidates for parent in regularised evolution.
        proposals: "feasible" repairs every proposal that breaks a budget by the exact decode; "any" evaluates it, and
            the sampler learns of the excess as an Optuna constraint.
        evaluator: "supernet": weights inherited from one supernet; "stand_alone": a short training of each; "table":
            accuracies that are known, in `table`.
        table: path of a JSON-lines file, relative to the run file; see `TableEvaluator`.
        supernet: how the supernet of the "supernet" evaluator is trained.
        stand_alone: the short training of the "stand_alone" evaluator.
        pruner: what ends such trainings early; a pruner needs accuracy as the only objective.
        enqueue: architectures to evaluate first: architecture files, run folders, or names of baselines.
        heartbeat_seconds: with a shared storage, how often a worker shows that it lives; one that is silent for three
            times as long loses its evaluation to another.
    """

    strategy: Literal["optuna"] = "optuna"
    sampler: Sampler = "auto"
    objectives: tuple[Objective, ...] = ("accuracy",)
    max_evaluations: Count = 200
    population: int = Field(24, ge=2, le=MOST_COUNT)
    tournament: int = Field(8, ge=2, le=MOST_COUNT)
    proposals: Literal["feasible", "any"] = "feasible"
    evaluator: Literal["supernet", "stand_alone", "table"] = "supernet"
    table: str | None = Field(None, min_length=1)
    supernet: OneShotConfig = OneShotConfig()
    stand_alone: ShortRecipe = Field(default_factory=lambda: Recipe.model_validate(short_recipe()))
    pruner: Literal["none", "successive_halving", "hyperband"] = "none"
    enqueue: tuple[str, ...] = ()
    heartbeat_seconds: int = Field(10, ge=1, le=86400)

    @model_validator(mode="after")
    def _parts_fit(self) -> OptunaConfig:
        if not self.objectives or self.objectives[0] != "accuracy" or len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives must be distinct, accuracy first")
        if self.sampler == "evolution" and len(self.objectives) > 1:
            raise ValueError("the sampler evolution needs objectives [accuracy] alone; nsga2 takes several")
        if self.pruner != "none" and (self.evaluator != "stand_alone" or len(self.objectives) > 1):
            raise ValueError("a pruner needs evaluator stand_alone and objectives [accuracy] alone")
        if (self.evaluator == "table") != (self.table is not None):
            raise ValueError("table must be given with evaluator table, and only then")
        return self

    @property
    def chosen_sampler(self) -> str:
        """The sampler, "auto" resolved."""
        if self.sampler != "auto":
            return self.sampler
        return "nsga2" if len(self.objectives) > 1 else "evolution"
