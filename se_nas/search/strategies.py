"""The ways to search, by the name that `search:` of a run file gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from se_nas.cost.budget import Budget
from se_nas.cost.latencies import Latencies
from se_nas.cost.table import CostTable
from se_nas.errors import ConfigError
from se_nas.hardware.lines import Say
from se_nas.records.record import read_record
from se_nas.records.registry import Registry
from se_nas.search.answer import Answer, answer, answer_among
from se_nas.search.black_box.config import OptunaConfig, model_with_evaluators
from se_nas.search.black_box.evaluation import EvaluationsFile, best_first, evaluations_in, read_evaluations
from se_nas.search.black_box.evaluators.registry import EVALUATORS
from se_nas.search.black_box.evaluators.table import TableEvaluator
from se_nas.search.black_box.pareto import front_in
from se_nas.search.budgets.baselines import known_baselines
from se_nas.search.differentiable.restarts import help_with_restarts, search_with_restarts
from se_nas.search.differentiable.search import DifferentiableConfig
from se_nas.search.problem import SearchProblem
from se_nas.search.result import EVALUATIONS, SCORES, TABLE, SearchResult, read_scores
from se_nas.search.starting import STARTING_KEYS
from se_nas.search.strategy import NamedFile, Strategy
from se_nas.search.strategy_config import StrategyConfig
from se_nas.space.architecture_file import load_architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.size import rounded_size

#: Where a run's folder keeps what the configuration names, so that the folder is complete.
_TABLE = f"search/{TABLE}"
_ENQUEUED = "search/enqueued"
#: Numbers of the front that an error names.
_LISTED = 12


class DifferentiableStrategy(Strategy[DifferentiableConfig]):
    """See `DifferentiableConfig`."""

    config = DifferentiableConfig
    file_keys = STARTING_KEYS

    def search(self, problem: SearchProblem, config: DifferentiableConfig) -> SearchResult:
        """See `search_with_restarts`."""
        return search_with_restarts(problem, config)

    def calibration_images(self, config: DifferentiableConfig) -> int:
        """Its own."""
        return config.calibration_images

    def supernet_batch(self, config: DifferentiableConfig) -> int:
        """Its own."""
        return config.batch_size // config.accumulate

    def check_ranks(self, config: DifferentiableConfig, ranks: int) -> None:
        """Refuse a batch that does not divide."""
        config.check_ranks(ranks)

    def help(self, problem: SearchProblem, config: DifferentiableConfig) -> None:
        """See `help_with_restarts`."""
        help_with_restarts(problem, config)


class BlackBoxStrategy(Strategy[OptunaConfig]):
    """See `OptunaConfig`."""

    config = OptunaConfig
    file_keys = ("table", "enqueue", *STARTING_KEYS)

    def model(self) -> type[OptunaConfig]:
        """See `model_with_evaluators`."""
        return model_with_evaluators()

    def search(self, problem: SearchProblem, config: OptunaConfig) -> SearchResult:
        """See `search_optuna`."""
        from se_nas.search.black_box.strategy import search_optuna  # needs Optuna

        return search_optuna(problem, config)

    def metrics(self, config: OptunaConfig) -> Mapping[str, str]:
        """The objectives but the first, which is the evaluator's."""
        return dict.fromkeys(config.objectives[1:], "search.objectives")

    def files(self, config: OptunaConfig) -> tuple[NamedFile, ...]:
        """The table, and the architectures to evaluate first."""
        table = () if config.table is None else (NamedFile("table", config.table, _TABLE),)
        words = enumerate(dict.fromkeys(config.enqueue))
        return (*table, *(NamedFile("enqueue", word, f"{_ENQUEUED}/{i}.json", True) for i, word in words))

    def with_files(self, config: OptunaConfig, places: Mapping[str, str]) -> OptunaConfig:
        """The same with the copies in place of the files."""
        table = None if config.table is None else places.get(config.table, config.table)
        words = tuple(places.get(word, word) for word in dict.fromkeys(config.enqueue))
        return config.model_copy(update={"table": table, "enqueue": words})

    def check(self, config: OptunaConfig, space: SearchSpace, files: Mapping[str, Path], say: Say) -> None:
        """Refuse a table or an architecture of another space, or an unknown baseline; name what is not read."""
        for name, field in type(config).model_fields.items():
            unread = name in EVALUATORS and name != config.evaluator and EVALUATORS[name].config is not None
            if unread and getattr(config, name) != field.get_default(call_default_factory=True):
                say(f"search.{name} is not read: the evaluator is {config.evaluator}")
        for name, source in files.items():
            if name == _TABLE:
                lines = len(TableEvaluator.load(source, space).metrics)
                if lines < space.size:
                    share = f"{100 * lines / space.size:.3g} %"
                    what = f"{lines:,} of the space's {rounded_size(space.size)} networks, {share} of them"
                    say(f"{source}: {what}: the search is among these")
            else:
                space.check(load_architecture(source).architecture)
        known = known_baselines(space)
        unknown = [word for word in config.enqueue if word not in known and word not in files]
        if unknown:
            must = f"must be an architecture file, a run folder, or one of {', '.join(known)}"
            raise ConfigError("search.enqueue", [f"{must}, but got {word!r}" for word in unknown])

    def calibration_images(self, config: OptunaConfig) -> int:
        """The supernet's."""
        return config.supernet.calibration_images

    def supernet_batch(self, config: OptunaConfig) -> int | None:
        """The supernet's, where that is what judges."""
        return config.supernet.batch_size // config.supernet.accumulate if config.evaluator == "supernet" else None

    def check_ranks(self, config: OptunaConfig, ranks: int) -> None:
        """Refuse an evaluator without a supernet, and a batch of one that does not divide."""
        if not EVALUATORS[config.evaluator].has_supernet:
            must = f"must be one that trains a supernet where {ranks} ranks share a search"
            instead = "any number of `worker` processes join a search without one"
            raise ConfigError("search", [f"evaluator: {must}, but is {config.evaluator}; {instead}"])
        config.settings.check_ranks(ranks)

    def help(self, problem: SearchProblem, config: OptunaConfig) -> None:
        """Train the supernet with the others; the evaluations are the first rank's, and workers'."""
        from se_nas.search.black_box.strategy import begin_study_together, prepare

        begin_study_together(problem, config)
        prepare(problem, config)

    def study(self, config: OptunaConfig) -> OptunaConfig:
        """Its own."""
        return config


STRATEGIES: Registry[Strategy[Any]] = Registry(
    "strategy",
    {
        "differentiable": DifferentiableStrategy(),
        "optuna": BlackBoxStrategy(),
    },
)
DEFAULT = "differentiable"


def parse_search(value: Any) -> Any:
    """What stands under `search:`, as the model of its strategy; a validator of pydantic's.

    `search: optuna` stands for `search: {strategy: optuna}`; without a strategy it is the differentiable one.
    """
    if isinstance(value, StrategyConfig):
        return value
    if isinstance(value, str):
        value = {"strategy": value}
    if not isinstance(value, dict):
        return value  # pydantic says that it must be a mapping
    value = {"strategy": DEFAULT, **value}
    try:
        name = STRATEGIES.checked(value["strategy"])
    except PydanticCustomError as error:
        fault = InitErrorDetails(type=error, loc=("strategy",), input=value["strategy"])
        raise ValidationError.from_exception_data("search", [fault]) from error
    return STRATEGIES[name].model().model_validate(value)


def strategy_of(config: StrategyConfig) -> Strategy[Any]:
    """The strategy that a configuration is of."""
    return STRATEGIES[config.strategy]


def study_config(config: StrategyConfig) -> OptunaConfig | None:
    """How the search of a configuration is driven as a study that processes share; None where it is not."""
    return strategy_of(config).study(config)


def answer_again(
    folder: Path,
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    latencies: Latencies,
    budgets: Sequence[Budget],
) -> Answer:
    """The answer of a finished search under other budgets: a decode of its scores, or the best that it evaluated.

    Args:
        folder: the problem's, where the search left what it learned.

    Raises:
        ConfigError: it holds no finished search.
        InfeasibleBudgetError: no architecture keeps the budgets.
    """
    if (folder / SCORES).exists():
        return answer(space, tables, latencies, budgets, read_scores(folder / SCORES, space))
    if (folder / EVALUATIONS).exists():
        missing = [budget.metric for budget in budgets if budget.metric not in tables]
        if missing:
            must = f"needs a cost table, but the run has only those of {', '.join(tables)}"
            raise ConfigError("budgets", [f"{metric}: {must}" for metric in missing])
        ranked = best_first(read_evaluations(folder / EVALUATIONS, space), budgets)
        return answer_among(space, tables, latencies, budgets, ((e.architecture, e.accuracy or 0.0) for e in ranked))
    raise ConfigError(
        str(folder.parent),
        [f"must be the folder of a run whose search is done, but it has no {folder.name}/{SCORES} or {EVALUATIONS}"],
    )


def answer_picked(
    folder: Path, space: SearchSpace, tables: Mapping[str, CostTable], latencies: Latencies, number: int
) -> Answer:
    """The architecture of a finished search's front that evaluation `number` was of, under the search's own budgets.

    Args:
        folder: the problem's, where the search left what it evaluated.

    Raises:
        ConfigError: the search evaluated no architectures one by one, or that number is none of its front.
        InfeasibleBudgetError: its network was measured to be too slow.
    """
    path = folder / EVALUATIONS
    if not path.exists():
        must = (
            "must be of a search that has a front, such as optuna, but it is not; --budget gives another answer of it"
        )
        raise ConfigError(str(folder.parent), [must])
    file = read_record(EvaluationsFile, path)
    evaluations = evaluations_in(file, space, str(path))
    front = {entry.number: entry for entry in front_in(evaluations, file.objectives, list(file.budgets))}
    if number not in front:
        last = max((entry.number for entry in evaluations), default=0)
        must = f"must be the number of an evaluation of the front ({_listed(sorted(front))}; of 0 to {last})"
        raise ConfigError("--pick", [f"{must}, but got {number}"])
    found = front[number]
    budgets = [Budget(str(metric), limit) for metric, limit in file.budgets.items()]
    return answer_among(space, tables, latencies, budgets, [(found.architecture, float(found.accuracy or 0.0))])


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_LISTED]))
    return f"{shown}, ..." if len(numbers) > _LISTED else shown or "none"
