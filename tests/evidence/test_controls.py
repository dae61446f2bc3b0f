"""Random controls keep the budgets, nearly use them up and hang on seed and number alone; pinned ones say why not."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.errors import ConfigError, InfeasibleBudgetError
from se_nas.evidence import controls
from se_nas.evidence.choices_in_use import choices_in_use
from se_nas.evidence.controls import FULL, RandomFeasible, pinned_controls, repinned_controls
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec
from se_nas.space.templates import NO_SE
from se_nas.space.yaml.file import parse_space
from tests.helpers.strategies import spaces


@given(spaces(most_picks=200), st.integers(0, 2**16))
def test_a_random_control_keeps_the_budgets_and_is_full_where_any_network_is(space: SearchSpace, seed: int) -> None:
    rng, tables = np.random.default_rng(seed), count_tables(space)
    every = list(space.enumerate())
    limits = every[rng.integers(len(every))]
    budgets = [Budget(metric, tables[metric].cost(limits) * (1 + rng.random())) for metric in ("macs", "params")]
    random = RandomFeasible(space, tables, budgets, seed)
    fullness = {a: max(tables[b.metric].cost(a) / b.limit for b in budgets) for a in every}
    feasible = {a for a in every if all(tables[b.metric].cost(a) <= b.limit for b in budgets)}
    full = {a for a in feasible if fullness[a] >= FULL}
    drawn = [random.draw(i) for i in range(5)]
    assert set(drawn) <= feasible
    assert [random.fullness(a) for a in drawn] == [fullness[a] for a in drawn]
    if len(full) > len(feasible) / 4:  # all 201 draws miss these only where some picks are very rare
        assert set(drawn) <= full
    again = RandomFeasible(space, tables, budgets, seed)
    assert [again.draw(i) for i in reversed(range(5))] == drawn[::-1]


@given(spaces(most_picks=200), st.integers(0, 2**16))
def test_random_networks_of_a_size_cost_about_as_much_and_are_found_where_there_are_any(
    space: SearchSpace, seed: int
) -> None:
    rng, tables = np.random.default_rng(seed), count_tables(space)
    every = list(space.enumerate())
    answer = every[rng.integers(len(every))]
    metrics = ("macs", "params")
    budgets = [Budget(metric, tables[metric].cost(answer) * (1 + 0.5 * rng.random())) for metric in metrics]
    given_budgets = budgets[: rng.integers(3)]
    limits = {budget.metric: budget.limit for budget in given_budgets}
    random = RandomFeasible(space, tables, given_budgets, seed)
    within = {
        a
        for a in every
        if a != answer
        and all(tables[m].cost(a) <= limits.get(m, math.inf) for m in metrics)
        and all(abs(tables[m].cost(a) / tables[m].cost(answer) - 1) <= 0.1 + 1e-9 for m in limits or metrics)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls, "IN_VAIN", 100)
        found = random.of_size(answer, 2)
        assert random.of_size(answer, 2) == found
    assert set(found) <= within
    assert len(found) == len(set(found)) <= 2
    assert found or len(within) < len(every) / 20
    assert random.of_size(answer, 0) == []


def test_where_nothing_is_full_the_fullest_is_drawn(tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = count_tables(tiny_space)
    most = max(tables["macs"].cost(a) for a in tiny_space.enumerate())
    monkeypatch.setattr(controls, "REDRAWS", 5)
    random = RandomFeasible(tiny_space, tables, [Budget("macs", 2 * most)], 0)
    sampled = np.mean([random.fullness(tiny_space.sample(np.random.default_rng(i))) for i in range(50)])
    drawn = [random.fullness(random.draw(i)) for i in range(50)]
    assert max(drawn) <= 0.5
    assert np.mean(drawn) > sampled + 0.05


def test_without_budgets_they_are_uniform_picks(tiny_space: SearchSpace) -> None:
    random = RandomFeasible(tiny_space, count_tables(tiny_space), [], 3)
    depths = Counter(random.draw(i)["stage1.depth"] for i in range(300))
    assert 0.4 < depths[1] / 300 < 0.6


def test_distinct_networks_are_the_first_different_ones(tiny_space: SearchSpace) -> None:
    tables = count_tables(tiny_space)
    median = float(np.median([tables["macs"].cost(a) for a in tiny_space.enumerate()]))
    budgets = [Budget("macs", median)]
    random = RandomFeasible(tiny_space, tables, budgets, 0)
    five = random.distinct(5)
    assert len(set(five)) == 5
    assert five == list(dict.fromkeys(random.draw(i) for i in range(40)))[:5]
    assert random.distinct(3) == five[:3]
    assert RandomFeasible(tiny_space, tables, budgets, 1).distinct(5) != five


def test_a_space_that_runs_out_gives_what_it_has(tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = count_tables(tiny_space)
    monkeypatch.setattr(controls, "REDRAWS", 2)
    assert set(RandomFeasible(tiny_space, tables, [], 0).distinct(10**4)) == set(tiny_space.enumerate())
    least = min(tables["macs"].cost(a) for a in tiny_space.enumerate())
    cheapest = {a for a in tiny_space.enumerate() if tables["macs"].cost(a) == least}
    assert set(RandomFeasible(tiny_space, tables, [Budget("macs", least)], 0).distinct(20)) == cheapest
    assert RandomFeasible(tiny_space, tables, [], 0).distinct(0) == []


def test_budgets_that_nothing_keeps_are_refused(tiny_space: SearchSpace) -> None:
    tables = count_tables(tiny_space)
    with pytest.raises(InfeasibleBudgetError, match="least reachable"):
        RandomFeasible(tiny_space, tables, [Budget("macs", 1.0)], 0)
    with pytest.raises(ConfigError, match="latency_ms: needs a cost table"):
        RandomFeasible(tiny_space, tables, [Budget("latency_ms", 1.0)], 0)


def test_pinned_controls_place_se_nowhere_or_everywhere(tiny_space: SearchSpace) -> None:
    tables = count_tables(tiny_space)
    found, skipped = pinned_controls(tiny_space, tables, [], ratios=(2, 16))
    assert [(c.name, c.kind, c.label) for c in found] == [
        ("no_se", "baseline", "no SE anywhere, as large as the budgets allow"),
        ("se_r2", "baseline", "SE of ratio 2 everywhere, as large as the budgets allow"),
    ]
    assert skipped == ["se_r16: space tiny has only no_se, se_r2, se_r4"]
    without, everywhere = found
    assert all(block.se is None for block in without.spec.blocks)
    assert all(block.se is not None for block in everywhere.spec.blocks if block.kind == "mbconv")
    for control in found:
        assert control.architecture is not None
        assert control.spec == tiny_space.resolve(control.architecture)


def test_pinned_controls_that_cannot_be_say_why() -> None:
    stage = {"width": 8, "expansion": [1], "se": {"options": ["none", 4, 16]}}
    space = parse_space({"name": "narrow", "resolution": 8, "stem": {"width": 8}, "stages": [stage]}, "narrow")
    tables = count_tables(space)
    found, skipped = pinned_controls(space, tables, [])
    assert [control.name for control in found] == ["no_se", "se_r4"]
    assert skipped == ["se_r16: the same network as se_r4"]
    bare = tables["params"].cost(space.architecture({"stage1.block1.se": NO_SE}))
    found, skipped = pinned_controls(space, tables, [Budget("params", bare)], ratios=[4])
    assert [control.name for control in found] == ["no_se"]
    assert len(skipped) == 1
    assert skipped[0].startswith("baseline se_r4: ")
    assert "\n" not in skipped[0]


def test_a_space_without_a_choice_of_se_has_no_pinned_controls() -> None:
    stage = {"width": 8, "kernel": [3, 5]}
    space = parse_space({"name": "plain", "resolution": 8, "stem": {"width": 8}, "stages": [stage]}, "plain")
    found, skipped = pinned_controls(space, count_tables(space), [])
    assert found == []
    assert skipped == [f"{name}: space plain leaves SE no choice" for name in ("no_se", "se_r4", "se_r16")]


def test_the_answer_with_other_se_changes_as_little_else_as_the_budgets_need(tiny_space: SearchSpace) -> None:
    tables = count_tables(tiny_space)
    answer = tiny_space.sample(np.random.default_rng(5))
    others = [choice.name for choice in tiny_space.choices if not choice.name.endswith(".se")]

    def kept(architecture: Architecture) -> int:
        used = choices_in_use(tiny_space, architecture)
        return sum(name not in used or architecture[name] == answer[name] for name in others)

    def named(name: str, block: BlockSpec) -> bool:
        ratio = block.se.ratio if block.se else None
        return block.kind == "identity" or ratio == (None if name == "answer_no_se" else 2)

    free, skipped = repinned_controls(tiny_space, tables, [], answer, ratios=[2])
    assert [control.name for control in free] == ["answer_no_se", "answer_se_r2"]
    assert not skipped
    for control in free:
        assert control.architecture is not None
        assert kept(control.architecture) == len(others)
        assert all(named(control.name, block) for block in control.spec.blocks)
    limit = tables["params"].cost(free[1].architecture) - 1  # type: ignore[arg-type]
    tight = [Budget("params", limit)]
    found = {c.name: c for c in repinned_controls(tiny_space, tables, tight, answer, ratios=[2])[0]}
    best = found["answer_se_r2"].architecture
    assert best is not None
    assert tables["params"].cost(best) <= limit
    rivals = [
        architecture
        for architecture in tiny_space.enumerate()
        if tables["params"].cost(architecture) <= limit
        and all(named("answer_se_r2", block) for block in tiny_space.resolve(architecture).blocks)
    ]
    assert kept(best) == max(map(kept, rivals))
