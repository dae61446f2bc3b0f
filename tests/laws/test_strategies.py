"""Law 5: whatever the space, a search's answer is in it and within every budget, and is the same for the same seed."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from se_nas.cost.budget import Budget
from se_nas.cost.counts import network_counts
from se_nas.cost.table import build_table, count_tables
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.in_memory.parts import split_parts
from se_nas.data.sources import load_train
from se_nas.errors import ConfigError, InfeasibleBudgetError
from se_nas.search.budgets.decode import decode
from se_nas.search.differentiable.search import DifferentiableConfig, DifferentiableResult, search_differentiable
from se_nas.search.problem import SearchProblem
from se_nas.space.search_space import SearchSpace
from tests.helpers.strategies import spaces


def problem_for(space: SearchSpace, folder: Path, seed: int) -> SearchProblem:
    """Up to three budgets, each at the cost of one architecture, so that they can be kept together."""
    info, train = load_train(DataOptions("synthetic", resolution=max(space.resolutions), size=60))
    space = dataclasses.replace(space, classes=info.classes, channels=info.channels)
    tables = {**count_tables(space), "latency_ms": build_table(space, "latency_ms", 0.1, lambda b: 0.01 * b.kernel)}
    rng = np.random.default_rng(seed)
    wanted = space.sample(rng)
    budgets = tuple(Budget(metric, table.cost(wanted)) for metric, table in tables.items() if rng.random() < 0.7)
    parts = split_parts(train.labels, {"weights": 0.5, "choices": 0.3, "validation": 0.2}, 0)
    return SearchProblem(
        space=space,
        budgets=budgets,
        tables=tables,
        info=info,
        train=train,
        parts=parts,
        device=torch.device("cpu"),
        seed=seed,
        folder=folder,
        progress=False,
    )


def search(problem: SearchProblem, relaxation: str) -> DifferentiableResult:
    config = DifferentiableConfig(
        pretrain_epochs=1, epochs=1, batch_size=15, relaxation=relaxation, calibration_images=30
    )
    return search_differentiable(problem, config)


@settings(max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # an example is dear to shrink
@given(spaces(most_picks=1000), st.integers(0, 2**16), st.sampled_from(["gumbel", "softmax"]))
def test_in_every_space_the_answer_is_a_member_that_keeps_its_budgets(
    space: SearchSpace, seed: int, relaxation: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        problem = problem_for(space, Path(folder) / "one", seed)
        if not space.choices:
            with pytest.raises(ConfigError, match="must leave a choice"):
                search(problem, relaxation)
            return
        result = search(problem, relaxation)
        again = search(dataclasses.replace(problem, folder=Path(folder) / "two"), relaxation)
    assert again.scores == result.scores
    assert again.history == result.history
    found = decode(problem.space, problem.tables, problem.budgets, result.scores)
    assert found.architecture in set(problem.space.enumerate())
    counts = network_counts(problem.space.resolve(found.architecture))
    costs = {**found.costs, "macs": counts.macs, "params": counts.params}
    assert all(budget.holds(costs[budget.metric]) for budget in problem.budgets)


def test_budgets_that_cannot_be_kept_are_an_error(tiny_space: SearchSpace, tmp_path: Path) -> None:
    problem = problem_for(tiny_space, tmp_path / "search", 0)
    hopeless = dataclasses.replace(problem, budgets=(Budget("latency_ms", 0.01), Budget("params", 1e9)))
    with pytest.raises(InfeasibleBudgetError, match=r"latency_ms <= 0\.01 ms, where the least reachable is"):
        search(hopeless, "gumbel")
    assert not (tmp_path / "search").exists()
