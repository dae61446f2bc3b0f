"""The multiple-choice knapsack that a decode solves, as a mixed-integer program for HiGHS.

HiGHS is given the columns alone that a relaxation (`relaxation.py`) finds promising. What it answers is the optimum as
soon as every other column is known to lose more than what that answer leaves of the relaxation's bound; until then it
is given more of them. So the answer is exact, while the program stays small however many options a block has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint
from scipy.sparse import coo_array, csc_array, vstack

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable, FloatArray
from se_nas.errors import SeNasError
from se_nas.search.budgets.greatest_part import as_sums
from se_nas.search.budgets.highs import minimized
from se_nas.search.budgets.relaxation import FORBIDDEN, Relaxation, Solution
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace

#: HiGHS is first given the most promising columns, so many times as many as there are groups, and then more.
CORE, GROWTH = 4, 8
#: Share of themselves within which two values are equal.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class _Group:
    """Configurations of the choices of one block, with their costs.

    Attributes:
        own: choices of this block alone; `options` (N, own) are their option indices.
        tied: choices that other groups share. Options of one that make no difference here are one class: `class_of`
            (options,) for each, and `classes` (N, tied) says which ones a configuration is for.
        costs: (N, metrics); configurations of the same classes follow one another.
    """

    own: tuple[str, ...]
    options: NDArray[np.intp]
    tied: tuple[str, ...]
    class_of: tuple[NDArray[np.intp], ...]
    classes: NDArray[np.intp]
    costs: FloatArray


class IntegerProgram:
    """The integer program: a binary variable for each configuration of a group and for each option of a tied choice.

    Args:
        objective: a metric, whose cost is a sum, and the weight of its cost, relative to the greatest, beside the
            scores.
    """

    def __init__(
        self,
        space: SearchSpace,
        tables: Mapping[str, CostTable],
        budgets: Sequence[Budget],
        objective: tuple[str, float] | None = None,
    ) -> None:
        self.space = space
        self.tables, self.budgets = as_sums(tables, budgets)
        metrics = [budget.metric for budget in budgets] + ([objective[0]] if objective else [])
        self.groups = groups_of(space, self.tables, metrics)
        self.starts = np.cumsum([0, *(len(group.options) for group in self.groups)])
        self.costs = np.concatenate([np.zeros((0, len(metrics))), *(group.costs for group in self.groups)])
        self.offset = np.zeros(len(self.costs))
        if objective:
            scale = max(sum(float(np.abs(group.costs[:, -1]).max()) for group in self.groups), 1e-12)
            self.offset = objective[1] * self.costs[:, -1] / scale
            self.costs = self.costs[:, :-1]
        self._index_scores()
        self._constrain()
        groups_of_ties = [(group.tied, group.class_of) for group in self.groups]
        self._relaxation = Relaxation(self.tied, groups_of_ties, self.starts)

    def _index_scores(self) -> None:
        """Where, in the scores of all choices one after the other and a last 0, those of each configuration are."""
        ends = np.cumsum([len(choice.options) for choice in self.space.choices], dtype=int)
        first = {c.name: int(end) - len(c.options) for c, end in zip(self.space.choices, ends, strict=True)}
        widest = max((len(group.own) for group in self.groups), default=0)
        self.score_index = np.full((len(self.costs), widest), ends[-1] if len(ends) else 0)
        for start, group in zip(self.starts, self.groups, strict=False):
            for i, name in enumerate(group.own):
                self.score_index[start : start + len(group.options), i] = first[name] + group.options[:, i]
        shared = {name for group in self.groups for name in group.tied}
        self.tied = {c.name: len(c.options) for c in self.space.choices if c.name in shared}
        self.tied_starts = len(self.costs) + np.cumsum([0, *self.tied.values()])
        self.tied_index = np.concatenate(
            [np.zeros(0, int), *(first[name] + np.arange(size) for name, size in self.tied.items())]
        )

    def _constrain(self) -> None:
        """One configuration a group, one option a tied choice, the same one everywhere; and the budgets."""
        rows: list[NDArray[np.intp]] = []
        columns: list[NDArray[np.intp]] = []
        data: list[FloatArray] = []
        total: list[float] = []

        def add(row: NDArray[np.intp] | int, column: NDArray[np.intp], value: FloatArray | float) -> None:
            rows.append(np.broadcast_to(row, column.shape))
            columns.append(column)
            data.append(np.broadcast_to(value, column.shape))

        tied_start = dict(zip(self.tied, self.tied_starts, strict=False))
        for name, start in tied_start.items():
            add(len(total), start + np.arange(self.tied[name]), 1.0)
            total.append(1.0)
        for start, group in zip(self.starts, self.groups, strict=False):
            members = start + np.arange(len(group.options))
            if not group.tied:
                add(len(total), members, 1.0)
                total.append(1.0)
            for i, (name, class_of) in enumerate(zip(group.tied, group.class_of, strict=True)):
                add(len(total) + group.classes[:, i], members, 1.0)
                add(len(total) + class_of, tied_start[name] + np.arange(len(class_of)), -1.0)
                total += [0.0] * int(class_of.max() + 1)
        self.low = np.array([*total, *(-math.inf for _ in self.budgets)])
        # a room of 0 is a fair one, and so is an endless one, but HiGHS refuses coefficients of 1e15
        greatest = np.abs(self.costs).max(axis=0, initial=0.0)
        most = 1.0 + 2 * len(self.groups) * greatest
        room = [budget.limit - self.tables[budget.metric].constant for budget in self.budgets]
        self.room = np.clip(np.array(room), -most, most)
        scales = np.maximum(np.maximum(np.abs(self.room), 1e-6 * greatest), 1e-9)
        self.room, self.costs = self.room / scales, self.costs / scales
        # a row that is over a budget whatever the other groups take, as a part above a limit on the greatest one
        leasts = np.minimum.reduceat(self.costs, self.starts[:-1]) if len(self.groups) else np.zeros((0, len(room)))
        others = leasts.sum(axis=0) - np.repeat(leasts, np.diff(self.starts), axis=0)
        self.hopeless = np.any(others + self.costs > self.room + 1e-6, axis=1)
        for costs, limit in zip(self.costs.T, self.room, strict=True):
            add(len(total), np.arange(len(costs)), costs)
            total.append(float(limit))
        self.high = np.array(total)
        where = (np.concatenate(rows), np.concatenate(columns)) if rows else (np.zeros(0, int), np.zeros(0, int))
        shape = (len(total), int(self.tied_starts[-1]))
        self.matrix = csc_array(coo_array((np.concatenate(data) if data else np.zeros(0), where), shape=shape))

    def solve(
        self, scores: Mapping[str, FloatArray], gap: float = 0.0, relative_gap: float = 0.0
    ) -> tuple[dict[str, Option], Architecture] | None:
        """The picks of the greatest score, and their architecture; None when nothing keeps the budgets.

        Args:
            scores: for each choice, one score an option, -inf where it must not be taken.
            gap: by how much the answer's score may fall short of the greatest; relative_gap: the same, by which share
                of it.
        """
        joined = np.concatenate([*(scores[c.name] - np.max(scores[c.name]) for c in self.space.choices), np.zeros(1)])
        values = np.where(self.hopeless, FORBIDDEN, joined[self.score_index].sum(axis=1) + self.offset)
        gain = np.maximum(np.concatenate([values, joined[self.tied_index]]), FORBIDDEN)
        priced = self._relaxation.priced(gain[: len(values)], gain[len(values) :], self.costs, self.room, gap)
        if priced.bound < self._least(gain):
            return None
        losses = np.where(gain > FORBIDDEN, priced.losses, math.inf)
        in_order = np.sort(losses)
        same = TOLERANCE * max(1.0, abs(priced.bound))
        best, broken = priced.found, list[Solution]()
        size, reach = CORE * len(self.groups), 0.0
        while True:
            slack = max(gap, relative_gap * abs(best.value) if best else 0.0) + same
            # what has a part that loses more than `reach` is worth less than the bound without it
            if best is not None and best.value + reach + slack >= priced.bound:
                picks, architecture = self._read(scores, best)
                if all(budget.holds(self.tables[budget.metric].cost(architecture)) for budget in self.budgets):
                    return picks, architecture
                # within a tolerance but over a budget by a few units: forbid this one and go on among as many
                broken.append(best)
                size = max(CORE * len(self.groups), int(np.searchsorted(in_order, priced.bound - best.value)))
                best = None
            missing = math.inf if best is None else priced.bound - best.value - slack
            reach = same + min(missing, float(in_order[size]) if size < len(losses) else math.inf)
            size *= GROWTH
            part = np.flatnonzero((losses <= reach) & (losses < math.inf))
            share = max(relative_gap, (gap + same) / max(abs(priced.bound), abs(priced.bound - reach - gap)))
            found = self._solved_within(part, gain, None if best is None else best.value + slack, share, broken)
            best = found or best
            if best is None and reach == math.inf:
                return None

    def _least(self, gain: FloatArray) -> float:
        """What every architecture is worth at least, where it is none that must not be taken."""
        worst = np.where(gain > FORBIDDEN, gain, 0.0)
        firsts = np.concatenate([self.starts[:-1], self.tied_starts[:-1]])
        least = float(np.minimum.reduceat(worst, firsts).sum()) if len(worst) else 0.0
        return least - TOLERANCE * max(1.0, abs(least))

    def _solved_within(
        self, part: NDArray[np.intp], gain: FloatArray, above: float | None, gap: float, broken: Sequence[Solution]
    ) -> Solution | None:
        """The best that these columns of the program give; None when nothing of them keeps the budgets.

        Args:
            above: what it must be worth more than; None without such a limit.
            gap: share of its value by which it may fall short of the best.
            broken: solutions that are forbidden.
        """
        # as a row, since SciPy has no cut-off: it settles most of the branching
        rows = [*(np.isin(part, solution.rows) for solution in broken), *([] if above is None else [-gain[part]])]
        most = [*(len(self.groups) - 1.0 for _ in broken), *([] if above is None else [-above])]
        limits = LinearConstraint(
            csc_array(vstack([self.matrix[:, part], *(coo_array(row[None].astype(float)) for row in rows)])),
            np.append(self.low, np.full(len(rows), -math.inf)),
            np.append(self.high, most),
        )
        result = minimized(-gain[part], limits, Bounds(0, 1), whole=True, gap=gap)
        if result.status not in (0, 2):  # neither solved nor infeasible
            raise SeNasError(
                f"space {self.space.name}: the decoder must solve its program, but HiGHS says: {result.message}"
            )
        if result.x is None:
            return None
        taken = part[result.x > 0.5]
        first = len(self.costs)
        return Solution(taken[taken < first], taken[taken >= first] - first, float(gain[taken].sum()))

    def _read(self, scores: Mapping[str, FloatArray], solution: Solution) -> tuple[dict[str, Option], Architecture]:
        """The picks of a solution, with the best option where a choice is without effect, and their architecture."""
        picks = {c.name: c.options[int(np.argmax(scores[c.name]))] for c in self.space.choices}
        for group, start, row in zip(self.groups, self.starts, solution.rows, strict=False):
            for name, option in zip(group.own, group.options[row - start], strict=True):
                picks[name] = self.space.choice_by_name[name].options[int(option)]
        for name, start, option in zip(self.tied, self.tied_starts, solution.options, strict=False):
            picks[name] = self.space.choice_by_name[name].options[int(len(self.costs) + option - start)]
        return picks, self.space.architecture(picks)


def groups_of(space: SearchSpace, tables: Mapping[str, CostTable], metrics: Sequence[str]) -> list[_Group]:
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
    names = [name for key in arrays for name in key]
    return [_group(key, array, {name for name in key if names.count(name) > 1}) for key, array in arrays.items()]


def _group(names: tuple[str, ...], costs: FloatArray, shared: set[str]) -> _Group:
    tied = [i for i, name in enumerate(names) if name in shared]
    own = [i for i, name in enumerate(names) if name not in shared]
    class_of = []
    for axis in tied:
        rows = np.moveaxis(costs, axis, 0).reshape(costs.shape[axis], -1)
        _, firsts, classes = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        costs = np.take(costs, firsts, axis=axis)
        class_of.append(classes.reshape(-1))
    costs = np.transpose(costs, (*tied, *own, len(names)))
    indices = np.indices(costs.shape[:-1]).reshape(len(names), -1).T
    return _Group(
        own=tuple(names[i] for i in own),
        options=indices[:, len(tied) :],
        tied=tuple(names[i] for i in tied),
        class_of=tuple(class_of),
        classes=indices[:, : len(tied)],
        costs=costs.reshape(-1, costs.shape[-1]),
    )
