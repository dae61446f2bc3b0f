"""A metric that is the greatest of a network's parts, for what reckons with sums: parts above the limit are counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable, CostTerm

T = TypeVar("T")

#: How many parts may be above a limit. A network has none or one at least, so that for it any number below 1 is one
#: limit; of choices that are not yet made it is the expectation that a projection leaves.
_FEW = 0.1
#: What a bound from below goes by, among the tables.
_REACHED = "parts that reach it"


def as_sums(
    tables: Mapping[str, CostTable], budgets: Sequence[Budget]
) -> tuple[dict[str, CostTable], tuple[Budget, ...]]:
    """Tables and budgets that the same architectures keep, where each budgeted cost is a sum."""
    summed, limits = dict(tables), []
    for budget in budgets:
        if tables[budget.metric].parts == "max":
            summed[budget.metric] = tables[budget.metric].above(budget.limit)
            limits.append(Budget(budget.metric, _FEW))
        else:
            limits.append(budget)
    return summed, tuple(limits)


def extreme_part(
    tables: Mapping[str, CostTable],
    metric: str,
    held: Sequence[Budget],
    weight: float,
    solve: Callable[[Mapping[str, CostTable], Sequence[Budget]], T | None],
) -> T | None:
    """What keeps the budgets with the least (`weight` below 0) or the greatest cost in such a metric, by bisection.

    Args:
        solve: something that keeps budgets under tables; None where nothing does.
    """
    table = tables[metric]
    values = np.unique(np.concatenate([[table.constant], *(term.values.ravel() for term in table.terms)]))
    values = values[values >= table.constant]
    limit = min((budget.limit for budget in held if budget.metric == metric), default=values[-1])
    others = [budget for budget in held if budget.metric != metric]

    def at(value: float) -> T | None:
        if weight < 0:
            return solve(tables, [*others, Budget(metric, min(value, limit))])
        if value == table.constant:
            return solve(tables, held)
        terms = [CostTerm(term.choices, -(term.values >= value).astype(float)) for term in table.terms]
        reached = CostTable(table.space, _REACHED, 0.0, terms)
        return solve({**tables, _REACHED: reached}, [*held, Budget(_REACHED, _FEW - 1)])

    # of the values in the order from what is surely reached to what is wanted, the last that can be had
    order = values[::-1] if weight < 0 else values
    found, low, high = None, 0, len(order) - 1
    while low <= high:
        middle = (low + high) // 2 if found is not None else low
        solution = at(float(order[middle]))
        if solution is None:
            if found is None:
                return None
            high = middle - 1
        else:
            found, low = solution, middle + 1
    return found
