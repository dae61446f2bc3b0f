"""A repair keeps the budgets and as many picks as brute force can, leaves what is feasible alone, and varies."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable, count_tables
from se_nas.errors import ArchitectureError, ConfigError, InfeasibleBudgetError
from se_nas.search.budgets.decode import greatest_cost
from se_nas.search.budgets.repair import Repair
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space
from tests.helpers.strategies import spaces
from tests.laws.test_decode import random_tables

ROOT = Path(__file__).parents[3]


def draw_picks(space: SearchSpace, rng: np.random.Generator) -> dict[str, Option]:
    """Picks as a sampler proposes them, whether or not depth gives them an effect."""
    return {c.name: c.options[int(rng.integers(len(c.options)))] for c in space.choices}


def draw_budgets(tables: dict[str, CostTable], picks: np.ndarray, rng: np.random.Generator) -> list[Budget]:
    """Limits that some network keeps, at its very costs or above."""
    one = picks[[rng.integers(len(picks))]]
    return [Budget(metric, float(table.costs(one)[0]) * rng.choice([1.0, 1.3])) for metric, table in tables.items()]


def keeps(tables: dict[str, CostTable], budgets: list[Budget], architecture: Architecture) -> bool:
    return all(budget.holds(tables[budget.metric].cost(architecture)) for budget in budgets)


@settings(max_examples=60)
@given(spaces(most_picks=400), st.integers(0, 2**16))
def test_a_repair_keeps_the_budgets_and_as_many_picks_as_brute_force(space: SearchSpace, seed: int) -> None:
    rng, tables = np.random.default_rng(seed), random_tables(space, seed)
    every = np.array(list(itertools.product(*(range(len(c.options)) for c in space.choices))), dtype=np.intp)
    budgets = draw_budgets(tables, every, rng)
    feasible = every[np.all([tables[b.metric].costs(every) <= b.limit for b in budgets], axis=0)]
    repair = Repair(space, tables, budgets)
    for _ in range(4):
        picks = draw_picks(space, rng)
        found = repair.nearest(picks, rng)
        assert keeps(tables, budgets, found)
        assert space.architecture(found.as_dict()) == found
        wanted = np.array([c.index(picks[c.name]) for c in space.choices], dtype=np.intp)
        kept = (feasible == wanted).sum(axis=1)
        names = [c.name for c in space.choices]
        reached = max(
            count
            for row, count in zip(feasible, kept, strict=True)
            if count >= kept.max() - 1  # canonical picks are another way to write the same network
            and space.architecture({n: space.choice_by_name[n].options[i] for n, i in zip(names, row, strict=True)})
            == found
        )
        assert reached == kept.max()
        assert repair.nearest(found.as_dict(), rng) == found
        proposed = space.architecture(picks)
        assert (found == proposed) == keeps(tables, budgets, proposed)


@pytest.fixture(scope="module")
def digits() -> SearchSpace:
    return load_space(ROOT / "search_spaces" / "mbconv_digits.yaml")


@pytest.mark.parametrize("share", [0.99, 0.8])  # one pick has to give way, several have
def test_repairs_of_one_proposal_differ_but_one_seed_gives_one(digits: SearchSpace, share: float) -> None:
    tables = count_tables(digits)
    largest = greatest_cost(digits, tables, "macs").architecture
    budgets = [Budget(metric, tables[metric].cost(largest) * share) for metric in ("macs", "params")]
    repair = Repair(digits, tables, budgets)
    found = [repair.nearest(largest.as_dict(), np.random.default_rng(seed)) for seed in range(12)]
    assert len(set(found)) >= 5
    assert found == [repair.nearest(largest.as_dict(), np.random.default_rng(seed)) for seed in range(12)]


def test_without_budgets_every_proposal_stands(digits: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    repair = Repair(digits, count_tables(digits), [])
    for _ in range(5):
        picks = draw_picks(digits, rng)
        assert repair.nearest(picks, rng) == digits.architecture(picks)


def test_what_cannot_be_kept_is_told_before_any_proposal(digits: SearchSpace) -> None:
    tables = count_tables(digits)
    with pytest.raises(InfeasibleBudgetError, match="macs <= 1 k MACs, where the least reachable is"):
        Repair(digits, tables, [Budget("macs", 1000.0)])
    with pytest.raises(ConfigError, match="latency_ms: needs a cost table"):
        Repair(digits, tables, [Budget("latency_ms", 1.0)])


def test_a_proposal_that_is_none_of_the_space_is_refused(digits: SearchSpace) -> None:
    repair = Repair(digits, count_tables(digits), [])
    with pytest.raises(ArchitectureError, match=r"'stage1\.depth' must be picked"):
        repair.nearest({}, np.random.default_rng(0))
