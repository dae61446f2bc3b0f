"""The ways to search: each takes a problem and its configuration, and hands back the same kind of finding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.differentiable.restarts import search_with_restarts
from se_nas.search.problem import SearchProblem
from se_nas.search.result import SearchResult


def _optuna(problem: SearchProblem, config: OptunaConfig) -> SearchResult:
    from se_nas.search.black_box.strategy import search_optuna  # needs Optuna

    return search_optuna(problem, config)


STRATEGIES: dict[str, Callable[[SearchProblem, Any], SearchResult]] = {
    "differentiable": search_with_restarts,
    "optuna": _optuna,
}
