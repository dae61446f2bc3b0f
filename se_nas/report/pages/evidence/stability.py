"""Whether searches that differ by their seed alone find the same."""

from __future__ import annotations

from dataclasses import dataclass

from se_nas.records.models.evidence import StabilityPart
from se_nas.report.pages.evidence.words import (
    Shown,
    Table,
    cost_cells,
    cost_heads,
    p_words,
    shown_metrics,
    trainings_words,
)
from se_nas.report.plots import stability
from se_nas.report.plots.evidence import SIGNIFICANT
from se_nas.report.theme.words import ABSENT, format_percent


@dataclass(frozen=True, kw_only=True)
class Stability(Shown):
    """The values of `stability.html`."""

    lead: str
    answers: Table


def show_stability(found: StabilityPart) -> Stability:
    """What `stability.json` says."""
    metrics = shown_metrics(answer.costs for answer in found.answers)
    rows = [
        [answer.name.replace("_", " "), str(answer.seed), *cost_cells(answer.costs, metrics), trainings_words(answer)]
        for answer in found.answers
    ]
    return Stability(
        figure=stability.stability(found) if found.answers and found.blocks else None,
        lead=_lead(found),
        answers=Table(("answer", "seed", *cost_heads(metrics), "test accuracy"), rows, range(1, 3 + len(metrics))),
    )


def _lead(found: StabilityPart) -> str:
    count, distance, accuracy = len(found.answers), found.distance, found.accuracy
    lead = f"The same search, {count} time{'s' * (count != 1)}, from other seeds."
    if distance.value is not None:
        chance = ABSENT if distance.random is None else format_percent(distance.random, 0)
        lead += (
            f" Two of its answers differ in {format_percent(distance.value, 0)} of their choices, two random "
            f"networks within the budgets in {chance}."
        )
    between, within = accuracy.between_searches, accuracy.between_trainings
    if accuracy.mean is not None and between is not None and within is not None:
        p = "" if accuracy.p is None else f"p {p_words(accuracy.p)}"
        if between > 0 if accuracy.p is None else accuracy.p < SIGNIFICANT:
            noise = "; ".join(filter(None, ("standard deviation, the trainings' own noise taken out", p)))
            varies = f"this varies by {100 * between:.2f} points ({noise})"
        else:
            varies = f"what varies is not told apart from the noise of training{p and f' ({p})'}"
        lead += (
            f" Trained alone, the answers reach {format_percent(accuracy.mean, 2)} on average; from search to "
            f"search {varies}; from training to training of one answer it varies by {100 * within:.2f} points."
        )
    return lead
