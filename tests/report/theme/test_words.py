from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from se_nas.errors import format_seconds
from se_nas.evidence.intervals import paired_interval, wilson_interval
from se_nas.report.theme.words import format_exact, format_percent, format_size


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


def test_the_paired_interval_is_that_of_the_literature() -> None:
    # approval of 1,600 voters asked twice, 150 and 86 of whom changed their minds: -0.04 with a standard error of
    # 0.0095 (Agresti, Categorical Data Analysis, section 10.1)
    low, high = paired_interval(150, 86, 1600)
    assert low == pytest.approx(0.04 - 1.96 * 0.0095, abs=3e-4)
    assert high == pytest.approx(0.04 + 1.96 * 0.0095, abs=3e-4)


def test_the_paired_interval_turns_with_its_sides_and_is_never_empty() -> None:
    low, high = paired_interval(30, 12, 500)
    assert paired_interval(12, 30, 500) == pytest.approx((-high, -low))
    assert low < 18 / 500 < high
    low, high = paired_interval(0, 0, 100)
    assert -0.03 < low < 0 < high < 0.03
    assert paired_interval(3, 0, 3)[1] == 1.0


def test_the_paired_interval_covers_what_it_promises() -> None:
    rng = np.random.default_rng(0)
    for worse, better in ((0.02, 0.01), (0.005, 0.005), (0.2, 0.05)):
        draws = rng.multinomial(800, [worse, better, 1 - worse - better], size=2000)
        ends = [paired_interval(int(w), int(b), 800) for w, b, _ in draws]
        assert np.mean([low <= worse - better <= high for low, high in ends]) > 0.93


@pytest.mark.parametrize("counts", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_pairs_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        paired_interval(*counts)
