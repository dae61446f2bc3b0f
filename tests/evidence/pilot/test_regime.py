"""Noise and spread of simulated trainings are found again, and their intervals cover as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from se_nas.evidence.pilot.regime import regime
from se_nas.records.models.evidence import EstimateEntry

#: Of ten networks three have five seeds, the others one.
PILOT = [5] * 3 + [1] * 7


def covers(found: EstimateEntry, true: float) -> bool:
    assert found.low is not None
    assert found.high is not None
    return found.low <= true <= found.high


@pytest.mark.parametrize(("seeds", "ratio"), [(PILOT, 0.7), (PILOT, 3.0), ([3] * 8, 1.5)])
def test_the_intervals_cover_what_was_simulated(seeds: list[int], ratio: float) -> None:
    rng, noise, times = np.random.default_rng(0), 0.004, 300
    hits = np.zeros(3)
    for _ in range(times):
        found = regime([0.7 + ratio * noise * rng.standard_normal() + noise * rng.standard_normal(n) for n in seeds])
        hits += covers(found.noise, noise), covers(found.spread, ratio * noise), covers(found.ratio, ratio)
    assert ((hits / times > 0.92) & (hits / times < 0.985)).all(), hits / times


def test_of_many_trainings_it_finds_noise_spread_and_ratio() -> None:
    rng = np.random.default_rng(0)
    found = regime([0.7 + 0.02 * rng.standard_normal() + 0.005 * rng.standard_normal(3) for _ in range(2000)])
    assert found.noise.value == pytest.approx(0.005, rel=0.03)
    assert found.spread.value == pytest.approx(0.02, rel=0.05)
    assert found.ratio.value == pytest.approx(4, rel=0.06)
    assert (found.networks, found.repeated, found.trainings, found.noise.n) == (2000, 2000, 6000, 4000)
    assert found.holds


def test_without_a_spread_the_ratio_is_zero_and_does_not_hold() -> None:
    found = regime([[0.50, 0.54], [0.54, 0.50], [0.52]])
    assert (found.spread.value, found.ratio.value, found.ratio.low) == (0, 0, 0)
    assert found.holds is False


@pytest.mark.parametrize("accuracies", [[], [[0.5], [0.6]], [[0.5, 0.6]]])
def test_what_was_not_measured_is_not_known(accuracies: list[list[float]]) -> None:
    found = regime(accuracies)
    assert (found.ratio.value, found.spread.value, found.holds) == (None, None, None)


def test_trainings_that_agree_have_the_noise_of_a_rounding() -> None:
    found = regime([[0.5, 0.5], [0.6, 0.6]], resolution=0.01)
    assert found.noise.value == pytest.approx(0.01 / math.sqrt(12))
    assert found.holds
    assert regime([[0.5, 0.5], [0.6, 0.6]]).holds is None
