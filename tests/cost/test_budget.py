from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_nas.cost.budget import Budget, format_cost, parse_budget_options, parse_budgets
from se_nas.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("20M", 20e6),
        ("4.1M", 4_100_000.0),  # 4.1 * 1e6 is less
        ("310 k", 310e3),
        ("310K", 310e3),
        (" 1.5G ", 1.5e9),
        (3, 3.0),
        (2.5, 2.5),
        ("1e-3", 1e-3),
        ("1.2E+2k", 120e3),
        (".5", 0.5),
    ],
)
def test_limits_are_read_as_they_are_written(value: object, limit: float) -> None:
    assert parse_budgets({"macs": value}, "run.yaml") == (Budget("macs", limit),)


@given(st.integers(1, 10**7), st.sampled_from([("k", 3), ("M", 6), ("G", 9)]))
def test_a_suffix_loses_nothing(thousandths: int, suffix: tuple[str, int]) -> None:
    letter, power = suffix
    (budget,) = parse_budgets({"params": f"{thousandths // 1000}.{thousandths % 1000:03d}{letter}"}, "")
    assert budget.limit == thousandths * 10 ** (power - 3)


@pytest.mark.parametrize(
    "value",
    ["", "M", "-1", 0, "0M", "nan", float("inf"), "inf", True, None, [3], "1e999", "1e-999", "3 ms", "20MM", "1,5"],
)
def test_what_is_no_limit_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"budgets\.macs: a limit must be a number above 0") as error:
        parse_budgets({"macs": value}, "run.yaml")
    assert repr(value) in str(error.value)


def test_bytes_are_read_as_they_are_shown_and_are_a_unit_of_nothing_else() -> None:
    limits = {"weight_bytes": "1.5 MB", "peak_activation_bytes": 65536}
    assert [budget.limit for budget in parse_budgets(limits, "")] == [1.5e6, 65536]
    assert [str(b) for b in parse_budgets(limits, "")] == [
        "weight_bytes <= 1.5 MB",
        "peak_activation_bytes <= 65.54 kB",
    ]
    with pytest.raises(ConfigError, match=r"budgets\.macs: a limit must be a number above 0"):
        parse_budgets({"macs": "1.5 MB"}, "")


def test_all_faults_are_told_at_once_and_where() -> None:
    with pytest.raises(ConfigError) as error:
        parse_budgets({"flips": 3, "macs": "much", "params": 1}, "run.yaml")
    assert error.value.source == "run.yaml"
    assert [problem.split(":")[0] for problem in error.value.problems] == ["budgets.flips", "budgets.macs"]
    assert "macs, params, latency_ms" in error.value.problems[0]


def test_budgets_keep_their_order_and_none_is_none() -> None:
    assert [b.metric for b in parse_budgets({"latency_ms": 1, "macs": 2}, "")] == ["latency_ms", "macs"]
    assert parse_budgets({}, "") == ()


def test_command_line_words() -> None:
    found = parse_budget_options(["macs=12M", "latency_ms=2.5"], "--budget")
    assert found == (Budget("macs", 12e6), Budget("latency_ms", 2.5))
    with pytest.raises(ConfigError) as error:
        parse_budget_options(["macs", "params=1=2", "macs=1"], "--budget")
    assert len(error.value.problems) == 2
    assert "'params=1=2'" in error.value.problems[1]
    with pytest.raises(ConfigError, match=r"budgets\.macs"):
        parse_budget_options(["macs="], "--budget")
    with pytest.raises(ConfigError, match=r"^--budget: 'macs': must be given once, but is given twice$"):
        parse_budget_options(["macs=15M", "latency_ms=2.5", "macs=12M"], "--budget")


def test_a_limit_itself_is_kept() -> None:
    budget = Budget("macs", 10.0)
    assert [budget.holds(cost) for cost in (9.5, 10.0, 10.000001)] == [True, True, False]
    assert not budget.holds(float("nan"))


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("macs", 4_213_000.0, "4.213 M MACs"),
        ("macs", 5_910_016.0, "5.91 M MACs"),
        ("params", 310_000, "310 k parameters"),
        ("params", 794, "794 parameters"),
        ("macs", 1.5e9, "1.5 G MACs"),
        ("latency_ms", 1.9341, "1.93 ms"),
    ],
)
def test_costs_for_people(metric: str, value: float, text: str) -> None:
    assert format_cost(metric, value) == text
    assert str(Budget(metric, value)) == f"{metric} <= {text}"


@given(st.sampled_from(["macs", "params"]), st.integers(1, 10**11))
def test_a_count_rounded_up_is_a_limit_that_it_keeps(metric: str, value: int) -> None:
    shown = format_cost(metric, value, up=True).rpartition(" ")[0]
    (budget,) = parse_budgets({metric: shown}, "")
    assert budget.holds(value)
    assert budget.limit <= value * 1.0011


@given(st.floats(1e-3, 999))
def test_a_latency_rounded_up_is_a_limit_that_it_keeps(value: float) -> None:
    (budget,) = parse_budgets({"latency_ms": format_cost("latency_ms", value, up=True).split()[0]}, "")
    assert budget.holds(value)
    assert budget.limit <= value * 1.0101
