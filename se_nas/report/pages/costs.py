"""What a network costs, as a certificate says it and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from se_nas.cost.budget import format_cost
from se_nas.cost.counts import attention_counts, block_counts, network_counts
from se_nas.cost.metrics import METRICS
from se_nas.errors import counted
from se_nas.records.models.certificate import BudgetEntry, CostEntry, CrossCheck, LatencyConditions
from se_nas.report.pages.rows import Rows, record_rows, spaced
from se_nas.report.plots.figure import metric_word, sentence_word
from se_nas.report.theme.words import ABSENT, format_exact, format_percent
from se_nas.space.specs import NetworkSpec


@dataclass(frozen=True)
class CostRow:
    """A metric in words: each value that is known of it and how, the one with the budget first; and the budget."""

    metric: str
    unit: str
    values: Sequence[tuple[str, str]]
    limit: str
    verdict: str


@dataclass(frozen=True)
class CostRows:
    """A row a metric, with its budget where it has one; `limited` where the network may have had budgets."""

    rows: Sequence[CostRow]
    limited: bool


def cost_table(costs: Sequence[CostEntry], budgets: Sequence[BudgetEntry] | None) -> CostRows:
    """The metrics with budgets, then the others."""
    bound = {entry.metric: entry for entry in budgets or ()}
    metrics = dict.fromkeys([*bound, *(entry.metric for entry in costs)])
    rows = []
    for metric in metrics:
        budget = bound.get(metric)
        others = [e for e in costs if e.metric == metric and (budget is None or e.how != budget.how)]
        rows.append(_cost_row([*([budget] if budget else []), *_surest_first(others)], budget))
    return CostRows(rows, limited=budgets is not None)


def _surest_first(entries: Sequence[CostEntry]) -> list[CostEntry]:
    return sorted(entries, key=lambda entry: entry.how == "predicted")


def _cost_row(entries: Sequence[CostEntry], budget: BudgetEntry | None) -> CostRow:
    return CostRow(
        metric=metric_word(entries[0].metric),
        unit=entries[0].unit,
        values=[(_value_words(entry), entry.how) for entry in entries],
        limit=format_exact(budget.limit) if budget else ABSENT,
        verdict=("✓ kept" if budget.holds else "✗ broken") if budget else ABSENT,
    )


def _value_words(entry: CostEntry) -> str:
    """A value with its 95 % interval and of how many timings it is the median: 1.23 (1.20 to 1.31, n = 30)."""
    known = [f"{entry.ci95[0]:.4g} to {entry.ci95[1]:.4g}"] if entry.ci95 else []
    known += [f"n = {entry.n}"] if entry.n > 1 else []
    known += [f"{counted(entry.predicted_blocks, 'block')} not timed"] if entry.predicted_blocks else []
    return format_exact(float(entry.value)) + (f" ({', '.join(known)})" if known else "")


def cost_checks(check: CrossCheck | None, conditions: Mapping[str, LatencyConditions] | None) -> list[tuple[str, Rows]]:
    """The cross-check of a certificate's counts and the conditions of each latency, each under its title."""
    return [("Cross-check", spaced(record_rows(check))), *conditions_of_each(conditions or {})]


def conditions_of_each(conditions: Mapping[str, LatencyConditions]) -> list[tuple[str, Rows]]:
    """The conditions of each latency under their title."""
    return [
        (f"Conditions of the {sentence_word(metric)}", spaced(record_rows(found)))
        for metric, found in conditions.items()
    ]


def named_cost(metric: str, value: float) -> str:
    """A cost with its unit in a sentence of several, with what it is of where others have that unit too."""
    noun = METRICS[metric].noun if metric in METRICS else ""
    return f"{cost(metric, value)} {noun}".rstrip()


def cost(metric: str, value: float) -> str:
    """A cost with its unit."""
    return format_cost(metric, float(value))


def architecture_words(network: NetworkSpec) -> str:
    """What a drawing of a network does not show."""
    blocks = network.blocks
    with_se = [block for block in blocks if block.se]
    whole = network_counts(network)
    se = [attention_counts(block) for block in with_se]
    words = (
        f"{len(blocks)} blocks, {len(with_se)} of them with Squeeze-and-Excitation. SE takes "
        f"{format_percent(sum(c.macs for c in se) / whole.macs, 2)} of the MACs and "
        f"{format_percent(sum(c.params for c in se) / whole.params)} of the parameters."
    )
    heaviest = max(range(len(blocks)), key=lambda i: block_counts(blocks[i]).macs)
    share = format_percent(block_counts(blocks[heaviest]).macs / whole.macs)
    return f"{words} Block {heaviest + 1} costs the most, {share} of the MACs. Point at a block for its figures."
