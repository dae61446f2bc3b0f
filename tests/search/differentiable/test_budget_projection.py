from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable, CostTerm, count_tables
from se_nas.search.budgets.greatest_part import as_sums
from se_nas.search.differentiable.budget_projection import TOLERANCE, BudgetProjection
from se_nas.search.differentiable.choice_logits import ChoiceLogits
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from tests.helpers.strategies import spaces

FloatArray = np.ndarray


def drawn(space: SearchSpace, seed: int, spread: float = 1.0) -> ChoiceLogits:
    logits = ChoiceLogits(space)
    with torch.no_grad():
        logits.logits.copy_(spread * torch.randn(logits.logits.shape, generator=torch.Generator().manual_seed(seed)))
    return logits


def additive(space: SearchSpace, metric: str, seed: int) -> CostTable:
    """A table to which every option adds what it costs whatever the others are."""
    rng = np.random.default_rng(seed)
    terms = [CostTerm((choice.name,), rng.uniform(0, 3, len(choice.options))) for choice in space.choices]
    return CostTable(space, metric, 1.0, terms)


def probabilities(logits: ChoiceLogits) -> dict[str, FloatArray]:
    return {name: p.detach().double().numpy() for name, p in logits.probabilities().items()}


def gibbs(start: dict[str, FloatArray], costs: dict[str, FloatArray], length: float) -> dict[str, FloatArray]:
    weights = {name: p * np.exp(-length * (costs[name] - costs[name].min())) for name, p in start.items()}
    return {name: w / w.sum() for name, w in weights.items()}


@given(st.integers(0, 2**16), st.floats(0.3, 0.95))
@settings(max_examples=30)
def test_one_budget_leads_to_the_nearest_probabilities_that_keep_it(
    tiny_space: SearchSpace, seed: int, share: float
) -> None:
    """Those are p exp(-length cost), normalised, with the length that just keeps the budget (Csiszar 1975)."""
    table = additive(tiny_space, "macs", seed)
    costs = {term.choices[0]: term.values for term in table.terms}
    logits = drawn(tiny_space, seed)
    start = probabilities(logits)

    def expected(p: dict[str, FloatArray]) -> float:
        return 1.0 + sum(float(p[name] @ cost) for name, cost in costs.items())

    least = 1.0 + sum(float(cost.min()) for cost in costs.values())
    limit = least + share * (expected(start) - least)
    BudgetProjection([Budget("macs", limit)]).project(logits, {"macs": table})
    found = probabilities(logits)
    assert expected(found) <= limit * (1 + TOLERANCE) + 1e-5
    length = brentq(lambda value: expected(gibbs(start, costs, value)) - limit, 0, 200)
    for name, p in gibbs(start, costs, length).items():
        assert found[name] == pytest.approx(p, abs=0.01)


@given(st.integers(0, 2**16), st.floats(0.5, 0.95), st.floats(0.5, 0.95))
@settings(max_examples=30)
def test_two_budgets_lead_to_the_dual_s_optimum(tiny_space: SearchSpace, seed: int, one: float, other: float) -> None:
    """The nearest probabilities that keep both have the lengths that maximise the dual (scipy's L-BFGS-B)."""
    tables = {metric: additive(tiny_space, metric, seed + i) for i, metric in enumerate(("macs", "params"))}
    costs = {m: {term.choices[0]: term.values for term in table.terms} for m, table in tables.items()}
    start = probabilities(ChoiceLogits(tiny_space))
    budgets = []
    for share, metric in zip((one, other), tables, strict=True):
        undecided = 1.0 + sum(float(start[name] @ cost) for name, cost in costs[metric].items())
        budgets.append(Budget(metric, share * undecided))
    wanted = tiny_space.sample(np.random.default_rng(seed))
    budgets = [Budget(b.metric, max(b.limit, 1.1 * tables[b.metric].cost(wanted))) for b in budgets]

    def tilted(lengths: FloatArray) -> dict[str, FloatArray]:
        return {
            name: sum(length * costs[b.metric][name] / b.limit for length, b in zip(lengths, budgets, strict=True))
            for name in start
        }

    def dual(lengths: FloatArray) -> float:
        free = sum(np.log(np.sum(p * np.exp(-tilted(lengths)[name]))) for name, p in start.items())
        return float(free + sum(length * (1 - 1 / b.limit) for length, b in zip(lengths, budgets, strict=True)))

    best = minimize(dual, np.zeros(2), bounds=[(0, None)] * 2).x
    logits = ChoiceLogits(tiny_space)
    BudgetProjection(budgets).project(logits, tables)
    for name, p in probabilities(logits).items():
        weights = start[name] * np.exp(-tilted(best)[name])
        assert p == pytest.approx(weights / weights.sum(), abs=0.02)


@given(spaces(most_picks=1000), st.integers(0, 2**16), st.floats(0.1, 6))
@settings(max_examples=40)
def test_budgets_that_some_network_keeps_are_kept_in_expectation(space: SearchSpace, seed: int, spread: float) -> None:
    if not space.choices:
        return
    tables = count_tables(space)
    picks = space.sample(np.random.default_rng(seed)).as_dict()
    # of the greatest resolution, as the projection leaves the resolutions' shares as they are
    wanted = space.architecture(picks | {name: max(space.resolutions) for name in picks if name == "resolution"})
    budgets = [Budget(metric, 1.01 * table.cost(wanted)) for metric, table in tables.items()]
    logits, projection = drawn(space, seed, spread), BudgetProjection(budgets)
    summed, limits = as_sums(tables, budgets)  # of a greatest part it is the parts above the limit that are kept few
    with torch.no_grad():
        before = {name: float(table.expected_cost(logits.probabilities())) for name, table in summed.items()}
    for _ in range(10):  # as in a search, where one follows every choice step
        projection.project(logits, tables)
    p = {name: row.detach() for name, row in logits.probabilities().items()}
    for budget in limits:
        assert float(summed[budget.metric].expected_cost(p)) <= budget.limit * (1 + 2 * TOLERANCE)
        if all(b.holds(before[b.metric]) for b in limits):
            assert projection.by_metric()[budget.metric] == 0


def test_what_keeps_its_budgets_is_left_as_it_is(tiny_space: SearchSpace) -> None:
    tables, logits = count_tables(tiny_space), drawn(tiny_space, 0)
    before = logits.logits.clone()
    slack = BudgetProjection([Budget("macs", 1e9), Budget("params", 1e9)])
    slack.project(logits, tables)
    BudgetProjection([]).project(logits, tables)
    assert torch.equal(logits.logits, before)
    assert slack.by_metric() == {"macs": 0.0, "params": 0.0}


def test_how_far_the_budgets_pushed_is_part_of_the_state(tiny_space: SearchSpace) -> None:
    tables = count_tables(tiny_space)
    undecided = ChoiceLogits(tiny_space).probabilities()
    budgets = [Budget("macs", 0.8 * tables["macs"].expected_cost(undecided).item())]
    projection, other = BudgetProjection(budgets), BudgetProjection(budgets)
    projection.project(ChoiceLogits(tiny_space), tables)
    other.load_state_dict(projection.state_dict())
    assert other.by_metric() == projection.by_metric()
    assert projection.by_metric()["macs"] > 0


@pytest.mark.parametrize("sure", [0.0, 120.0])
def test_where_no_step_lowers_the_cost_the_logits_are_left_as_they_are(tiny_space: SearchSpace, sure: float) -> None:
    """A cost that two choices make together: no slope at equal logits, and none where both are certain."""
    first, second = [choice for choice in tiny_space.choices if len(choice.options) == 2][:2]
    table = CostTable(
        tiny_space, "macs", 0.0, [CostTerm((first.name, second.name), np.array([[2.0, 1.0], [1.0, 2.0]]))]
    )
    logits, projection = ChoiceLogits(tiny_space), BudgetProjection([Budget("macs", 1.2)])
    with torch.no_grad():
        for name in (first.name, second.name):
            logits.rows(logits.logits)[name][0] = sure
    before = logits.logits.clone()
    projection.project(logits, {"macs": table})
    assert torch.equal(logits.logits, before)


def test_a_budget_in_which_no_choice_has_a_say_moves_nothing() -> None:
    """A choice of gates alone costs no MACs."""
    stage = {"width": 8, "se": {"options": [2], "gate": ["sigmoid", "tanh"]}}
    space = parse_space({"name": "gates", "resolution": 8, "stem": {"width": 8}, "stages": [stage]}, "gates")
    tables, logits = count_tables(space), drawn(space, 1)
    before = logits.logits.clone()
    for limit in (1e9, tables["macs"].constant, 0.5 * tables["macs"].constant):
        projection = BudgetProjection([Budget("macs", limit)])
        projection.project(logits, tables)
        projection.project(logits, tables)
    assert torch.equal(logits.logits, before)
