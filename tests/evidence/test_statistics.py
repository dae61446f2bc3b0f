from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from se_nas.evidence import statistics
from se_nas.evidence.statistics import (
    Estimate,
    crossed_difference,
    holm,
    kendall,
    kendall_gain,
    paired_difference,
    partial_kendall,
    random_top_k_regret,
    seed_ceiling,
    spearman,
    top_k_regret,
)

Scores = list[float]


def covers(estimate: Estimate, truth: float) -> bool:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high


def scores(seed: int, n: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three related columns; few levels make ties."""
    generator = np.random.default_rng(seed)
    z = generator.normal(size=n)
    x, y = z + generator.normal(size=n), z + generator.normal(size=n)
    return tuple(column if levels is None else np.round(column * levels / 4) for column in (x, y, z))  # type: ignore[return-value]


# Differences


def test_paired_difference_is_the_paired_t_test() -> None:
    ours, theirs = [0.71, 0.735, 0.72, 0.70], [0.70, 0.72, 0.725, 0.69]
    found, wanted = paired_difference(ours, theirs), stats.ttest_rel(ours, theirs)
    interval = wanted.confidence_interval(0.95)
    assert found.value == pytest.approx(0.0075)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(wanted.pvalue)
    assert found.n == 4


@pytest.mark.parametrize("n", [2, 3, 5])
def test_twins_do_not_differ(n: int) -> None:
    twin = np.random.default_rng(n).random(n)
    for found in (paired_difference(twin, twin), crossed_difference(twin, np.stack([twin] * 4))):
        assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
        assert not found.excludes_zero


def test_differences_that_agree_to_the_step_are_no_surer_than_the_step() -> None:
    ours, theirs = np.array([0.71, 0.74, 0.72]), np.array([0.70, 0.73, 0.71])
    found = paired_difference(ours, theirs, resolution=0.01)
    assert found.high == pytest.approx(0.01 + stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(6 * 3))
    assert paired_difference(ours, ours, resolution=0.01) == paired_difference(ours, ours)
    spread = [0.60, 0.74, 0.90]
    assert paired_difference(spread, theirs, resolution=0.01) == paired_difference(spread, theirs)


def test_one_seed_has_no_interval_and_none_no_value() -> None:
    found = paired_difference([0.72], [0.70])
    assert found.value == pytest.approx(0.02)
    assert (found.low, found.high, found.p, found.n) == (None, None, None, 1)
    assert not found.excludes_zero
    assert crossed_difference([0.72], [[0.70], [0.68]]).low is None
    assert crossed_difference([0.72], [[0.70], [0.68]]).value == pytest.approx(0.03)
    assert paired_difference([], []).entry.value is None


def test_a_planted_better_network_is_found_and_an_equal_one_is_not() -> None:
    generator = np.random.default_rng(0)
    base = 0.7 + 0.002 * generator.normal(size=5)
    rivals = base + 0.001 * generator.normal(size=(8, 5))
    found = crossed_difference(base + 0.01, rivals)
    assert found.excludes_zero
    assert found.value == pytest.approx(0.01, abs=0.001)
    assert found.p is not None
    assert found.p < 0.01
    assert paired_difference(base + 0.01, rivals[0]).excludes_zero
    assert not crossed_difference(base, rivals).excludes_zero


def test_one_random_network_is_a_paired_difference() -> None:
    ours, theirs = [0.71, 0.735, 0.72], [0.70, 0.72, 0.725]
    assert crossed_difference(ours, [theirs]) == paired_difference(ours, theirs)


def test_without_residuals_only_the_networks_or_only_the_seeds_count() -> None:
    ours, theirs = np.array([0.71, 0.735, 0.72]), np.array([0.70, 0.72, 0.725])
    seeds = crossed_difference(ours, np.stack([theirs] * 4))
    assert (seeds.low, seeds.high) == pytest.approx((paired_difference(ours, theirs).low, seeds.value * 2 - seeds.low))  # type: ignore[operator]
    shifts = np.array([0.01, 0.02, -0.005, 0.03])
    networks = crossed_difference(ours, ours - shifts[:, None])
    interval = stats.ttest_1samp(shifts, 0).confidence_interval(0.95)
    assert (networks.low, networks.high) == pytest.approx((interval.low, interval.high))


def test_crossed_difference_by_hand() -> None:
    # differences [[1, 2], [3, 6]]: means 1.5 and 4.5 of networks, 2 and 4 of seeds, 3 of all; residuals +-0.5
    found = crossed_difference([0.0, 0.0], [[-1.0, -2.0], [-3.0, -6.0]])
    total = 9 + 4 - 1  # mean squares of networks, seeds and residuals, each of one degree of freedom
    half = stats.t.ppf(0.975, total**2 / (81 + 16 + 1)) * math.sqrt(total / 4)
    assert found.value == 3
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))


@pytest.mark.parametrize("k", [4, 8])
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize(
    ("networks", "seeds", "residuals"), [(1, 0.1, 0.1), (0.1, 1, 1), (1, 1, 1), (0.3, 0.3, 1), (0, 0, 1)]
)
def test_crossed_difference_covers(k: int, n: int, networks: float, seeds: float, residuals: float) -> None:
    generator = np.random.default_rng([k, n, round(10 * networks), round(10 * seeds)])
    rounds = 800
    hits = 0
    for _ in range(rounds):
        theirs = math.sqrt(networks) * generator.normal(size=(k, 1)) + math.sqrt(residuals) * generator.normal(
            size=(k, n)
        )
        hits += covers(crossed_difference(0.3 + math.sqrt(seeds) * generator.normal(size=n), theirs), 0.3)
    # a variance that is 0 cannot be estimated as less, so that the interval is wide where two are
    assert 0.93 <= hits / rounds <= (0.985 if networks else 1)


def test_paired_difference_covers() -> None:
    generator = np.random.default_rng(1)
    draws = generator.normal(size=(1000, 2, 3))
    share = np.mean([covers(paired_difference(ours + 0.5, theirs), 0.5) for ours, theirs in draws])
    assert 0.93 <= share <= 0.97


@pytest.mark.parametrize(
    ("ours", "theirs"), [([1.0, 2.0], [1.0]), ([1.0, math.nan], [1.0, 2.0]), ([[1.0]], [[1.0]])], ids=str
)
def test_paired_difference_refuses(ours: Scores, theirs: Scores) -> None:
    with pytest.raises(ValueError, match="must"):
        paired_difference(ours, theirs)


# Holm


def test_holm_on_known_numbers() -> None:
    # p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") in R
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04, 0.03, None, 0.005]) == [
        pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06), None, pytest.approx(0.02),
    ]  # fmt: skip
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p: Scores) -> None:
    adjusted = holm(p)
    assert all(new is not None and old <= new <= 1 for old, new in zip(p, adjusted, strict=True))
    in_order = [adjusted[i] for i in np.argsort(p, kind="stable")]
    assert in_order == sorted(in_order)  # type: ignore[type-var]
    assert min(adjusted) == pytest.approx(min(1, len(p) * min(p)))  # type: ignore[type-var]


# Rank correlations


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(8, 40), st.sampled_from([None, 2, 8]))
def test_values_and_every_left_out_one_equal_scipy(seed: int, n: int, levels: int | None) -> None:
    x, y, _ = scores(seed, n, levels)
    for ours, theirs in (
        (statistics._kendall_without_each, stats.kendalltau),
        (statistics._spearman_without_each, stats.spearmanr),
    ):
        value, without = ours(x, y)
        if min(np.ptp(np.delete(column, i)) for column in (x, y) for i in range(n)) == 0:
            continue
        assert value == pytest.approx(theirs(x, y)[0], abs=1e-12)
        wanted = [theirs(np.delete(x, i), np.delete(y, i))[0] for i in range(n)]
        assert without == pytest.approx(np.array(wanted), abs=1e-12)


def test_values_of_many_networks_equal_scipy() -> None:
    x, y, _ = scores(0, 2000, 40)
    assert kendall(x, y).value == pytest.approx(stats.kendalltau(x, y)[0], abs=1e-12)
    assert spearman(x, y).value == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-12)


def test_partial_kendall_is_the_partial_correlation_of_the_taus() -> None:
    x, y, z = scores(3, 30)
    correlations = np.array([[stats.kendalltau(a, b)[0] for a in (x, y, z)] for b in (x, y, z)])
    precision = np.linalg.inv(correlations)
    wanted = -precision[0, 1] / math.sqrt(precision[0, 0] * precision[1, 1])
    found = partial_kendall(x, y, z)
    assert found.value == pytest.approx(wanted)
    assert covers(found, wanted)
    assert math.isnan(partial_kendall(x, y, 3 * x).value)


def test_a_score_that_only_follows_the_cost_adds_nothing_to_it() -> None:
    generator = np.random.default_rng(5)
    cost = generator.normal(size=300)
    score, truth = (cost + 0.3 * generator.normal(size=300) for _ in range(2))
    assert kendall(score, truth).value > 0.6
    assert abs(partial_kendall(score, truth, cost).value) < 0.25
    assert kendall_gain(score, cost, truth).value < 0


def test_gain_is_the_difference_of_the_taus_and_pairs_the_networks() -> None:
    x, y, z = scores(4, 60)
    found = kendall_gain(z, x, y)
    assert found.value == pytest.approx(stats.kendalltau(z, y)[0] - stats.kendalltau(x, y)[0])
    same = kendall_gain(x, 2 * x, y)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("correlation", [kendall, spearman])
@pytest.mark.parametrize("n", [8, 20])
def test_perfect_order_is_not_perfectly_sure(correlation: Callable[..., Estimate], n: int) -> None:
    up = correlation(np.arange(n), np.arange(n) ** 3)
    down = correlation(np.arange(n), -np.arange(n))
    assert (up.value, up.high) == pytest.approx((1, 1))
    assert up.low is not None
    assert 0 < up.low < 1
    assert (down.value, down.low) == pytest.approx((-1, -1))
    assert down.high == pytest.approx(-up.low)
    assert up.excludes_zero
    assert up.p == pytest.approx(down.p)


def test_few_networks_and_constants_have_no_interval() -> None:
    x = np.arange(7.0)
    assert kendall(x, x).low is None
    assert kendall(x, x).value == 1
    for found in (kendall(np.arange(9), np.ones(9)), spearman(np.ones(9), np.arange(9))):
        assert math.isnan(found.value)
        assert (found.low, found.high, found.p) == (None, None, None)
        assert json.loads(json.dumps(found.entry.plain(), allow_nan=False))["value"] is None
    with pytest.raises(ValueError, match="shape"):
        kendall([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="finite"):
        spearman([1.0, math.inf], [1.0, 2.0])


@pytest.mark.parametrize(("n", "rounds"), [(20, 600), (200, 300)])
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_rank_correlations_cover(n: int, rounds: int, rho: float) -> None:
    generator = np.random.default_rng([n, round(10 * rho)])
    tau, rank_rho = 2 / math.pi * math.asin(rho), 6 / math.pi * math.asin(rho / 2)
    other_rho = 0.4
    hits = np.zeros(3)
    for _ in range(rounds):
        truth, first, second = generator.normal(size=(3, n))
        score = rho * truth + math.sqrt(1 - rho**2) * first
        other = other_rho * truth + math.sqrt(1 - other_rho**2) * second
        gain = tau - 2 / math.pi * math.asin(other_rho)
        hits += [
            covers(kendall(score, truth), tau),
            covers(spearman(score, truth), rank_rho),
            covers(kendall_gain(score, other, truth), gain),
        ]
    assert ((hits / rounds >= 0.92) & (hits / rounds <= 0.99)).all(), hits / rounds


def test_partial_kendall_covers() -> None:
    # x is independent of y and z, so that nothing is left to hold fixed
    generator = np.random.default_rng(11)
    found = [partial_kendall(x, y, y + z) for x, y, z in generator.normal(size=(600, 3, 20))]
    assert 0.92 <= np.mean([covers(estimate, 0.0) for estimate in found]) <= 0.99


# Ceiling and regret


def test_seed_ceiling_is_the_mean_over_the_pairs_of_seeds() -> None:
    generator = np.random.default_rng(6)
    table = generator.normal(size=(30, 1)) + 0.3 * generator.normal(size=(30, 3))
    found = seed_ceiling(table)
    wanted = np.mean([stats.kendalltau(a, b)[0] for a, b in combinations(table.T, 2)])
    assert found.value == pytest.approx(wanted)
    assert covers(found, wanted)
    assert found.n == 30
    two = seed_ceiling(table[:, :2])
    assert (two.low, two.high) == pytest.approx((kendall(*table.T[:2]).low, kendall(*table.T[:2]).high))


def test_seed_ceiling_leaves_out_what_is_missing() -> None:
    generator = np.random.default_rng(7)
    table = generator.normal(size=(20, 1)) + 0.3 * generator.normal(size=(20, 3))
    table[0, 1:] = np.nan  # one training only: in no pair
    table[1, 0] = np.nan
    wanted = np.mean(
        [stats.kendalltau(table[rows, a], table[rows, b])[0] for a, b, rows in ((0, 1, slice(2, None)),
         (0, 2, slice(2, None)), (1, 2, slice(1, None)))]
    )  # fmt: skip
    found = seed_ceiling(table)
    assert found.value == pytest.approx(wanted)
    assert found.n == 19
    assert math.isnan(seed_ceiling(table[:, :1]).value)
    with pytest.raises(ValueError, match="two dimensions"):
        seed_ceiling(table[:, 0])


def test_top_k_regret_takes_the_best_of_the_k_and_the_earlier_of_equals() -> None:
    truth = [0.70, 0.74, 0.72, 0.71]
    assert top_k_regret([4, 1, 3, 2], truth, 1) == pytest.approx(0.04)
    assert top_k_regret([4, 1, 3, 2], truth, 2) == pytest.approx(0.02)
    assert top_k_regret([4, 1, 3, 2], truth, 4) == 0
    assert top_k_regret([1, 1, 1, 1], truth, 1) == pytest.approx(0.04)
    assert top_k_regret([1, 1, 1, 1], truth, 2) == 0
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"1 to the number of networks, 4, but got {k}"):
            top_k_regret(truth, truth, k)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=7), st.data())
def test_random_regret_is_the_mean_over_all_draws(truth: Scores, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(truth)))
    wanted = np.mean([max(truth) - max(drawn) for drawn in combinations(truth, k)])
    assert random_top_k_regret(truth, k) == pytest.approx(wanted, abs=1e-9)


def test_random_regret_of_many() -> None:
    # of 1 .. n the best of k drawn is k (n + 1) / (k + 1) on average
    assert random_top_k_regret(np.arange(1, 6562), 5) == pytest.approx(6561 - 5 * 6562 / 6)


def test_estimates_are_json() -> None:
    found = paired_difference([0.71, 0.73, 0.72], [0.70, 0.71, 0.70]).entry.plain()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["excludes_zero"] is True
    assert found["low"] <= found["value"] <= found["high"]
