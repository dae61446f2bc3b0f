from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from se_nas.cost.budget import Budget
from se_nas.search.differentiable.watchdog import warnings_of
from se_nas.search.problem import SearchProblem
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import NO_SE
from tests.search.problems import make_problem

EPOCHS = 10


@pytest.fixture(scope="module")
def problem(tiny_space: SearchSpace) -> SearchProblem:
    return make_problem(tiny_space, Path("unused"), budgets=(Budget("macs", 1000.0), Budget("params", 10.0)))


def warnings(problem: SearchProblem, epoch: int, **changes: Any) -> list[str]:
    choices = problem.space.choices
    healthy: dict[str, Any] = {
        "expected": {"macs": 900.0, "params": 10.4},
        "probabilities": {c.name: [1 / len(c.options)] * len(c.options) for c in choices},
        "entropies": {c.name: 0.5 for c in choices},
    }
    return warnings_of(problem, **healthy | changes, epoch=epoch, epochs=EPOCHS)


def leaning(problem: SearchProblem, options: dict[str, Any], sure: float) -> dict[str, list[float]]:
    """Probabilities with `sure` on the given option of the given choices, even elsewhere."""
    found = {}
    for c in problem.space.choices:
        n = len(c.options)
        found[c.name] = [1 / n] * n
        if c.name in options:
            found[c.name] = [sure if o == options[c.name] else (1 - sure) / (n - 1) for o in c.options]
    return found


def test_nothing_is_said_of_a_healthy_search(problem: SearchProblem) -> None:
    for epoch in range(EPOCHS):
        assert warnings(problem, epoch) == []


def test_a_decision_before_half_of_the_epochs(problem: SearchProblem) -> None:
    decided = {c.name: 0.1 for c in problem.space.choices}
    for epoch in range(EPOCHS):
        found = warnings(problem, epoch, entropies=decided)
        assert (len(found) == 1 and "decided too early" in found[0] and "0.10" in found[0]) == (epoch < 4)
        assert found or epoch >= 4


def test_no_decision_at_the_end(problem: SearchProblem) -> None:
    undecided = {c.name: 0.95 for c in problem.space.choices}
    assert warnings(problem, EPOCHS - 2, entropies=undecided) == []
    (line,) = warnings(problem, EPOCHS - 1, entropies=undecided)
    assert "0.95 at the end: hardly decided" in line


def test_all_se_off(problem: SearchProblem) -> None:
    names = [c.name for c in problem.space.choices if c.name.endswith(".se")]
    assert len(names) == 3
    off = dict.fromkeys(names, NO_SE)
    (line,) = warnings(problem, 5, probabilities=leaning(problem, off, 0.95))
    assert "all 3 SE choices" in line
    assert "SE has collapsed" in line
    assert warnings(problem, 5, probabilities=leaning(problem, off, 0.85)) == []
    del off[names[0]]
    assert warnings(problem, 5, probabilities=leaning(problem, off, 0.95)) == []
    on = {c.name: c.options[-1] for c in problem.space.choices if c.name in names}
    assert warnings(problem, 5, probabilities=leaning(problem, on, 0.95)) == []


def test_all_depths_at_their_least(tiny_space: SearchSpace) -> None:
    stages = tuple(replace(stage, depths=(2, 1)) for stage in tiny_space.stages)
    problem = make_problem(replace(tiny_space, stages=stages), Path("unused"), budgets=())
    depths = {c.name: 1 for c in problem.space.choices if c.name.endswith(".depth")}
    assert len(depths) == 2
    (line,) = warnings(problem, 0, probabilities=leaning(problem, depths, 0.95))
    assert "all 2 depth choices" in line
    deep = dict.fromkeys(depths, 2)
    assert warnings(problem, 0, probabilities=leaning(problem, deep, 0.95)) == []


def test_one_depth_or_one_se_is_a_decision_and_no_collapse(problem: SearchProblem) -> None:
    assert warnings(problem, 5, probabilities=leaning(problem, {"stage1.depth": 1}, 0.99)) == []


def test_a_budget_that_the_expectation_ends_above(problem: SearchProblem) -> None:
    above = {"macs": 1200.0, "params": 10.4}
    assert warnings(problem, EPOCHS - 2, expected=above) == []
    (line,) = warnings(problem, EPOCHS - 1, expected=above)
    assert "expected macs ends 20% above its budget" in line
    assert len(warnings(problem, EPOCHS - 1, expected={"macs": 1200.0, "params": 11.0})) == 2
