from __future__ import annotations

import pytest
from scipy.stats import binomtest

from se_nas.evidence.quantities import format_exact, format_percent, format_seconds, format_size, wilson_interval


@pytest.mark.parametrize(("successes", "trials"), [(9342, 10_000), (0, 30), (30, 30), (1, 7), (280, 297)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_interval_agrees_with_scipy(successes: int, trials: int, confidence: float) -> None:
    known = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, trials, confidence) == pytest.approx((known.low, known.high), abs=1e-9)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 10), (11, 10), (0, 0)])
def test_wilson_interval_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="must hold"):
        wilson_interval(successes, trials)


def test_numbers_read_well() -> None:
    assert format_exact(19_514_880.0) == "19,514,880"
    assert format_exact(2.73321) == "2.7332"
    assert format_percent(0.9342, 2) == "93.42 %"
    assert format_percent(float("nan")) == "\u2013"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.5, "0.5 s"), (59.99, "60 s"), (200, "3 min 20 s"), (3599.7, "1 h 00 min"), (18_420, "5 h 07 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert format_seconds(seconds) == words


def test_huge_counts_become_powers_of_ten() -> None:
    assert format_size(6561) == "6,561"
    assert format_size(1_712_746_594_898_112_019_050_604_800) == "1.71 \u00d7 10\u00b2\u2077"
    assert format_size(10**400).endswith("10\u2074\u2070\u2070")
