"""The multiple-choice knapsack that a decode solves, as a mixed-integer program for HiGHS."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csc_array, vstack

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable, FloatArray
from se_nas.errors import SeNasError
from se_nas.search.budgets.greatest_part import as_sums
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace


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
        self._compare()
        self._constrain()

    def _index_scores(self) -> None:
        """Where, in the scores of all choices one after the other and a last 0, those of each configuration are."""
        ends = np.cumsum([len(choice.options) for choice in self.space.choices], dtype=int)
        first = {c.name: int(end) - len(c.options) for c, end in zip(self.space.choices, ends, strict=True)}
        widest = max((len(group.own) for group in self.groups), default=0)
        self.score_index = np.full((len(self.costs), widest), ends[-1] if len(ends) else 0)
        for start, group in zip(self.starts, self.groups, strict=False):
            for i, name in enumerate(group.own):
                self.score_index[start : start + len(group.options), i] = first[name] + group.options[:, i]
        self.tied = sorted({name for group in self.groups for name in group.tied})
        sizes = [len(self.space.choice_by_name[name].options) for name in self.tied]
        self.tied_starts = len(self.costs) + np.cumsum([0, *sizes])
        self.tied_index = np.concatenate(
            [np.zeros(0, int), *(first[name] + np.arange(size) for name, size in zip(self.tied, sizes, strict=True))]
        )

    def _compare(self) -> None:
        """Which configurations of the same classes cost no more than which; those of as many go together."""
        runs: dict[int, list[int]] = {}
        for start, group in zip(self.starts, self.groups, strict=False):
            kinds = int(np.prod([c.max() + 1 for c in group.class_of], dtype=int))
            size = len(group.options) // kinds
            runs.setdefault(size, []).extend(int(start) + size * k for k in range(kinds))
        self.rivals = []
        for size, begins in runs.items():
            rows = np.array(begins)[:, None] + np.arange(size)
            costs = self.costs[rows]
            below = np.all(costs[:, :, None, :] <= costs[:, None, :, :], axis=3)
            equal = below & below.swapaxes(1, 2)
            # of equals the first stays
            self.rivals.append((rows, below, below & ~(equal & np.tril(np.ones((size, size), bool)))))

    def _undominated(self, values: FloatArray) -> NDArray[np.intp]:
        """Configurations that no other one of the same classes beats or equals in value and in every cost."""
        kept = values > -math.inf
        for rows, below, beside in self.rivals:
            value = values[rows]
            better, equal = value[:, :, None] > value[:, None, :], value[:, :, None] == value[:, None, :]
            kept[rows] &= ~np.any((below & better) | (beside & equal), axis=1)
        return np.flatnonzero(kept)

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
            add(len(total), start + np.arange(len(self.space.choice_by_name[name].options)), 1.0)
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
        for m, budget in enumerate(self.budgets):
            room = budget.limit - self.tables[budget.metric].constant
            # a room of 0 is a fair one, but HiGHS refuses coefficients of 1e15
            greatest = float(np.abs(self.costs[:, m]).max(initial=0.0))
            scale = max(abs(room), 1e-6 * greatest, 1e-9)
            add(len(total), np.arange(len(self.costs)), self.costs[:, m] / scale)
            total.append(room / scale)
        self.high = np.array(total)
        where = (np.concatenate(rows), np.concatenate(columns)) if rows else (np.zeros(0, int), np.zeros(0, int))
        shape = (len(total), int(self.tied_starts[-1]))
        self.matrix = csc_array(coo_array((np.concatenate(data) if data else np.zeros(0), where), shape=shape))

    def solve(
        self, scores: Mapping[str, FloatArray], gap: float = 0.0
    ) -> tuple[dict[str, Option], Architecture] | None:
        """The picks of the greatest score, and their architecture; None when nothing keeps the budgets.

        Args:
            scores: for each choice, one score an option, -inf where it must not be taken.
            gap: share of the optimum by which the answer may fall short of it.
        """
        centred = [scores[c.name] - np.max(scores[c.name]) for c in self.space.choices]
        joined = np.concatenate([*centred, np.zeros(1)])
        values = joined[self.score_index].sum(axis=1) + self.offset
        kept = self._undominated(values)
        starts = np.searchsorted(kept, self.starts)
        tied = np.arange(self.tied_starts[0], self.tied_starts[-1])
        gain = np.concatenate([values[kept], joined[self.tied_index]])
        allowed = gain > -math.inf
        gain[~allowed] = 0.0
        matrix, low, high = self.matrix[:, np.concatenate([kept, tied])], self.low, self.high
        picks = {c.name: c.options[int(np.argmax(scores[c.name]))] for c in self.space.choices}
        while True:
            solution = np.zeros(0)
            if len(gain):
                with standard_output_spared():
                    result = milp(
                        -gain,
                        constraints=LinearConstraint(matrix, low, high),
                        integrality=np.ones(len(gain)),
                        bounds=Bounds(0, allowed.astype(float)),
                        options={"mip_rel_gap": gap},
                    )
                if result.status not in (0, 2):  # neither solved nor infeasible
                    raise SeNasError(
                        f"space {self.space.name}: the decoder must solve its program, but HiGHS says: {result.message}"
                    )
                if result.x is None:
                    return None
                solution = result.x
            chosen = []
            for group, first, start, end in zip(self.groups, self.starts, starts, starts[1:], strict=False):
                chosen.append(int(start + np.argmax(solution[start:end])))
                row = kept[chosen[-1]] - first
                for name, option in zip(group.own, group.options[row], strict=True):
                    picks[name] = self.space.choice_by_name[name].options[int(option)]
            shift = len(kept) - self.tied_starts[0]
            for name, start, end in zip(self.tied, self.tied_starts, self.tied_starts[1:], strict=False):
                option = int(np.argmax(solution[start + shift : end + shift]))
                picks[name] = self.space.choice_by_name[name].options[option]
            architecture = self.space.architecture(picks)
            if all(budget.holds(self.tables[budget.metric].cost(architecture)) for budget in self.budgets):
                return picks, architecture
            if not chosen:
                return None
            # within the solver's tolerance but over a budget by a few units: forbid this one and go on
            cut = coo_array((np.ones(len(chosen)), (np.zeros(len(chosen), int), chosen)), shape=(1, len(gain)))
            matrix = csc_array(vstack([matrix, cut]))
            low, high = np.append(low, -math.inf), np.append(high, len(chosen) - 1.0)


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


@contextmanager
def standard_output_spared() -> Iterator[None]:
    """What HiGHS prints now and then, though told to be quiet, goes to the standard error stream."""
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # C keeps what it prints back, and would let it out later
        os.dup2(kept, 1)
        os.close(kept)
