"""Controls: the networks that a search's answer must beat, drawn at random at equal cost or pinned in their SE.

Random search at equal budgets is the control that many searches fail (Li and Talwalkar, arXiv 1902.07638; Yang et al.,
arXiv 1912.12522). A network far below the budgets would be an easy one, so cheap draws are drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable
from se_nas.errors import InfeasibleBudgetError
from se_nas.search.budgets.baselines import WITHOUT_SE, baseline, known_baselines, repinned
from se_nas.search.budgets.repair import Repair
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec

ControlKind = Literal[
    "answer", "other_answer", "random", "of_size", "best_of_random", "baseline", "published", "search_seed"
]

#: Share of at least one of its budgets that a random control uses.
FULL = 0.9
#: Begins the names of controls that are the answer's own network with another SE.
ANSWER_PREFIX = "answer_"
#: Share by which the costs of a random network of the answer's size may differ from the answer's.
SIZE = 0.1
#: Random networks in a row, none of them a new one of the answer's size, after which no more are looked at.
IN_VAIN = 500
#: How often a cheap random network is drawn again.
REDRAWS = 200


@dataclass(frozen=True)
class Control:
    """A network to be trained beside the answer, by the same recipe.

    Attributes:
        name: unique among the controls of a run, fit for a folder's name.
        label: in plain words.
        architecture: None where the network is not of the search's space.
    """

    name: str
    kind: ControlKind
    label: str
    architecture: Architecture | None
    spec: NetworkSpec


class RandomFeasible:
    """Random networks that keep the budgets and nearly use them up.

    Args:
        seed: of all draws; 0 or more.

    Raises:
        InfeasibleBudgetError: no architecture keeps the budgets.
        ConfigError: a budget on a metric that has no table.
    """

    def __init__(
        self, space: SearchSpace, tables: Mapping[str, CostTable], budgets: Sequence[Budget], seed: int
    ) -> None:
        self.space, self.tables, self.budgets, self.seed = space, tables, tuple(budgets), seed
        self._repair = Repair(space, tables, budgets)
        self._drawn: list[Architecture] = []  # by `distinct`, which several parts of the evidence ask

    def draw(self, i: int) -> Architecture:
        """The i-th network, a function of the seed and `i` alone; two may be equal.

        Picks drawn uniformly and repaired to keep the budgets, drawn again while no budget is used to `FULL` of it;
        after `REDRAWS` the fullest of those seen. Without budgets, uniform picks.
        """
        rng = np.random.default_rng([self.seed, i])
        fullest, most = self.space.sample(rng), -1.0
        if not self.budgets:
            return fullest
        proposal = fullest
        for _ in range(1 + REDRAWS):
            found = self._repair.nearest(proposal.as_dict(), rng)
            used = self.fullness(found)
            if used > most:
                fullest, most = found, used
            if most >= FULL:
                break
            proposal = self.space.sample(rng)
        return fullest

    def fullness(self, architecture: Architecture) -> float:
        """The greatest share of a budget that an architecture uses: at most 1 where it keeps them; 0 without any."""
        shares = (self.tables[budget.metric].cost(architecture) / budget.limit for budget in self.budgets)
        return max(shares, default=0.0)

    def of_size(self, architecture: Architecture, count: int) -> list[Architecture]:
        """Different networks other than this one, each of whose costs that has a budget is within `SIZE` of its own.

        Without budgets these are multiply-accumulates and parameters. Picks drawn uniformly are repaired to keep the
        greatest such costs; fewer than asked for where `IN_VAIN` in a row bring no new one.
        """
        limits = {budget.metric: budget.limit for budget in self.budgets} or {"macs": math.inf, "params": math.inf}
        costs = {metric: self.tables[metric].cost(architecture) for metric in limits}
        near = [Budget(metric, min((1 + SIZE) * cost, limits[metric])) for metric, cost in costs.items()]
        repair, rng = Repair(self.space, self.tables, near), np.random.default_rng(self.seed)
        found: dict[Architecture, None] = {}
        in_vain = 0
        while len(found) < count and in_vain < IN_VAIN:
            in_vain += 1
            drawn = repair.nearest(self.space.sample(rng).as_dict(), rng)
            if drawn != architecture and all(
                self.tables[metric].cost(drawn) >= (1 - SIZE) * cost for metric, cost in costs.items()
            ):
                in_vain = in_vain if drawn in found else 0
                found.setdefault(drawn)
        return list(found)

    def distinct(self, count: int) -> list[Architecture]:
        """The first `count` different ones of `draw(0)`, `draw(1)` and so on.

        Fewer where the space has no more, or where 20 draws for each network asked for, and 20 more, bring no more.
        """
        found: dict[Architecture, None] = {}
        wanted = min(count, self.space.size)
        for i in range(20 * (count + 1)):
            if len(found) == wanted:
                break
            if i == len(self._drawn):
                self._drawn.append(self.draw(i))
            found.setdefault(self._drawn[i])
        return list(found)


def pinned_controls(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    ratios: Sequence[float] = (4, 16),
    answer: Architecture | None = None,
) -> tuple[list[Control], list[str]]:
    """Baselines in the budgets with SE nowhere, and with SE of each ratio everywhere; see `search.budgets.baselines`.

    Each is as large as the budgets allow: the cost of the SE that it lacks goes into the rest of the network. Where the
    resolution is a choice, which multiply-accumulates do not tell the worth of, they have that of the answer.

    Returns:
        The controls, and one line for each that the space does not offer, that no budget allows, or that is the same
        network as one before it.
    """

    picks = {} if answer is None else answer.as_dict()
    held = {name: option for name, option in picks.items() if name == space.side.axis.choice}

    def make(name: str, label: str) -> Control:
        architecture = baseline(name, space, tables, budgets, held)
        spec = space.resolve(architecture)
        return Control(name, "baseline", f"{label}, as large as the budgets allow", architecture, spec)

    return _pinned(space, ratios, make)


def repinned_controls(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    answer: Architecture,
    ratios: Sequence[float] = (4, 16),
) -> tuple[list[Control], list[str]]:
    """The answer with SE nowhere, and with SE of each ratio everywhere, else changed as little as the budgets need.

    What they differ in from the answer is its placement of SE, where `pinned_controls` differ in all that the search
    chose. Returns as those do.
    """

    def make(name: str, label: str) -> Control:
        architecture = repinned(name, space, tables, budgets, answer)
        spec = space.resolve(architecture)
        return Control(f"{ANSWER_PREFIX}{name}", "baseline", f"the answer's network with {label}", architecture, spec)

    return _pinned(space, ratios, make)


def _pinned(
    space: SearchSpace, ratios: Sequence[float], make: Callable[[str, str], Control]
) -> tuple[list[Control], list[str]]:
    known = known_baselines(space)
    wanted = {WITHOUT_SE: "no SE anywhere"} | {
        f"se_r{ratio:g}": f"SE of ratio {ratio:g} everywhere" for ratio in ratios
    }
    controls: list[Control] = []
    skipped: list[str] = []
    for name, label in wanted.items():
        if name not in known:
            offered = f"has only {', '.join(known)}" if known else "leaves SE no choice"
            skipped.append(f"{name}: space {space.name} {offered}")
            continue
        try:
            control = make(name, label)
        except InfeasibleBudgetError as error:
            skipped.append(str(error))
            continue
        same = next((other.name for other in controls if other.architecture == control.architecture), None)
        if same is not None:
            skipped.append(f"{control.name}: the same network as {same}")
            continue
        controls.append(control)
    return controls, skipped
