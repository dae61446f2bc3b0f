"""Exact decoding: the best-scored architecture that keeps every budget, as a multiple-choice knapsack solved by HiGHS.

Each choice scores each option (choice logits, say); an architecture's score is the sum over its choices, counted from
the best option, so that a choice that depth switches off costs nothing. Costs come from the terms of the cost tables,
so the optimum is exact under all budgets together. A new budget is a new decode, not a new search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from se_nas.cost.budget import Budget, format_cost
from se_nas.cost.table import CostTable, FloatArray
from se_nas.errors import ConfigError, InfeasibleBudgetError, SeNasError
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace


@dataclass(frozen=True)
class Decoded:
    """The optimum: its score (0 when every choice has its best option) and its cost by every table."""

    architecture: Architecture
    score: float
    costs: dict[str, float]


@dataclass(frozen=True)
class _Group:
    """Configurations of the choices of one block: option indices (N, choices) and costs (N, metrics)."""

    choices: tuple[str, ...]
    options: NDArray[np.intp]
    costs: FloatArray


def decode(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    scores: Mapping[str, Sequence[float] | FloatArray],
) -> Decoded:
    """The architecture of the highest score among those that keep all budgets.

    Args:
        tables: by metric; every budgeted metric must be there.
        scores: for each choice, one finite score an option; higher is better.

    Raises:
        InfeasibleBudgetError: none keeps them; the message names the least reachable cost.
        ConfigError: a budget on a metric that has no table.
    """
    for budget in budgets:
        if budget.metric not in tables:
            known = ", ".join(tables)
            raise ConfigError("budgets", [f"{budget.metric}: needs a cost table, but there are only those of {known}"])
    centred = {c.name: np.asarray(scores[c.name], float) - np.max(scores[c.name]) for c in space.choices}
    groups = _groups(space, tables, [budget.metric for budget in budgets])
    tied = _tied_choices(groups)
    values = [
        sum(
            (centred[name][group.options[:, i]] for i, name in enumerate(group.choices) if name not in tied),
            _zeros(group),
        )
        for group in groups
    ]
    picks = _solve(space, tables, budgets, groups, values, centred)
    if picks is None:
        raise InfeasibleBudgetError(_what_is_reachable(space, tables, budgets))
    score = sum(float(centred[c.name][c.index(picks[c.name])]) for c in space.choices)
    architecture = space.architecture(picks)
    return Decoded(architecture, score, {name: table.cost(architecture) for name, table in tables.items()})


def check_feasible(space: SearchSpace, tables: Mapping[str, CostTable], budgets: Sequence[Budget]) -> None:
    """Raise as `decode` does where no architecture keeps the budgets."""
    decode(space, tables, budgets, {choice.name: [0.0] * len(choice.options) for choice in space.choices})


def least_cost(
    space: SearchSpace, tables: Mapping[str, CostTable], metric: str, held: Sequence[Budget] = ()
) -> Decoded:
    """The architecture of the least cost in one metric that keeps the budgets `held`.

    Raises:
        InfeasibleBudgetError: none keeps them.
    """
    return _extreme(space, tables, metric, held, sign=1.0)


def greatest_cost(space: SearchSpace, tables: Mapping[str, CostTable], metric: str) -> Decoded:
    """The architecture of the greatest cost in one metric."""
    return _extreme(space, tables, metric, (), sign=-1.0)


def _extreme(
    space: SearchSpace, tables: Mapping[str, CostTable], metric: str, held: Sequence[Budget], sign: float
) -> Decoded:
    joined = _groups(space, tables, [*(budget.metric for budget in held), metric])
    scale = max(sum(float(np.abs(group.costs[:, -1]).max()) for group in joined), 1e-12)
    values = [-sign * group.costs[:, -1] / scale for group in joined]
    groups = [_Group(group.choices, group.options, group.costs[:, :-1]) for group in joined]
    picks = _solve(space, tables, held, groups, values, {c.name: np.zeros(len(c.options)) for c in space.choices})
    if picks is None:
        raise InfeasibleBudgetError(_what_is_reachable(space, tables, held))
    architecture = space.architecture(picks)
    return Decoded(architecture, 0.0, {name: table.cost(architecture) for name, table in tables.items()})


def _what_is_reachable(space: SearchSpace, tables: Mapping[str, CostTable], budgets: Sequence[Budget]) -> str:
    """One line that says which budget cannot be kept and what could be."""
    start = f"space {space.name}: some architecture must keep every budget, but got "
    alone = {budget: least_cost(space, tables, budget.metric).costs[budget.metric] for budget in budgets}
    broken = [budget for budget in budgets if not budget.holds(alone[budget])]
    if broken:
        return start + "; ".join(
            f"{budget}, where the least reachable is {format_cost(budget.metric, alone[budget], up=True)}"
            for budget in broken
        )
    # each can be kept alone: take them one by one and say where it ends
    for number in range(1, len(budgets)):
        held, last = budgets[:number], budgets[number]
        least = least_cost(space, tables, last.metric, held).costs[last.metric]
        if not last.holds(least):
            kept = " and ".join(str(budget) for budget in held)
            return (
                start + f"{last}, where the least reachable with {kept} is {format_cost(last.metric, least, up=True)}"
            )
    raise AssertionError("the budgets can be kept one by one and together, yet no architecture was found")


def _groups(space: SearchSpace, tables: Mapping[str, CostTable], metrics: Sequence[str]) -> list[_Group]:
    """The tables' terms joined: terms whose choices another term covers add to that one."""
    terms = [(m, term) for m, name in enumerate(metrics) for term in tables[name].terms]
    arrays: dict[tuple[str, ...], FloatArray] = {}
    for m, term in sorted(terms, key=lambda pair: -len(pair[1].choices)):
        home = next((key for key in arrays if set(term.choices) <= set(key)), None)
        if home is None:
            home = term.choices
            arrays[home] = np.zeros((*term.values.shape, len(metrics)))
        order = sorted(range(len(term.choices)), key=lambda i: home.index(term.choices[i]))
        shape = [len(space.choice_by_name[name].options) if name in term.choices else 1 for name in home]
        arrays[home][..., m] += np.transpose(term.values, order).reshape(shape)
    return [
        _Group(key, np.indices(array.shape[:-1]).reshape(len(key), -1).T, array.reshape(-1, len(metrics)))
        for key, array in arrays.items()
    ]


def _zeros(group: _Group) -> FloatArray:
    return np.zeros(len(group.options))


def _tied_choices(groups: Sequence[_Group]) -> set[str]:
    """Choices that several groups share, so that these must agree on them."""
    counts: dict[str, int] = {}
    for group in groups:
        for name in group.choices:
            counts[name] = counts.get(name, 0) + 1
    return {name for name, count in counts.items() if count > 1}


def _undominated(group: _Group, values: FloatArray, tied: set[str]) -> NDArray[np.intp]:
    """Rows that no other row with the same tied options beats or equals in value and in every cost."""
    columns = [i for i, name in enumerate(group.choices) if name in tied]
    keys: dict[tuple[int, ...], list[int]] = {}
    for row in np.lexsort((*group.costs.T, -values)):
        keys.setdefault(tuple(int(o) for o in group.options[row, columns]), []).append(int(row))
    kept: list[int] = []
    for rows in keys.values():
        # sorted by value, so that a row can only be dominated by one before it
        costs = group.costs[rows]
        below = np.all(costs[:, None, :] <= costs[None, :, :], axis=2)
        dominated = np.any(np.triu(below, 1), axis=0)
        kept += [row for row, out in zip(rows, dominated, strict=True) if not out]
    return np.array(kept, dtype=np.intp)


def _solve(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    groups: Sequence[_Group],
    values: Sequence[FloatArray],
    scores: Mapping[str, FloatArray],
) -> dict[str, Option] | None:
    """Maximise the groups' values and the tied choices' scores under the budgets; None when nothing keeps them.

    One binary variable for each undominated configuration of a group and for each option of a tied choice.
    """
    tied = _tied_choices(groups)
    rows = [_undominated(group, value, tied) for group, value in zip(groups, values, strict=True)]
    starts = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(int)
    tied_starts: dict[str, int] = {}
    width = int(starts[-1])
    for name in sorted(tied):
        tied_starts[name] = width
        width += len(space.choice_by_name[name].options)

    gain = np.zeros(width)
    entries: list[tuple[int, int, float]] = []
    low: list[float] = []
    high: list[float] = []
    for start, row, group, value in zip(starts, rows, groups, values, strict=False):
        gain[start : start + len(row)] = value[row]
        entries += [(len(low), start + i, 1.0) for i in range(len(row))]
        low.append(1.0)
        high.append(1.0)
        for column, name in enumerate(group.choices):
            if name in tied:
                options = group.options[row, column]
                entries += [(len(low) + int(option), start + i, 1.0) for i, option in enumerate(options)]
                for option in range(len(space.choice_by_name[name].options)):
                    entries.append((len(low), tied_starts[name] + option, -1.0))
                    low.append(0.0)
                    high.append(0.0)
    for name, start in tied_starts.items():
        gain[start : start + len(scores[name])] = scores[name]
    for m, budget in enumerate(budgets):
        room = budget.limit - tables[budget.metric].constant
        # a room of 0 is a fair one, but HiGHS refuses coefficients of 1e15
        greatest = max((float(np.abs(group.costs[:, m]).max()) for group in groups), default=0.0)
        scale = max(abs(room), 1e-6 * greatest, 1e-9)
        for start, row, group in zip(starts, rows, groups, strict=False):
            entries += [(len(low), start + i, float(c)) for i, c in enumerate(group.costs[row, m] / scale)]
        low.append(-np.inf)
        high.append(room / scale)

    row_index, column_index, data = zip(*entries, strict=True) if entries else ((), (), ())
    matrix = csr_array((data, (row_index, column_index)), shape=(len(low), width))
    free = {c.name: c.options[int(np.argmax(scores[c.name]))] for c in space.choices}
    while True:
        if not width:
            solution = np.zeros(0)
        else:
            result = milp(
                -gain,
                constraints=LinearConstraint(matrix, np.array(low), np.array(high)),
                integrality=np.ones(width),
                bounds=Bounds(0, 1),
                options={"mip_rel_gap": 0.0},
            )
            if result.status not in (0, 2):  # neither solved nor infeasible
                raise SeNasError(
                    f"space {space.name}: the decoder must solve its program, but HiGHS says: {result.message}"
                )
            if result.x is None:
                return None
            solution = result.x
        picks = dict(free)
        chosen = []
        for start, row, group in zip(starts, rows, groups, strict=False):
            best = int(np.argmax(solution[start : start + len(row)]))
            chosen.append(start + best)
            for name, option in zip(group.choices, group.options[row[best]], strict=True):
                picks[name] = space.choice_by_name[name].options[int(option)]
        architecture = space.architecture(picks)
        if all(budget.holds(tables[budget.metric].cost(architecture)) for budget in budgets):
            return picks
        if not chosen:
            return None
        # within the solver's tolerance but over a budget by a few units: forbid this one and go on
        cut = csr_array((np.ones(len(chosen)), (np.zeros(len(chosen), int), chosen)), shape=(1, width))
        matrix = vstack([matrix, cut]).tocsr()
        low.append(-np.inf)
        high.append(len(chosen) - 1.0)
