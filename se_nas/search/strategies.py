"""The ways to search: each takes a problem and its configuration, and hands back the same kind of finding."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable
from se_nas.errors import ConfigError
from se_nas.search.answer import Answer, answer, answer_among
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import best_first, evaluations_from
from se_nas.search.certificate import Latency
from se_nas.search.differentiable.restarts import search_with_restarts
from se_nas.search.problem import SearchProblem
from se_nas.search.result import EVALUATIONS, SCORES, SearchResult
from se_nas.space.search_space import SearchSpace


def _optuna(problem: SearchProblem, config: OptunaConfig) -> SearchResult:
    from se_nas.search.black_box.strategy import search_optuna  # needs Optuna

    return search_optuna(problem, config)


STRATEGIES: dict[str, Callable[[SearchProblem, Any], SearchResult]] = {
    "differentiable": search_with_restarts,
    "optuna": _optuna,
}


def answer_again(
    folder: Path,
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    latency: Latency,
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
        return answer(space, tables, latency, budgets, _read(folder / SCORES))
    if (folder / EVALUATIONS).exists():
        source = str(folder / EVALUATIONS)
        missing = [budget.metric for budget in budgets if budget.metric not in tables]
        if missing:
            raise ConfigError(
                "budgets", [f"{metric}: needs a cost table, but the run was made without one" for metric in missing]
            )
        ranked = best_first(evaluations_from(space, _read(folder / EVALUATIONS), source), budgets)
        return answer_among(space, tables, latency, budgets, ((e.architecture, e.accuracy or 0.0) for e in ranked))
    raise ConfigError(
        str(folder.parent),
        [f"must be the folder of a run whose search is done, but it has no {folder.name}/{SCORES} or {EVALUATIONS}"],
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), [f"file: must be JSON that can be read, but got: {error}"]) from error
