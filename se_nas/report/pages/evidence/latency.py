"""The latency table against networks that were measured after the search."""

from __future__ import annotations

from dataclasses import dataclass

from se_nas.records.models.evidence import LatencyPart
from se_nas.report.pages.evidence.words import Shown, Table, tau_words
from se_nas.report.pages.rows import Rows, flat, plain, spaced
from se_nas.report.plots import latency
from se_nas.report.plots.evidence import capital
from se_nas.report.theme.words import ABSENT, format_percent

_HEADS = ("networks", "n", "mean absolute error", "bias", "within 5 %", "within 10 %", "Spearman's rho")


@dataclass(frozen=True, kw_only=True)
class LatencyCheck(Shown):
    """The values of `latency_check.html`."""

    sets: Table
    conditions: Rows


def show_latency(found: LatencyPart) -> LatencyCheck:
    """What `latency_check.json` says."""
    rows = [
        [
            capital(one.name),
            str(len(one.networks)),
            *(
                ABSENT if share is None else format_percent(share)
                for share in (one.mape, one.bias, one.within_5, one.within_10)
            ),
            tau_words(one.spearman),
        ]
        for one in found.sets
    ]
    return LatencyCheck(
        figure=latency.latency_check(found) if any(one.networks for one in found.sets) else None,
        sets=Table(_HEADS, rows, range(1, 7)),
        conditions=spaced([(key, plain(value)) for key, value in flat(found.conditions.plain())]),
    )
