"""The budgets relaxed: Lagrange multipliers price the costs, and what is left is solved exactly along the ties.

Without budgets the groups of an integer program meet only in the choices that they share. Those of a network form a
chain, as a stage's depth is shared by its blocks alone, so that dynamic programming over the shared choices still open
finds the optimum in time linear in the configurations. At any prices it bounds what the budgets allow, and by how much
each configuration would lower that bound tells which ones an exact answer can be without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint

from se_nas.cost.table import FloatArray
from se_nas.search.budgets.highs import minimized

Indices = NDArray[np.intp]

#: The value of what must not be taken: finite, so that differences are numbers.
FORBIDDEN = -1e30
#: Prices are improved until the bound is within this share of the least that any prices could give, or so many times.
PRECISION, ROUNDS = 1e-3, 60
#: The highest price of overdrawing a budget wholly, in differences between the best and the worst values.
DEAREST = 1e4


@dataclass(frozen=True)
class Solution:
    """A configuration of each group, in their order, and an option of each tied choice; what they are worth."""

    rows: Indices
    options: Indices
    value: float


@dataclass(frozen=True)
class Priced:
    """The relaxation at one set of prices.

    Attributes:
        bound: no value within the budgets is greater.
        losses: of each row, and then of each option of a tied choice, by how much the bound falls where it is taken.
        found: the best solution found on the way that keeps the budgets.
    """

    bound: float
    losses: FloatArray
    found: Solution | None


@dataclass(frozen=True)
class _Clique:
    """Groups that share the same tied choices, or some of them.

    Attributes:
        names: those choices; joint: with the others that earlier cliques have left open.
        cells: (groups, combinations) the cell of each group at each combination of the choices' options.
        shape: sizes of the choices, along the axes of `joint`; carried: of the choices left open before.
        closed: axes of choices that no later clique has.
        own: choices that no earlier clique has, whose own values count here.
    """

    names: tuple[str, ...]
    joint: tuple[str, ...]
    cells: Indices
    shape: tuple[int, ...]
    carried: tuple[int, ...]
    closed: tuple[int, ...]
    own: tuple[str, ...]

    def along(self, name: str) -> tuple[int, ...]:
        """The shape of values of one choice's options along the axes of `joint`."""
        return tuple(-1 if other == name else 1 for other in self.joint)

    def but(self, names: Sequence[str]) -> tuple[int, ...]:
        """Axes of the other choices."""
        return tuple(i for i, name in enumerate(self.joint) if name not in names)


class Relaxation:
    """The dynamic programme over the tied choices of an integer program.

    Args:
        tied: the tied choices in the network's order, and how many options each has.
        groups: of each its tied choices and the class of each of their options; its configurations follow one another,
            by class and then by its own choices.
        starts: first row of each group, and the number of all rows.
    """

    def __init__(
        self,
        tied: Mapping[str, int],
        groups: Sequence[tuple[tuple[str, ...], tuple[Indices, ...]]],
        starts: Indices,
    ) -> None:
        ends = np.cumsum([0, *tied.values()])
        self._options = {name: slice(int(a), int(b)) for name, a, b in zip(tied, ends, ends[1:], strict=False)}
        kinds = [tuple(int(of.max()) + 1 for of in class_of) for _, class_of in groups]
        counts = np.array([np.prod(shape, dtype=int) for shape in kinds], dtype=int)
        self._first_cells = np.cumsum([0, *counts])
        sizes = np.repeat(np.diff(starts) // np.maximum(counts, 1), counts)
        self._cell_starts = np.cumsum([0, *sizes])
        self._cell_of = np.repeat(np.arange(len(sizes)), sizes)
        order = list(tied)
        homes: dict[tuple[str, ...], list[int]] = {}
        for g in sorted(range(len(groups)), key=lambda g: -len(groups[g][0])):
            names = tuple(sorted(groups[g][0], key=order.index))
            homes.setdefault(next((key for key in homes if set(names) <= set(key)), names), []).append(g)
        keys = sorted(homes, key=lambda names: [order.index(name) for name in names])
        self._cliques: list[_Clique] = []
        open_before: tuple[str, ...] = ()
        for i, names in enumerate(keys):
            earlier, later = ({name for key in part for name in key} for part in (keys[:i], keys[i + 1 :]))
            joint = tuple(name for name in order if name in open_before or name in names)
            cells = []
            for g in homes[names]:
                cell = np.full([tied[name] for name in names], self._first_cells[g])
                step = int(counts[g])
                for name, class_of, kind in zip(*groups[g], kinds[g], strict=True):
                    step //= kind
                    cell += (class_of * step).reshape([-1 if other == name else 1 for other in names])
                cells.append(cell.reshape(-1))
            self._cliques.append(
                _Clique(
                    names=names,
                    joint=joint,
                    cells=np.array(cells, dtype=np.intp),
                    shape=tuple(tied[name] if name in names else 1 for name in joint),
                    carried=tuple(tied[name] if name in open_before else 1 for name in joint),
                    closed=tuple(axis for axis, name in enumerate(joint) if name not in later),
                    own=tuple(name for name in names if name not in earlier),
                )
            )
            open_before = tuple(name for name in joint if name in later)

    def priced(
        self, values: FloatArray, options: FloatArray, costs: FloatArray, room: FloatArray, gap: float
    ) -> Priced:
        """The relaxation at prices that make its bound as low as can be.

        Args:
            values: of the rows; options: of the tied choices' options, one choice after the other; `FORBIDDEN` or less
                where it must not be taken.
            costs: (rows, budgets); room: (budgets,) what their sums may be at most.
            gap: how far the bound may be from the best solution found, so that no better prices are needed.
        """
        cuts: list[FloatArray] = []
        found: Solution | None = None
        prices, best_prices, bound = np.zeros(len(room)), np.zeros(len(room)), np.inf
        usual = values[values > FORBIDDEN]
        dearest = DEAREST * max(float(np.ptp(usual)) if len(usual) else 0.0, 1.0)
        for _ in range(ROUNDS):
            total, joints, bests = self._forward(values - costs @ prices, options)
            if total + prices @ room < bound:
                bound, best_prices = total + float(prices @ room), prices
            if total <= FORBIDDEN / 2:  # whatever is taken, something of it must not be
                break
            rows, picks = self._traced(joints, bests, values - costs @ prices)
            value = float(values[rows].sum() + options[picks].sum())
            excess = costs[rows].sum(axis=0) - room
            if np.all(excess <= 0) and (found is None or value > found.value):
                found = Solution(rows, picks, value)
            if found is not None and bound - found.value <= gap:
                break
            cuts.append(np.array([-value, -1.0, *-excess]))
            prices, least = _cheapest(np.array(cuts), dearest)
            if bound - least <= PRECISION * max(abs(least), 1e-9):
                break
        return Priced(bound, self._losses(values - costs @ best_prices, options), found)

    def _tables(self, values: FloatArray, options: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
        """The best value of each cell, and of each clique that of each combination of its choices' options."""
        bests = np.maximum.reduceat(values, self._cell_starts[:-1]) if len(values) else values
        tables = []
        for clique in self._cliques:
            table = bests[clique.cells].sum(axis=0).reshape(clique.shape)
            for name in clique.own:
                table = table + options[self._options[name]].reshape(clique.along(name))
            tables.append(table)
        return bests, tables

    def _forward(self, values: FloatArray, options: FloatArray) -> tuple[float, list[FloatArray], FloatArray]:
        """The greatest value; and, of each clique, that of all cliques up to it for what is open there."""
        bests, tables = self._tables(values, options)
        joints = []
        message = np.zeros(())
        for clique, table in zip(self._cliques, tables, strict=True):
            joints.append(message.reshape(clique.carried) + table)
            message = joints[-1].max(axis=clique.closed)
        return float(message), joints, bests

    def _traced(self, joints: Sequence[FloatArray], bests: FloatArray, values: FloatArray) -> tuple[Indices, Indices]:
        """Rows, by their groups, and options of the greatest value."""
        taken: dict[str, int] = {}
        cells = []
        for clique, joint in zip(reversed(self._cliques), reversed(joints), strict=True):
            left = [name for name in clique.joint if name not in taken]
            within = joint[tuple(taken.get(name, slice(None)) for name in clique.joint)]
            taken.update(zip(left, map(int, np.unravel_index(int(np.argmax(within)), within.shape)), strict=True))
            sizes = [size for name, size in zip(clique.joint, clique.shape, strict=True) if name in clique.names]
            at = np.ravel_multi_index([taken[name] for name in clique.names], sizes) if clique.names else 0
            cells.append(clique.cells[:, at])
        chosen = np.sort(np.concatenate([np.zeros(0, int), *cells]))
        starts, ends = self._cell_starts[chosen], self._cell_starts[chosen + 1]
        rows = [int(start + np.argmax(values[start:end])) for start, end in zip(starts, ends, strict=True)]
        picks = [where.start + taken[name] for name, where in self._options.items()]
        return np.array(rows, dtype=np.intp), np.array(picks, dtype=np.intp)

    def _losses(self, values: FloatArray, options: FloatArray) -> FloatArray:
        """By how much the greatest value falls where a row, or an option of a tied choice, is taken."""
        greatest, joints, bests = self._forward(values, options)
        _, tables = self._tables(values, options)
        with_cell = np.full(len(bests), -np.inf)
        with_option = np.full(len(options), -np.inf)
        rest = np.zeros(())  # the greatest value of all later cliques for what is open
        for clique, joint, table in zip(reversed(self._cliques), reversed(joints), reversed(tables), strict=True):
            kept = tuple(1 if axis in clique.closed else size for axis, size in enumerate(joint.shape))
            rest = rest.reshape(kept)
            total = joint + rest
            for name in clique.own:
                with_option[self._options[name]] = total.max(axis=clique.but((name,)))
            # every combination of the clique's own choices
            here = total.max(axis=clique.but(clique.names)).reshape(-1)
            np.maximum.at(with_cell, clique.cells, np.broadcast_to(here, clique.cells.shape))
            carried = tuple(name for name, size in zip(clique.joint, clique.carried, strict=True) if size > 1)
            rest = (table + rest).max(axis=clique.but(carried))
        with_row = with_cell[self._cell_of] - bests[self._cell_of] + values
        return greatest - np.concatenate([with_row, with_option])


def _cheapest(cuts: FloatArray, dearest: float) -> tuple[FloatArray, float]:
    """The prices of the least bound as far as the solutions found so far show it, and that bound.

    Args:
        cuts: of each solution its value and by how much it overdraws each budget, negated, with -1 between.
    """
    prices = cuts.shape[1] - 2
    result = minimized(
        np.array([1.0, *np.zeros(prices)]),
        LinearConstraint(cuts[:, 1:], -np.inf, cuts[:, 0]),
        Bounds([-np.inf, *np.zeros(prices)], [np.inf, *np.full(prices, dearest)]),
        whole=False,
        gap=0.0,
    )
    return np.maximum(result.x[1:], 0.0), float(result.x[0])
