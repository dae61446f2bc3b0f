"""The power of a planned comparison: what simulated evidence finds, as often as was reckoned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_nas.evidence.pilot.power import MOST_SEEDS, power_against_mean, power_against_one, seeds_for
from se_nas.evidence.statistics import crossed_difference, paired_difference

TIMES = 1500


@pytest.mark.parametrize(("networks", "seeds", "spread"), [(5, 3, 0.01), (10, 5, 0.004), (8, 8, 0.0), (20, 3, 0.02)])
def test_against_random_networks_it_is_what_simulated_trainings_find(networks: int, seeds: int, spread: float) -> None:
    rng, noise, difference = np.random.default_rng(0), 0.005, 0.008
    found = 0
    for _ in range(TIMES):
        ours = difference + noise * rng.standard_normal(seeds)
        theirs = spread * rng.standard_normal((networks, 1)) + noise * rng.standard_normal((networks, seeds))
        found += crossed_difference(ours, theirs).excludes_zero
    # Satterthwaite's degrees of freedom are those of the expected mean squares, not of those that were drawn
    assert found / TIMES == pytest.approx(power_against_mean(difference, noise, spread, networks, seeds), abs=0.06)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_against_one_network_it_is_what_simulated_trainings_find(seeds: int) -> None:
    rng, noise, difference = np.random.default_rng(0), 0.005, 0.008
    pairs = noise * rng.standard_normal((TIMES, 2, seeds))
    found = sum(paired_difference(difference + ours, theirs).excludes_zero for ours, theirs in pairs)
    assert found / TIMES == pytest.approx(power_against_one(difference, noise, seeds), abs=0.04)


def test_without_a_difference_it_is_the_share_of_false_findings() -> None:
    assert power_against_one(0.0, 0.005, 5) == pytest.approx(0.05)
    assert power_against_mean(0.0, 0.005, 0.01, 10, 5) == pytest.approx(0.05)


def test_the_fewest_seeds_reach_it_and_one_less_does_not() -> None:
    seeds = seeds_for(0.8, lambda n: power_against_one(0.01, 0.008, n))
    assert seeds is not None
    assert power_against_one(0.01, 0.008, seeds) >= 0.8 > power_against_one(0.01, 0.008, seeds - 1)


def test_where_networks_spread_more_than_the_difference_no_number_of_seeds_is_enough() -> None:
    assert power_against_mean(0.005, 0.005, 0.02, 5, MOST_SEEDS) < 0.2
    assert seeds_for(0.8, lambda n: power_against_mean(0.005, 0.005, 0.02, 5, n)) is None


@given(
    difference=st.floats(1e-4, 0.9),
    noise=st.floats(1e-4, 0.2),
    spread=st.floats(0, 0.2),
    networks=st.integers(1, 60),
    seeds=st.integers(2, 30),
)
def test_it_is_a_chance_that_grows_with_the_difference_however_large(
    difference: float, noise: float, spread: float, networks: int, seeds: int
) -> None:
    found = [power_against_mean(times * difference, noise, spread, networks, seeds) for times in (1.0, 1.1)]
    assert 0.05 - 1e-6 <= found[0] <= found[1] + 1e-6 <= 1 + 2e-6
