from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from se_nas.cost.budget import Budget
from se_nas.search.lagrangian import BudgetPenalty

BUDGETS = (Budget("macs", 100.0), Budget("params", 10.0))
expected_costs = st.tuples(st.floats(0, 400), st.floats(0, 40))
steps = st.lists(expected_costs, max_size=6)


def costs(macs: float, params: float) -> dict[str, Tensor]:
    return {"macs": torch.tensor(macs), "params": torch.tensor(params), "latency_ms": torch.tensor(1e9)}


def test_nothing_to_pay_while_no_budget_was_ever_broken() -> None:
    penalty = BudgetPenalty(BUDGETS, strength=2.0, rate=0.1)
    assert penalty(costs(100.0, 10.0)).item() == 0
    assert penalty(costs(1.0, 9.0)).item() == 0
    assert penalty(costs(101.0, 1.0)).item() == pytest.approx(2.0 / 2 * 0.01**2, rel=1e-3)


@given(expected_costs, steps, st.floats(0.1, 10), st.floats(0.01, 1))
def test_penalty_and_multipliers_are_the_formula_s(
    now: tuple[float, float], before: list[tuple[float, float]], strength: float, rate: float
) -> None:
    penalty = BudgetPenalty(BUDGETS, strength, rate).double()
    multipliers = [0.0, 0.0]
    for past in before:
        penalty.update(costs(*past))
        for i, (cost, budget) in enumerate(zip(past, BUDGETS, strict=True)):
            multipliers[i] = max(0.0, multipliers[i] + rate * strength * (cost / budget.limit - 1))
    assert list(penalty.by_metric().values()) == pytest.approx(multipliers, rel=1e-4, abs=1e-4)
    assert min(penalty.by_metric().values()) >= 0
    total = 0.0
    for m, cost, budget in zip(penalty.by_metric().values(), now, BUDGETS, strict=True):
        pressed = max(0.0, m + strength * (cost / budget.limit - 1))
        total += (pressed**2 - m**2) / (2 * strength)
    assert penalty(costs(*now)).item() == pytest.approx(total, rel=1e-4, abs=1e-3)


def test_the_gradient_is_what_the_multiplier_will_be_after_a_full_step() -> None:
    penalty = BudgetPenalty(BUDGETS[:1], strength=3.0, rate=1.0)
    penalty.update(costs(150.0, 0.0))
    macs = torch.tensor(120.0, requires_grad=True)
    penalty({"macs": macs}).backward()
    penalty.update(costs(120.0, 0.0))
    assert macs.grad is not None
    assert macs.grad.item() * 100 == pytest.approx(penalty.by_metric()["macs"])


@pytest.mark.parametrize(("limit", "optimum", "multiplier"), [(1.0, 1.0, 4.0), (3.0, 3.0, 0.0), (8.0, 3.0, 0.0)])
def test_a_quadratic_under_one_constraint_ends_at_its_constrained_optimum(
    limit: float, optimum: float, multiplier: float
) -> None:
    """Least (x - 3)^2 with x at most the limit; stationary where 2 (x - 3) + multiplier / limit = 0."""
    penalty = BudgetPenalty((Budget("macs", limit),), strength=2.0, rate=0.05).double()
    x = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([x], 0.05)
    for _ in range(600):
        optimizer.zero_grad()
        ((x - 3).square() + penalty({"macs": x})).backward()
        optimizer.step()
        penalty.update({"macs": x})
    assert x.item() == pytest.approx(optimum, abs=1e-3)
    assert penalty.by_metric()["macs"] == pytest.approx(multiplier, abs=1e-2)


def test_a_multiplier_goes_back_to_zero_once_its_budget_is_slack() -> None:
    penalty = BudgetPenalty(BUDGETS, strength=2.0, rate=0.5)
    penalty.update(costs(200.0, 1.0))
    assert penalty.by_metric() == {"macs": 1.0, "params": 0.0}
    for _ in range(5):
        penalty.update(costs(50.0, 1.0))
    assert penalty.by_metric() == {"macs": 0.0, "params": 0.0}


def test_no_budgets_no_penalty() -> None:
    penalty = BudgetPenalty((), strength=2.0, rate=0.5)
    penalty.update({})
    assert penalty({}).item() == 0
    assert penalty.by_metric() == {}


def test_the_multipliers_are_part_of_the_state() -> None:
    penalty, other = (BudgetPenalty(BUDGETS, strength=2.0, rate=0.5) for _ in range(2))
    penalty.update(costs(200.0, 30.0))
    other.load_state_dict(penalty.state_dict())
    assert other.by_metric() == penalty.by_metric() != {"macs": 0.0, "params": 0.0}
