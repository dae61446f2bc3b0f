"""What a network costs, as a certificate says it and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from se_nas.cost.budget import format_cost
from se_nas.cost.counts import attention_counts, block_counts, network_counts
from se_nas.records.models.certificate import BudgetEntry, CostEntry, CrossCheck, LatencyConditions
from se_nas.report.pages.rows import Rows, record_rows, spaced
from se_nas.report.plots.figure import metric_word
from se_nas.report.theme.words import ABSENT, format_exact, format_percent
from se_nas.space.specs import NetworkSpec


@dataclass(frozen=True)
class CostRow:
    """A budget or a cost in words."""

    metric: str
    unit: str
    value: str
    limit: str
    interval: str
    n: str
    how: str
    verdict: str


@dataclass(frozen=True)
class CostTable:
    """Each budget and cost of a certificate, and how it is known; `limited` where it may have had budgets."""

    rows: Sequence[CostRow]
    limited: bool


def cost_table(costs: Sequence[CostEntry], budgets: Sequence[BudgetEntry] | None) -> CostTable:
    """The budgets, then the costs that are of none."""
    bound = {(entry.metric, entry.how) for entry in budgets or ()}
    others = [entry for entry in costs if (entry.metric, entry.how) not in bound]
    return CostTable([_cost_row(entry) for entry in (*(budgets or ()), *others)], limited=budgets is not None)


def _cost_row(entry: CostEntry) -> CostRow:
    budget = entry if isinstance(entry, BudgetEntry) else None
    return CostRow(
        metric=metric_word(entry.metric),
        unit=entry.unit,
        value=format_exact(float(entry.value)),
        limit=format_exact(budget.limit) if budget else ABSENT,
        interval=f"{entry.ci95[0]:.4g} to {entry.ci95[1]:.4g}" if entry.ci95 else ABSENT,
        n=str(entry.n),
        how=entry.how,
        verdict=("✓ kept" if budget.holds else "✗ broken") if budget else ABSENT,
    )


def cost_checks(check: CrossCheck | None, conditions: LatencyConditions | None) -> list[tuple[str, Rows]]:
    """The cross-check of a certificate's counts and the conditions of its latency, each under its title."""
    parts = (("Cross-check", check), ("Conditions of the latency", conditions))
    return [(title, spaced(record_rows(record))) for title, record in parts]


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
