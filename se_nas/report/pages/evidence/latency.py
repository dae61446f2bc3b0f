"""The latency tables against networks that were measured after the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from se_nas.cost.metrics import device_of
from se_nas.records.models.evidence import LatencyPart
from se_nas.report.pages.costs import conditions_of_each
from se_nas.report.pages.evidence.words import Shown, Table, tau_words
from se_nas.report.pages.rows import Rows
from se_nas.report.plots import latency
from se_nas.report.plots.evidence import capital
from se_nas.report.theme.words import ABSENT, format_percent

_HEADS = ("networks", "n", "mean absolute error", "bias", "within 5 %", "within 10 %", "Spearman's rho")


@dataclass(frozen=True, kw_only=True)
class ShownLatency(Shown):
    """The values of `latency_check.html`; the conditions stand each under what they are of."""

    sets: Table
    conditions: Sequence[tuple[str, Rows]]


def show_latency(found: LatencyPart) -> ShownLatency:
    """What `latency_check.json` says."""
    several = len(found.devices) > 1
    rows = [
        [
            *([device_of(metric) or ""] if several else []),
            capital(one.name),
            str(len(one.networks)),
            *(
                ABSENT if share is None else format_percent(share)
                for share in (one.mape, one.bias, one.within_5, one.within_10)
            ),
            tau_words(one.spearman),
        ]
        for metric, check in found.devices.items()
        for one in check.sets
    ]
    return ShownLatency(
        figure=latency.latency_check(found) if any(c.sets for c in found.devices.values()) else None,
        sets=Table((*(["device"] if several else []), *_HEADS), rows, range(1 + several, 7 + several)),
        conditions=conditions_of_each({metric: check.conditions for metric, check in found.devices.items()}),
    )
