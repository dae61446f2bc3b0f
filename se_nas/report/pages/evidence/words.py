"""Differences, correlations, costs and trainings in words, as several parts of the evidence show them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from se_nas.cost.budget import format_cost
from se_nas.cost.metrics import METRICS, is_aside
from se_nas.records.fields import Metric
from se_nas.records.models.evidence import ComparisonEntry, ControlEntry, EstimateEntry, NetworkCosts, SearchAnswerEntry
from se_nas.records.models.plan import Rival
from se_nas.report.plots.evidence import block_words, is_significant, points
from se_nas.report.plots.figure import Plot, metric_title
from se_nas.report.theme.words import ABSENT


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a part of the evidence shows; `figure` is None where there is nothing to draw yet."""

    figure: Figure | Plot | None = None


@dataclass(frozen=True)
class Table:
    """A table of words; `numbers` are the columns aligned as numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int]


@dataclass(frozen=True)
class Claim:
    """A sentence whose beginning is what a reader should take away; `strong` may be empty."""

    strong: str
    rest: str


def ends_words(low: float | None, high: float | None, shown: Callable[[float], str]) -> str:
    """Both ends of an interval."""
    return ABSENT if low is None or high is None else f"{shown(low)} to {shown(high)}"


def tau_words(estimate: EstimateEntry | None) -> str:
    """A correlation with its interval: 0.61 (0.40 to 0.76)."""
    if estimate is None or estimate.value is None:
        return ABSENT
    interval = "" if estimate.low is None else f" ({ends_words(estimate.low, estimate.high, '{:.2f}'.format)})"
    return f"{estimate.value:.2f}{interval}"


#: What a claim may be against, of so many random networks.
RIVALS: Mapping[Rival, str] = {
    "random_mean": "the mean of {} random networks at the same budgets",
    "random_best": "the best by training of {} random networks at the same budgets",
    "of_size_mean": "the mean of {} random networks of its size",
}


def p_words(value: float | None) -> str:
    """A p-value, the smallest ones as a bound."""
    return ABSENT if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def verdict(comparison: ComparisonEntry) -> str:
    """A difference in plain words: better, worse, or no significant difference, with the interval that says so."""
    if comparison.value is None:
        return "no pair of trainings yet"
    value, low, high = comparison.value, comparison.low, comparison.high
    if low is None or high is None:
        return f"{points(value)} points; too few pairs for an interval (n = {comparison.n})"
    if is_significant(comparison):
        word, ends = ("better", (low, high)) if value > 0 else ("worse", (-high, -low))
        interval = ends_words(*ends, lambda share: f"{100 * share:.2f}")
        return f"{word} by {100 * abs(value):.2f} points (95 % interval {interval})"
    caveat, p = "", comparison.p_holm
    if comparison.excludes_zero and p is not None:
        caveat = f", but so many comparisons find that by chance: Holm's p is {p:.2f}"
    interval = ends_words(low, high, points)
    return f"no significant difference ({points(value)} points, 95 % interval {interval}{caveat})"


def costs_of(costs: NetworkCosts) -> dict[Metric, float]:
    """The costs of a network that are known."""
    return {metric: value for metric in METRICS.listed(costs.plain()) if (value := costs.of(metric)) is not None}


def shown_metrics(costs: Iterable[Iterable[Metric]], budgets: Iterable[Metric] = ()) -> list[Metric]:
    """Those of the columns of costs of some networks, each with its metrics: none that is aside, but for budgets."""
    known, asked = METRICS.listed(metric for one in costs for metric in one), set(budgets)
    return [metric for metric in known if not is_aside(metric) or metric in asked]


def cost_heads(metrics: Sequence[Metric]) -> list[str]:
    """The heads of the columns of costs, one a metric."""
    return [metric_title(metric) for metric in metrics]


def cost_cells(costs: Mapping[Metric, float], metrics: Sequence[Metric]) -> list[str]:
    """The cells under `cost_heads`."""
    return [
        format_cost(metric, float(costs[metric])).removesuffix(f" {METRICS[metric].unit}")
        if metric in costs
        else ABSENT
        for metric in metrics
    ]


def mean_costs(networks: Sequence[ControlEntry]) -> dict[Metric, float]:
    """The means of those costs that are known of every network."""
    known = [costs_of(network.costs) for network in networks]
    return {
        metric: statistics.fmean(costs[metric] for costs in known)
        for metric in METRICS.listed(metric for one in known for metric in one)
        if all(metric in costs for costs in known)
    }


def trainings_words(network: ControlEntry | SearchAnswerEntry) -> str:
    """Mean and standard deviation of the trainings of a network, and how many diverged."""
    values = [value for value in network.accuracies.values() if value is not None]
    failed = len(network.failed or {}) if isinstance(network, ControlEntry) else 0
    if not values:
        return f"{failed} diverged" if failed else "not trained yet"
    return spread_words(values) + (f", {failed} diverged" if failed else "")


def spread_words(accuracies: Sequence[float]) -> str:
    """Mean and standard deviation."""
    if not accuracies:
        return ABSENT
    deviation = f" ± {100 * statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    return f"{100 * statistics.fmean(accuracies):.2f}{deviation} % (n = {len(accuracies)})"


def block_cell(name: str) -> str:
    """A block's name on one line: stage 1 · block 2."""
    return " · ".join(filter(None, block_words(name))).replace(" ", "\N{NO-BREAK SPACE}")
