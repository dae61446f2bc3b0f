"""A metric's cost over a whole space: a constant and small arrays over the few choices that each block touches.

The cost of an architecture is a sum of look-ups, or the greatest of them; its expectation under independent choices
contracts each axis with that choice's probabilities, exactly and differentiably, depth times block included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from se_nas.cost.metrics import METRICS, Parts
from se_nas.cost.op_costs import clocked_costs, counted_costs
from se_nas.errors import ArchitectureError
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.slot import Slot, SlotOp
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CostTerm:
    """One block's part: `values[i, j, ...]` for option i of the first choice, j of the second, and so on.

    Attributes:
        place: of the block in the network; of terms of one place at most one is not 0.
    """

    choices: tuple[str, ...]
    values: FloatArray
    place: int = 0


class CostTable:
    """Cost of every architecture of a space under one metric.

    Args:
        space: the search space.
        metric: a key of `METRICS`.
        constant: cost of what no choice touches.
        terms: the blocks' parts; a choice may appear in several.
        parts: whether they add up to the cost, the constant included, or the greatest of them is the cost.
    """

    def __init__(
        self, space: SearchSpace, metric: str, constant: float, terms: Sequence[CostTerm], parts: Parts = "sum"
    ) -> None:
        self.space, self.metric, self.constant, self.terms = space, metric, constant, tuple(terms)
        self.parts = parts
        self._above: dict[float, CostTable] = {}

    def cost(self, architecture: Architecture) -> float:
        """Cost of one architecture, in the metric's unit; ArchitectureError when it is of another space."""
        self.space.check(architecture)
        picks = architecture.as_dict()
        total = self.constant
        for term in self.terms:
            index = tuple(self.space.choice_by_name[name].index(picks[name]) for name in term.choices)
            part = float(term.values[index])
            total = max(total, part) if self.parts == "max" else total + part
        return total

    def costs(self, picks: NDArray[np.intp]) -> FloatArray:
        """Costs of many architectures at once.

        Args:
            picks: (N, number of choices) option indices, columns in the order of `space.choices`.

        Returns:
            (N,) costs in the metric's unit.
        """
        column = {choice.name: i for i, choice in enumerate(self.space.choices)}
        if picks.ndim != 2 or picks.shape[1] != len(column):
            raise ArchitectureError(f"picks must have shape (N, {len(column)}), but got {picks.shape}")
        total = np.full(len(picks), self.constant)
        join = np.maximum if self.parts == "max" else np.add
        for term in self.terms:
            join(total, term.values[tuple(picks[:, column[name]] for name in term.choices)], out=total)
        return total

    @cached_property
    def _stacks(self) -> list[tuple[list[tuple[str, ...]], FloatArray, list[int]]]:
        """Terms of one shape stacked, and their places, so that the expectation takes few operations."""
        groups: dict[tuple[int, ...], list[CostTerm]] = {}
        for term in self.terms:
            groups.setdefault(term.values.shape, []).append(term)
        return [
            ([t.choices for t in g], np.stack([t.values for t in g]), [t.place for t in g]) for g in groups.values()
        ]

    def expected_cost(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """Expectation when every choice is drawn independently.

        Where the greatest part is the cost, it is the greatest of the places' expectations: exact where every choice is
        certain, and at most the expectation elsewhere, which would tie all places together.

        Args:
            probabilities: for each choice, the (number of options,) probabilities; all of one dtype and device.

        Returns:
            A scalar tensor in the metric's unit, differentiable in the probabilities.
        """
        like = next(iter(probabilities.values()), torch.zeros((), dtype=torch.float64))
        total = like.new_tensor(self.constant)
        of_places = like.new_zeros(1 + max((term.place for term in self.terms), default=0))
        for names, values, places in self._stacks:
            result = torch.as_tensor(values, dtype=like.dtype, device=like.device)
            for axis in reversed(range(len(names[0]))):
                weights = torch.stack([probabilities[choices[axis]] for choices in names])
                result = (result * weights.reshape(len(names), *(1,) * (axis), -1)).sum(-1)
            if self.parts == "max":
                of_places = of_places.index_add(0, torch.tensor(places, device=like.device), result)
            else:
                total = total + result.sum()
        return torch.maximum(total, of_places.max()) if self.parts == "max" else total

    def above(self, limit: float) -> CostTable:
        """How many parts cost more than a limit: a table of sums, which is 0 where the greatest part keeps the limit.

        A budget on the greatest of many parts is so a budget on a sum, for what reckons with sums.
        """
        if limit not in self._above:
            terms = [CostTerm(term.choices, (term.values > limit).astype(float), term.place) for term in self.terms]
            self._above[limit] = CostTable(self.space, self.metric, float(self.constant > limit), terms)
        return self._above[limit]


def build_table(
    space: SearchSpace,
    metric: str,
    rest: float | Callable[[Sequence[ConvSpec], HeadSpec], float],
    block_cost: Callable[[BlockSpec], float],
) -> CostTable:
    """The table of any metric that is a sum of a part of each block, and a constant one or one of the stem and head."""
    known = {op: clocked_costs(op, block_cost) for op in _ops(space)}
    return _table(space, metric, rest, known, "sum")


def count_tables(space: SearchSpace) -> dict[str, CostTable]:
    """The exact tables of MACs, parameters and whatever else is counted."""
    known = {op: counted_costs(op) for op in _ops(space)}
    return {
        name: _table(space, name, metric.fixed, {op: costs[name] for op, costs in known.items()}, metric.parts)
        for name, metric in METRICS.items()
        if metric.counted
    }


def _ops(space: SearchSpace) -> list[SlotOp]:
    """What may stand at its places; most blocks of a stage are alike."""
    return list(dict.fromkeys(op.unnamed for slot in space.slots for op in slot.ops))


def _table(
    space: SearchSpace,
    metric: str,
    rest: float | Callable[[Sequence[ConvSpec], HeadSpec], float],
    of_ops: Mapping[SlotOp, FloatArray],
    parts: Parts,
) -> CostTable:
    constant, terms = _end_terms(space, rest, parts) if callable(rest) else (rest, [])
    for place, slot in enumerate(space.slots):
        for op in slot.ops:
            term = _slot_term(slot, op, of_ops[op.unnamed], place)
            if term.choices:
                terms.append(term)
            elif parts == "max":
                constant = max(constant, float(term.values))
            else:
                constant += float(term.values)
    return CostTable(space, metric, constant, terms, parts)


def _end_terms(
    space: SearchSpace, rest: Callable[[Sequence[ConvSpec], HeadSpec], float], joined: Parts
) -> tuple[float, list[CostTerm]]:
    """What is constant of the stem and the head, and a term for each that some choice decides on.

    One term where what they cost together is not a sum of both.
    """
    place = len(space.slots)
    behind = (space.side, space.stage_widths[-1], *space.head_widths)  # what the head depends on
    axes = {size.axis.choice: size.axis for size in (space.side, *space.stem_widths, *behind)}
    names = [name for name in axes if name is not None]
    values = np.zeros(tuple(len(axes[name].options) for name in names))
    for index in np.ndindex(values.shape):
        picks = {name: axes[name].options[i] for name, i in zip(names, index, strict=True)}
        values[index] = rest(space.stem_of(picks), space.head_of(picks))
    of_stem = {space.side.axis.choice, *(width.axis.choice for width in space.stem_widths)}
    of_head = {size.axis.choice for size in behind}

    def at_first(kept: Set[str | None]) -> FloatArray:
        """The values at the first option of every choice but these."""
        return np.asarray(values[tuple(slice(None) if name in kept else slice(1) for name in names)])

    # what decides on both is counted with the stem
    parts = (at_first(of_stem), at_first(of_head) - at_first(of_stem & of_head))
    if not names:
        return float(values), []
    if joined != "sum" or not np.allclose(parts[0] + parts[1], values, rtol=1e-12, atol=0):
        return 0.0, [_without_idle(names, values, place)]
    terms = [_without_idle(names, part - part.min(), place + i) for i, part in enumerate(parts)]
    return float(sum(part.min() for part in parts)), [term for term in terms if term.choices]


def _without_idle(names: Sequence[str | None], values: FloatArray, place: int = 0) -> CostTerm:
    """The term of these choices without those that have no say: None, which has one option, is none."""
    keep = [i for i, name in enumerate(names) if name and not np.all(values == np.take(values, [0], axis=i))]
    kept = values[tuple(slice(None) if i in keep else 0 for i in range(len(names)))]
    return CostTerm(tuple(str(names[i]) for i in keep), np.asarray(kept), place)


def _slot_term(slot: Slot, op: SlotOp, parts: FloatArray, place: int) -> CostTerm:
    reached = np.array([float(slot.index < int(d)) for d in slot.depth.options])
    taken = np.array([float(name == op.template.name) for name in slot.op.options])
    values = np.multiply.outer(np.outer(reached, taken), parts)
    return _without_idle([axis.choice for axis in (slot.depth, slot.op, *op.axes)], values, place)
