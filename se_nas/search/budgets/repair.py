"""Repair: the feasible architecture nearest to a proposal, so that a sampler under tight budgets wastes no evaluation.

Rejection hangs where few networks keep the budgets and a penalty spends evaluations outside them. The nearest is that
which keeps the most picks, a choice that depth switches off counting as kept; there are often many, of which one is
drawn. In spaces of more than `EXACT_UP_TO` choices it is the nearest up to 60 changed picks, and beyond them within one
change in 100 of it. Proposals are repaired before they are evaluated, as in Lamarckian evolution under constraints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable
from se_nas.search.budgets.decode import Decoder, Scores
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace

#: In spaces of more choices than this the solver may stop where no architecture keeps more picks, though which of the
#: nearest it is was not drawn; and, where more than 60 picks change, where 99 of 100 changes are known to be needed. To
#: settle either can take it seconds to minutes.
EXACT_UP_TO = 200
GAP, RELATIVE_GAP = 0.4, 0.01


class Repair:
    """Repairs of a space's proposals under the same budgets.

    Raises:
        InfeasibleBudgetError: no architecture keeps the budgets; the message names the least reachable cost.
        ConfigError: a budget on a metric that has no table.
    """

    def __init__(self, space: SearchSpace, tables: Mapping[str, CostTable], budgets: Sequence[Budget]) -> None:
        self.space, self.tables, self.budgets = space, tables, tuple(budgets)
        self._decoder = Decoder(space, tables, budgets)
        self._decoder.best({choice.name: [0.0] * len(choice.options) for choice in space.choices})
        pairs = [(c, option) for c, choice in enumerate(space.choices) for option in range(len(choice.options))]
        self._changes = np.array(pairs, dtype=np.intp).reshape(-1, 2)

    def nearest(self, picks: Mapping[str, Option], rng: np.random.Generator) -> Architecture:
        """The architecture of these picks where it keeps the budgets, or one that does and keeps as many as can be.

        Which picks give way is drawn, and then, one after the other in a drawn order, what takes their place: any
        other option that leaves the budgets kept is as likely as the next.

        Raises:
            ArchitectureError: a choice is missing, unknown, or picks what is no option of it.
        """
        proposed = self.space.architecture(picks)
        if self._keeps(proposed):
            return proposed
        wanted = np.array([choice.index(picks[choice.name]) for choice in self.space.choices], dtype=np.intp)
        alone = self._feasible_changes(wanted, self._changes)
        if len(alone):
            choice, option = rng.choice(alone)
            wanted[choice] = option
            return self._architecture(wanted)
        return self._architecture(self._redrawn(wanted, self._fewest_changes(wanted, rng), rng))

    def best(self, scores: Scores) -> dict[str, Option]:
        """The picks within the budgets whose scores sum to most; see `Decoder.best`."""
        gap = RELATIVE_GAP if len(self.space.choices) > EXACT_UP_TO else 0.0
        picks, _ = self._decoder.best(scores, relative_gap=gap)
        return picks

    def _fewest_changes(self, wanted: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
        """Option indices that keep the budgets with the fewest changes; among equals, whose drawn weights are least."""
        # all drawn parts together, and what the answer may fall short by, are less than one change
        weights = 1.0 + 0.5 * rng.random(len(wanted)) / len(wanted)
        gaps = (GAP, RELATIVE_GAP) if len(wanted) > EXACT_UP_TO else (0.0, 0.0)
        scores = {
            choice.name: np.where(np.arange(len(choice.options)) == pick, 0.0, -weight)
            for choice, pick, weight in zip(self.space.choices, wanted, weights, strict=True)
        }
        picks, _ = self._decoder.best(scores, *gaps)
        return np.array([choice.index(picks[choice.name]) for choice in self.space.choices], dtype=np.intp)

    def _redrawn(self, wanted: NDArray[np.intp], found: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
        """Other options for what was changed, since the decode may well take the cheapest."""
        for c in rng.permutation(np.flatnonzero(found != wanted)):
            changes = self._changes[(self._changes[:, 0] == c) & (self._changes[:, 1] != wanted[c])]
            found[c] = rng.choice(self._feasible_changes(found, changes))[1]
        return found

    def _feasible_changes(self, indices: NDArray[np.intp], changes: NDArray[np.intp]) -> NDArray[np.intp]:
        """Those of the (N, 2) changes, choice and option, each of which alone keeps the budgets."""
        rows = np.repeat(indices[None], len(changes), axis=0)
        rows[np.arange(len(changes)), changes[:, 0]] = changes[:, 1]
        kept = np.ones(len(changes), bool)
        for budget in self.budgets:
            kept &= self.tables[budget.metric].costs(rows) <= budget.limit
        return changes[kept]

    def _keeps(self, architecture: Architecture) -> bool:
        return all(budget.holds(self.tables[budget.metric].cost(architecture)) for budget in self.budgets)

    def _architecture(self, indices: NDArray[np.intp]) -> Architecture:
        return self.space.architecture(
            {choice.name: choice.options[int(i)] for choice, i in zip(self.space.choices, indices, strict=True)}
        )
