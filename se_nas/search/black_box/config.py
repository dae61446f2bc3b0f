"""What a run file says of an Optuna-driven search; read without Optuna."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, create_model, model_validator

from se_nas.cost.metrics import METRICS
from se_nas.errors import counted
from se_nas.records.bounds import MOST_COUNT
from se_nas.records.measure import Measure
from se_nas.records.numbers import Count
from se_nas.search.black_box.evaluators.registry import EVALUATORS
from se_nas.search.black_box.evaluators.stand_alone import checked_short_recipe, short_recipe
from se_nas.search.black_box.samplers import AUTO, SAMPLERS
from se_nas.search.one_shot.config import OneShotConfig
from se_nas.search.starting import StartingConfig, slower
from se_nas.search.stopping import StoppingConfig
from se_nas.search.zero_cost.evaluator import ZeroCostConfig
from se_nas.search.zero_cost.screen import ScreenConfig
from se_nas.training.recipe import Recipe


def _objective(name: str) -> str:
    """A metric, or what some evaluator measures."""
    return METRICS.checked(name, also=list(dict.fromkeys(entry.measure.name for entry in EVALUATORS.values())))


Sampler = Annotated[str, AfterValidator(lambda name: SAMPLERS.checked(name, also=[AUTO]))]
Objective = Annotated[str, AfterValidator(_objective)]
ShortRecipe = Annotated[Recipe, BeforeValidator(short_recipe), AfterValidator(checked_short_recipe)]


class OptunaConfig(StoppingConfig, StartingConfig):
    """How a black-box search runs; see also `StoppingConfig` and `StartingConfig`.

    Attributes:
        strategy: "optuna".
        sampler: "auto" is NSGA-II for several objectives and regularised evolution for accuracy alone; "predictor"
            learns what each pick is worth and decodes the best network, for accuracy alone.
        objectives: what the evaluator measures, and any costs beside it, which are to be low. Budgets bind whether they
            are objectives or not.
        max_evaluations: distinct architectures to evaluate, pruned ones included.
        population: architectures in a generation of NSGA-II and NSGA-III, or alive at a time in regularised evolution.
        tournament: candidates for parent in regularised evolution.
        proposals: "feasible" repairs every proposal that breaks a budget by the exact decode; "any" evaluates it, and
            the sampler learns of the excess as an Optuna constraint.
        evaluator: "supernet": weights inherited from one supernet; "stand_alone": a short training of each; "table":
            accuracies that are known, in `table`; "zero_cost": no training, but the NASWOT score at the start of one.
        table: path of a JSON-lines file, relative to the run file; see `TableEvaluator`.
        supernet: how the supernet of the "supernet" evaluator is trained.
        stand_alone: the short training of the "stand_alone" evaluator.
        zero_cost: how the "zero_cost" evaluator takes a score.
        screen: random architectures of which those of the best NASWOT score are evaluated first; null for none.
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
    evaluator: Annotated[str, AfterValidator(EVALUATORS.checked)] = "supernet"
    table: str | None = Field(None, min_length=1)
    supernet: OneShotConfig = OneShotConfig()
    stand_alone: ShortRecipe = Field(default_factory=lambda: Recipe.model_validate(short_recipe()))
    zero_cost: ZeroCostConfig = ZeroCostConfig()
    screen: ScreenConfig | None = None
    pruner: Literal["none", "successive_halving", "hyperband"] = "none"
    enqueue: tuple[str, ...] = ()
    heartbeat_seconds: int = Field(10, ge=1, le=86400)

    @model_validator(mode="before")
    @classmethod
    def _first_objective(cls, value: Any) -> Any:
        """What the evaluator measures, where no objectives are given."""
        name = value.get("evaluator", "supernet") if isinstance(value, dict) else None
        entry = EVALUATORS.get(name) if isinstance(name, str) else None
        return {"objectives": (entry.measure.name,), **value} if entry else value

    @model_validator(mode="before")
    @classmethod
    def _slower_supernet(cls, value: Any) -> Any:
        """Of trained weights, where the supernet is the evaluator."""
        if not isinstance(value, dict) or value.get("weights") is None:
            return value
        if value.get("evaluator", "supernet") != "supernet":
            return value
        usual = OneShotConfig.model_fields["learning_rate"].default
        return {**value, "supernet": slower(value.get("supernet", {}), usual)}

    @property
    def weight_rate(self) -> float:
        """See `StartingConfig`."""
        return self.supernet.learning_rate

    @model_validator(mode="after")
    def _parts_fit(self) -> OptunaConfig:
        first, costs = self.objectives[:1], self.objectives[1:]
        if first != (self.measure.name,) or len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives must be distinct, {self.measure.name} first")
        if beside := [name for name in costs if name not in METRICS]:
            raise ValueError(f"objectives after the first must be metrics, but {beside[0]} is none")
        if self.sampler != AUTO and not SAMPLERS[self.sampler].several and costs:
            raise ValueError(f"the sampler {self.sampler} needs objectives [{first[0]}] alone; nsga2 takes several")
        if self.pruner != "none" and (self.epochs is None or costs):
            must = f"an evaluator that reports epochs, such as stand_alone, and objectives [{first[0]}] alone"
            raise ValueError(f"a pruner needs {must}")
        if (self.evaluator == "table") != (self.table is not None):
            raise ValueError("table must be given with evaluator table, and only then")
        if self.screen is not None and self.evaluator == "zero_cost":
            raise ValueError("screen must be left out with evaluator zero_cost, which judges by the same score")
        room = self.max_evaluations - len(self.enqueue)  # what is enqueued comes before what is kept
        if self.screen is not None and self.screen.kept > room:
            less = f" less the {counted(len(self.enqueue), 'architecture')} of enqueue" if self.enqueue else ""
            must = f"must be at most max_evaluations{less}, {room:,}, but got {self.screen.kept:,}"
            raise ValueError(f"screen.kept: {must}")
        if self.weights is not None and not EVALUATORS[self.evaluator].has_supernet:
            raise ValueError(f"weights must be left out with evaluator {self.evaluator}, which trains no supernet")
        return self

    @property
    def settings(self) -> Any:
        """Of the evaluator: what stands under its name."""
        return getattr(self, self.evaluator) if EVALUATORS[self.evaluator].config else None

    @property
    def measure(self) -> Measure:
        """What the evaluator says of an architecture."""
        return EVALUATORS[self.evaluator].measure

    @property
    def epochs(self) -> int | None:
        """How many an evaluation reports; None where it reports none."""
        epochs = EVALUATORS[self.evaluator].epochs
        return None if epochs is None else epochs(self.settings)

    @property
    def chosen_sampler(self) -> str:
        """The sampler, "auto" resolved."""
        if self.sampler != AUTO:
            return self.sampler
        return "nsga2" if len(self.objectives) > 1 else "evolution"


def model_with_evaluators() -> type[OptunaConfig]:
    """The model with the settings of every evaluator under its name, a plugin's too."""
    more: dict[str, Any] = {
        name: (evaluator.config, evaluator.config())
        for name, evaluator in EVALUATORS.items()
        if evaluator.config is not None and name not in OptunaConfig.model_fields
    }
    return create_model("OptunaConfig", __base__=OptunaConfig, **more) if more else OptunaConfig
