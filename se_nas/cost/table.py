"""A metric's cost over a whole space: a constant and small arrays over the few choices that each block touches.

The cost of an architecture is a sum of look-ups; its expectation under independent choices contracts each axis with
that choice's probabilities, exactly and differentiably, depth times block included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from se_nas.cost.metrics import METRICS
from se_nas.errors import ArchitectureError
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.slot import Slot, SlotOp
from se_nas.space.specs import BlockSpec

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CostTerm:
    """One block's part: `values[i, j, ...]` for option i of the first choice, j of the second, and so on."""

    choices: tuple[str, ...]
    values: FloatArray


class CostTable:
    """Cost of every architecture of a space under one metric.

    Args:
        space: the search space.
        metric: a key of `METRICS`.
        constant: cost of what no choice touches.
        terms: the blocks' parts; a choice may appear in several.
    """

    def __init__(self, space: SearchSpace, metric: str, constant: float, terms: Sequence[CostTerm]) -> None:
        self.space, self.metric, self.constant, self.terms = space, metric, constant, tuple(terms)

    def cost(self, architecture: Architecture) -> float:
        """Cost of one architecture, in the metric's unit; ArchitectureError when it is of another space."""
        self.space.check(architecture)
        picks = architecture.as_dict()
        total = self.constant
        for term in self.terms:
            index = tuple(self.space.choice_by_name[name].index(picks[name]) for name in term.choices)
            total += float(term.values[index])
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
        for term in self.terms:
            total += term.values[tuple(picks[:, column[name]] for name in term.choices)]
        return total

    @cached_property
    def _stacks(self) -> list[tuple[list[tuple[str, ...]], FloatArray]]:
        """Terms of one shape stacked, so that the expectation takes few operations."""
        groups: dict[tuple[int, ...], list[CostTerm]] = {}
        for term in self.terms:
            groups.setdefault(term.values.shape, []).append(term)
        return [([t.choices for t in g], np.stack([t.values for t in g])) for g in groups.values()]

    def expected_cost(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """Expectation when every choice is drawn independently.

        Args:
            probabilities: for each choice, the (number of options,) probabilities; all of one dtype and device.

        Returns:
            A scalar tensor in the metric's unit, differentiable in the probabilities.
        """
        like = next(iter(probabilities.values()), torch.zeros((), dtype=torch.float64))
        total = like.new_tensor(self.constant)
        for names, values in self._stacks:
            result = torch.as_tensor(values, dtype=like.dtype, device=like.device)
            for axis in reversed(range(len(names[0]))):
                weights = torch.stack([probabilities[choices[axis]] for choices in names])
                result = (result * weights.reshape(len(names), *(1,) * (axis), -1)).sum(-1)
            total = total + result.sum()
        return total


def build_table(
    space: SearchSpace, metric: str, constant: float, block_cost: Callable[[BlockSpec], float]
) -> CostTable:
    """The table of any metric that is a constant plus a sum over blocks."""
    terms = []
    for slot in space.slots:
        for op in slot.ops:
            term = _slot_term(slot, op, block_cost)
            if term.choices:
                terms.append(term)
            else:
                constant += float(term.values)
    return CostTable(space, metric, constant, terms)


def _slot_term(slot: Slot, op: SlotOp, block_cost: Callable[[BlockSpec], float]) -> CostTerm:
    parts = np.zeros(tuple(len(axis.options) for axis in op.axes))
    # SE ratios of one hidden width are one network, so they take one cost, also where a clock finds two
    known: dict[tuple[object, ...], float] = {}
    for index, options in zip(np.ndindex(parts.shape), op.combinations(), strict=True):
        block = op.block(**options)
        if block.distinct not in known:
            known[block.distinct] = float(block_cost(block))
        parts[index] = known[block.distinct]
    reached = np.array([float(slot.index < int(d)) for d in slot.depth.options])
    taken = np.array([float(name == op.template.name) for name in slot.op.options])
    values = np.multiply.outer(np.outer(reached, taken), parts)
    axes = (slot.depth, slot.op, *op.axes)
    # an axis without a choice has one option, and one along which nothing changes has no say
    keep = [i for i, axis in enumerate(axes) if axis.choice and not np.all(values == np.take(values, [0], axis=i))]
    kept = values[tuple(slice(None) if i in keep else 0 for i in range(len(axes)))]
    return CostTerm(tuple(str(axes[i].choice) for i in keep), np.asarray(kept))


def count_tables(space: SearchSpace) -> dict[str, CostTable]:
    """The exact tables of MACs, parameters and whatever else is counted."""
    return {
        name: build_table(space, name, metric.fixed(space.stem_convs, space.head_spec), metric.block)
        for name, metric in METRICS.items()
        if metric.block is not None
    }
