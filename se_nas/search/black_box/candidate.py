"""What a study proposes, and what it says when it has nothing more to propose."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable
from se_nas.errors import InfeasibleBudgetError
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace

#: Up to this size the architectures of a space are enumerated, so that it is known when all have been proposed.
SMALL = 10_000


class SpaceExhausted(Exception):
    """Every architecture that keeps the budgets has been proposed, as far as can be told."""


class EnoughProposed(Exception):
    """Other workers are at the last of the evaluations that are wanted."""


@dataclass(frozen=True)
class Candidate:
    """An architecture to evaluate.

    Attributes:
        number: of the proposal; `tell` takes it back.
        costs: by metric; excess: by budgeted metric, (cost - limit) / limit.
    """

    number: int
    architecture: Architecture
    costs: dict[str, float]
    excess: dict[str, float]


class Unseen:
    """The architectures that a study may still propose, in a fixed order.

    Args:
        architectures: distinct ones of the space.
    """

    def __init__(self, space: SearchSpace, architectures: Iterable[Architecture]) -> None:
        self._choices = space.choices
        self._places = {architecture: place for place, architecture in enumerate(architectures)}
        self._list: list[Architecture] = list(self._places)
        self._picks = np.array([self._indices(a) for a in self._list], np.int32).reshape(
            len(self._list), len(space.choices)
        )

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, architecture: Architecture) -> bool:
        return architecture in self._places

    def discard(self, architecture: Architecture) -> None:
        """It was proposed, or is none of them."""
        self._places.pop(architecture, None)

    def nearest(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """One of those that differ from it in the fewest picks, drawn."""
        left = np.fromiter(self._places.values(), np.intp, len(self._places))
        changes = (self._picks[left] != self._indices(architecture)).sum(axis=1)
        nearest = left[changes == changes.min()]
        return self._list[int(nearest[int(rng.integers(len(nearest)))])]

    def _indices(self, architecture: Architecture) -> list[int]:
        return [choice.index(pick) for choice, (_, pick) in zip(self._choices, architecture.picks, strict=True)]


def proposable(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    among: Collection[Architecture] | None,
) -> Unseen | None:
    """What may be proposed: what keeps the budgets, of the space or of a part of it; None for all of a large space.

    Raises:
        InfeasibleBudgetError: nothing of the part keeps them.
    """
    if among is None and space.size > SMALL:
        return None
    every = space.enumerate() if among is None else iter(among)
    allowed = Unseen(space, (a for a in every if all(b.holds(tables[b.metric].cost(a)) for b in budgets)))
    if among is not None and not allowed:
        words = " and ".join(map(str, budgets))
        must = f"of the {len(among):,} networks that can be judged one must keep {words}"
        raise InfeasibleBudgetError(f"space {space.name}: {must}, but none does")
    return allowed
