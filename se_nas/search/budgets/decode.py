"""Exact decoding: the best-scored architecture that keeps every budget, as a multiple-choice knapsack.

Each choice scores each option (choice logits, say); an architecture's score is the sum over its choices, counted from
the best option, so that a choice that depth switches off costs nothing. Costs come from the terms of the cost tables,
so the optimum is exact under all budgets together. A new budget is a new decode, not a new search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from se_nas.cost.budget import Budget, format_cost
from se_nas.cost.table import CostTable, FloatArray
from se_nas.errors import ConfigError, InfeasibleBudgetError
from se_nas.search.budgets.greatest_part import extreme_part
from se_nas.search.budgets.integer_program import IntegerProgram
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace

Scores = Mapping[str, Sequence[float] | FloatArray]


@dataclass(frozen=True)
class Decoded:
    """The optimum: its score (0 when every choice has its best option) and its cost by every table."""

    architecture: Architecture
    score: float
    costs: dict[str, float]


class Decoder:
    """Decodes of one space under the same budgets, for scores that change.

    Args:
        tables: by metric; every budgeted metric must be there.

    Raises:
        ConfigError: a budget on a metric that has no table.
    """

    def __init__(self, space: SearchSpace, tables: Mapping[str, CostTable], budgets: Sequence[Budget]) -> None:
        for budget in budgets:
            if budget.metric not in tables:
                known = ", ".join(tables)
                problem = f"{budget.metric}: needs a cost table, but there are only those of {known}"
                raise ConfigError("budgets", [problem])
        self.space, self.tables, self.budgets = space, dict(tables), tuple(budgets)
        self._program = IntegerProgram(space, tables, budgets)

    def decode(self, scores: Scores) -> Decoded:
        """The architecture of the highest score among those that keep all budgets.

        Args:
            scores: for each choice, one score an option; higher is better, -inf where it must not be taken.

        Raises:
            InfeasibleBudgetError: none keeps them; the message names the least reachable cost.
        """
        if (found := self.decoded(scores)) is None:
            raise self._infeasible()
        return found

    def decoded(self, scores: Scores) -> Decoded | None:
        """The same; None where none keeps them."""
        solution = self._program.solve(_arrays(self.space, scores))
        if solution is None:
            return None
        picks, architecture = solution
        score = sum(float(scores[c.name][c.index(picks[c.name])] - np.max(scores[c.name])) for c in self.space.choices)
        return Decoded(architecture, score, {name: table.cost(architecture) for name, table in self.tables.items()})

    def best(
        self, scores: Scores, gap: float = 0.0, relative_gap: float = 0.0
    ) -> tuple[dict[str, Option], Architecture]:
        """The picks that `decode` takes, with the best option where a choice is without effect; and what they give.

        Args:
            gap: by how much their score may fall short of the highest; relative_gap: the same, by which share of it.
        """
        solution = self._program.solve(_arrays(self.space, scores), gap, relative_gap)
        if solution is None:
            raise self._infeasible()
        return solution

    def _infeasible(self) -> InfeasibleBudgetError:
        return InfeasibleBudgetError(_what_is_reachable(self.space, self.tables, self.budgets, {}))


def _arrays(space: SearchSpace, scores: Scores) -> dict[str, FloatArray]:
    return {c.name: np.asarray(scores[c.name], float) for c in space.choices}


def decode(space: SearchSpace, tables: Mapping[str, CostTable], budgets: Sequence[Budget], scores: Scores) -> Decoded:
    """The one answer of a `Decoder`."""
    return Decoder(space, tables, budgets).decode(scores)


def check_feasible(space: SearchSpace, tables: Mapping[str, CostTable], budgets: Sequence[Budget]) -> None:
    """Raise as `decode` does where no architecture keeps the budgets."""
    decode(space, tables, budgets, {choice.name: [0.0] * len(choice.options) for choice in space.choices})


def least_cost(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    metric: str,
    held: Sequence[Budget] = (),
    only: Mapping[str, Option] | None = None,
) -> Decoded:
    """The architecture of the least cost in one metric among those that keep the budgets `held` and the picks `only`.

    Raises:
        InfeasibleBudgetError: none keeps them.
    """
    return _extreme(space, tables, metric, held, only or {}, weight=-1.0, gap=0.0)


def greatest_cost(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    metric: str,
    held: Sequence[Budget] = (),
    only: Mapping[str, Option] | None = None,
    gap: float = 0.0,
) -> Decoded:
    """The architecture of the greatest cost in one metric; see `least_cost`.

    Args:
        gap: share of the cost by which it may fall short of the greatest; with a budget on the same metric, the very
            greatest is a subset-sum problem that can take minutes.
    """
    return _extreme(space, tables, metric, held, only or {}, weight=1.0, gap=gap)


def _extreme(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    metric: str,
    held: Sequence[Budget],
    only: Mapping[str, Option],
    *,
    weight: float,
    gap: float,
) -> Decoded:
    architecture = _extreme_one(space, tables, metric, held, only, weight, gap)
    if architecture is None:
        raise InfeasibleBudgetError(_what_is_reachable(space, tables, held, only))
    return Decoded(architecture, 0.0, {name: table.cost(architecture) for name, table in tables.items()})


def _extreme_one(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    metric: str,
    held: Sequence[Budget],
    only: Mapping[str, Option],
    weight: float,
    gap: float,
) -> Architecture | None:
    allowed = {
        c.name: np.array([0.0 if only.get(c.name, option) == option else -math.inf for option in c.options])
        for c in space.choices
    }
    solution = (
        extreme_part(tables, metric, held, weight, lambda t, budgets: IntegerProgram(space, t, budgets).solve(allowed))
        if tables[metric].parts == "max"
        else IntegerProgram(space, tables, held, (metric, weight)).solve(allowed, relative_gap=gap)
    )
    return None if solution is None else solution[1]


def _what_is_reachable(
    space: SearchSpace, tables: Mapping[str, CostTable], budgets: Sequence[Budget], only: Mapping[str, Option]
) -> str:
    """One line that says which budget cannot be kept and what could be."""
    start = f"space {space.name}: some architecture must keep every budget, but got "
    alone = {budget: least_cost(space, tables, budget.metric, (), only).costs[budget.metric] for budget in budgets}
    broken = [budget for budget in budgets if not budget.holds(alone[budget])]
    if broken:
        return start + "; ".join(
            f"{budget}, where the least reachable is {format_cost(budget.metric, alone[budget], up=True)}"
            for budget in broken
        )
    # each can be kept alone: take them one by one and say where it ends, and what each must give way to
    for number in range(1, len(budgets)):
        last = budgets[number]
        if not last.holds(least_cost(space, tables, last.metric, budgets[:number], only).costs[last.metric]):
            together = budgets[: number + 1]
            told = [
                _beside(space, tables, budget, [other for other in together if other != budget], only)
                for budget in reversed(together)
            ]
            return start + "; ".join(filter(None, told))
    raise AssertionError("the budgets can be kept one by one and together, yet no architecture was found")


def _beside(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    budget: Budget,
    others: Sequence[Budget],
    only: Mapping[str, Option],
) -> str | None:
    """What is reachable of a budget where the others are kept; None where these cannot be."""
    architecture = _extreme_one(space, tables, budget.metric, others, only, weight=-1.0, gap=0.0)
    if architecture is None:
        return None
    least = format_cost(budget.metric, tables[budget.metric].cost(architecture), up=True)
    return f"{budget}, where the least reachable with {' and '.join(map(str, others))} is {least}"
