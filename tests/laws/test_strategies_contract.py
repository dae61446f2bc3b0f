"""Law 5 for the black-box search with every sampler: the answer is in the space, within the budgets, the same for the
same seed, and on a tiny space the brute-force optimum; on one too large for that, better than chance finds."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from se_nas.cost.budget import Budget
from se_nas.cost.counts import network_counts
from se_nas.cost.latency.timing import latency_key
from se_nas.cost.metrics import LATENCY
from se_nas.cost.table import count_tables
from se_nas.errors import InfeasibleBudgetError
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.samplers import SAMPLERS
from se_nas.search.black_box.search import BlackBoxResult, search_architectures
from se_nas.search.differentiable.search import DifferentiableConfig
from se_nas.search.strategies import STRATEGIES
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from tests.search.known_worth import binding, feasible, worth
from tests.search.problems import make_problem

CONFIGS: dict[str, Any] = {
    "differentiable": DifferentiableConfig(pretrain_epochs=1, epochs=1, batch_size=20, calibration_images=48),
    "optuna": OptunaConfig(
        max_evaluations=4, supernet={"epochs": 1, "batch_size": 20, "calibration_images": 48}, objectives=["accuracy"]
    ),
}


def budgets_for(space: SearchSpace, sampler: str) -> list[Budget]:
    """Fewer networks for the sampler whose every proposal is dear."""
    return binding(space, 0.15 if sampler == "gp" else 0.5)


def search(space: SearchSpace, sampler: str, seed: int = 0, **fields: Any) -> BlackBoxResult:
    config = OptunaConfig(**{"sampler": sampler, "population": 6, "max_evaluations": 200, **fields})
    return search_architectures(space, budgets_for(space, sampler), worth, config=config, seed=seed)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_finds_the_brute_force_optimum_within_the_budgets(tiny_space: SearchSpace, sampler: str) -> None:
    budgets = budgets_for(tiny_space, sampler)
    allowed = feasible(tiny_space, budgets)
    best = max(allowed, key=worth)
    assert best != max(tiny_space.enumerate(), key=worth)  # the budgets bind
    found = search(tiny_space, sampler)
    assert found.best is not None
    assert (found.best.architecture, found.best.accuracy) == (best, worth(best))
    assert {e.architecture for e in found.evaluations} == set(allowed)
    assert found.exhausted
    counts = network_counts(tiny_space.resolve(found.best.architecture))
    assert all(b.holds(getattr(counts, b.metric)) for b in budgets)


#: Of 1.6 million networks.
LARGER: dict[str, Any] = {
    "name": "larger",
    "resolution": 8,
    "stem": {"width": 8},
    "stages": [
        {"width": 8, "depth": [1, 2, 3], "kernel": [3, 5, 7], "expansion": 2, "se": {"options": ["none", 2]}},
        {
            "width": 16,
            "stride": 2,
            "depth": [1, 2, 3],
            "kernel": [3, 5, 7],
            "expansion": [2, 3],
            "se": {"options": ["none", 2, 4], "divisor": 4},
        },
    ],
}


@functools.cache
def best_and_late(sampler: str, seeds: int, most: int) -> tuple[float, float]:
    """Means over some searches of the best worth, and of the last third's, which is what a sampler has learned."""
    space, best, late = parse_space(LARGER, "larger"), 0.0, 0.0
    for seed in range(seeds):
        config = OptunaConfig(sampler=sampler, population=10, max_evaluations=most)  # type: ignore[arg-type]
        found = search_architectures(space, [], worth, config=config, seed=seed)
        worths = [worth(e.architecture) for e in found.evaluations]
        best += max(worths) / seeds
        late += sum(worths[2 * most // 3 :]) / (most - 2 * most // 3) / seeds
    return best, late


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "random"])
def test_what_a_sampler_learns_makes_it_better_than_chance(sampler: str) -> None:
    size = {"gp": (1, 25), "predictor": (1, 60)}.get(sampler, (6, 60))  # the two whose every proposal is dear
    best, late = best_and_late(sampler, *size)
    by_chance = best_and_late("random", *size)
    assert best > by_chance[0] + 0.01
    assert late > by_chance[1] + 0.04


def numbers(found: BlackBoxResult) -> list[tuple[int, Architecture, float | None, str]]:
    return [(e.number, e.architecture, e.accuracy, e.state) for e in found.evaluations]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_seed_gives_one_search_and_another_seed_another(tiny_space: SearchSpace, sampler: str) -> None:
    first, again, other = (numbers(search(tiny_space, sampler, seed, max_evaluations=13)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first) == 13


@pytest.mark.parametrize("sampler", [name for name, entry in SAMPLERS.items() if entry.several])
def test_the_front_of_two_objectives_is_that_of_brute_force(tiny_space: SearchSpace, sampler: str) -> None:
    found = search(tiny_space, sampler, objectives=("accuracy", "macs"))
    macs = count_tables(tiny_space)["macs"].cost
    budgets = budgets_for(tiny_space, sampler)
    allowed = feasible(tiny_space, budgets)
    front = {
        a
        for a in allowed
        if not any(
            worth(b) >= worth(a) and macs(b) <= macs(a) and (worth(b), macs(b)) != (worth(a), macs(a)) for b in allowed
        )
    }
    assert {e.architecture for e in found.front} == front
    assert [e.costs["macs"] for e in found.front] == sorted(macs(a) for a in front)


@pytest.mark.parametrize("proposals", ["feasible", "any"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_infeasible_budget_ends_a_search_before_any_evaluation(
    tiny_space: SearchSpace, sampler: str, proposals: Any
) -> None:
    def refuse(architecture: Architecture) -> float:
        raise AssertionError("nothing may be evaluated")

    config = OptunaConfig(sampler=sampler, proposals=proposals)  # type: ignore[arg-type]
    with pytest.raises(InfeasibleBudgetError, match="macs <= 10 MACs, where the least reachable is"):
        search_architectures(tiny_space, [Budget("macs", 10)], refuse, config=config)


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_every_strategy_gives_a_member_of_the_space_within_the_budgets_and_the_same_for_the_same_seed(
    tiny_space: SearchSpace, tmp_path: Path, strategy: str
) -> None:
    answers = []
    for name in ("one", "two"):
        problem = make_problem(tiny_space, tmp_path / name / "search", macs=0.5)
        found = STRATEGIES[strategy].search(problem, CONFIGS[strategy])
        answer = found.answer({LATENCY: latency_key()})
        assert answer.architecture in set(problem.space.enumerate())
        assert network_counts(answer.network).macs <= problem.budgets[0].limit
        answers.append((answer.architecture, found.accuracy(answer.architecture)))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_no_strategy_trains_or_writes_under_an_infeasible_budget(
    tiny_space: SearchSpace, tmp_path: Path, strategy: str
) -> None:
    problem = make_problem(tiny_space, tmp_path / "search", budgets=(Budget("macs", 10.0),))
    with pytest.raises(InfeasibleBudgetError, match="least reachable"):
        STRATEGIES[strategy].search(problem, CONFIGS[strategy])
    assert not (tmp_path / "search" / "log.jsonl").exists()
