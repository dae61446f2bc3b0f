"""Thompson sampling: what it learns of each pick, that draws are as bold as data allow, and what is best by them."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.own_samplers.thompson import FIRST, Scores, ThompsonSampler
from se_nas.search.black_box.search import search_architectures
from se_nas.search.budgets.decode import decode
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from tests.laws.test_strategies_contract import LARGER
from tests.search.known_worth import worth

AXES = {name: CategoricalDistribution(("low", "middle", "high")) for name in ("a", "b", "c")}
WORTH = {"low": 0.1, "middle": 0.2, "high": 0.3}


def study_of(count: int, direction: str = "maximize", seed: int = 0) -> optuna.Study:
    """Trials of random picks whose value is the sum of the worths of `a` and `b`; `c` has no effect."""
    rng = np.random.default_rng(seed)
    study = optuna.create_study(direction=direction)
    for _ in range(count):
        picks = {name: str(rng.choice(axis.choices)) for name, axis in AXES.items()}
        value = WORTH[picks["a"]] + WORTH[picks["b"]] + 0.01 * rng.standard_normal()
        study.add_trial(create_trial(params=picks, distributions=AXES, value=value))
    study.add_trial(create_trial(params={}, distributions={}, state=TrialState.FAIL))
    return study


def scores_of(study: optuna.Study, seed: int) -> Scores:
    """What the decode is given."""
    given: list[Scores] = []

    def decoded(scores: Scores) -> dict[str, Any]:
        given.append(scores)
        return dict.fromkeys(scores, "low")

    found = ThompsonSampler(decoded, seed).sample_relative(study, study.trials[0], dict(AXES))
    assert found == dict.fromkeys(AXES, "low")
    (scores,) = given
    return scores


def test_until_enough_is_known_it_leaves_all_to_chance() -> None:
    def refuse(scores: Scores) -> dict[str, Any]:
        raise AssertionError("something was predicted")

    study = study_of(FIRST - 1)
    assert ThompsonSampler(refuse, 0).sample_relative(study, study.trials[0], dict(AXES)) == {}


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_scores_are_in_the_order_of_the_worths_and_of_an_option_without_effect_near_nothing(direction: str) -> None:
    study = study_of(120, direction)
    sign = 1 if direction == "maximize" else -1
    for seed in range(10):
        scores = scores_of(study, seed)
        for name in ("a", "b"):
            low, middle, high = sign * scores[name]
            assert high - middle == pytest.approx(middle - low, rel=0.2)
            assert high > middle > low
        assert np.ptp(scores["c"]) < 0.1 * np.ptp(scores["a"])


def test_draws_spread_less_the_more_is_known() -> None:
    spreads = []
    for study in (study_of(16), study_of(160)):
        drawn = [scores_of(study, seed)["a"] for seed in range(30)]
        spreads.append(np.std([high - low for low, _, high in drawn]))
    assert spreads[1] < spreads[0] / 2


def test_of_values_that_are_all_equal_nothing_is_learned() -> None:
    study = optuna.create_study(direction="maximize")
    for _ in range(FIRST):
        study.add_trial(create_trial(params=dict.fromkeys(AXES, "low"), distributions=dict(AXES), value=0.5))
    assert len({tuple(scores_of(study, seed)["a"]) for seed in range(5)}) == 5


def test_where_picks_add_up_the_best_network_within_a_budget_is_found_soon() -> None:
    fixed = {**LARGER, "stages": [{**stage, "depth": 3} for stage in LARGER["stages"]]}  # of 1.3 million networks
    space = parse_space(fixed, "fixed")
    tables = count_tables(space)
    rng = np.random.default_rng(0)
    costs = sorted(tables["macs"].cost(space.sample(rng)) for _ in range(200))
    budgets = [Budget("macs", costs[60])]
    best = decode(space, tables, budgets, _worths(space)).architecture
    config = OptunaConfig(sampler="predictor", max_evaluations=70)
    found = search_architectures(space, budgets, worth, config=config, seed=0)
    assert found.best is not None
    assert found.best.architecture == best


def _worths(space: SearchSpace) -> dict[str, list[float]]:
    """What each option adds to a network's worth."""
    first = {choice.name: choice.options[0] for choice in space.choices}
    base = worth(space.architecture(first))
    return {
        choice.name: [worth(space.architecture({**first, choice.name: option})) - base for option in choice.options]
        for choice in space.choices
    }
