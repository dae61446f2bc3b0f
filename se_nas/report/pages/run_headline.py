"""The top of a run's page: how accurate its network is, which budgets it keeps, and the facts of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from se_nas.cost.metrics import is_aside
from se_nas.errors import format_seconds
from se_nas.evidence.intervals import accuracy_interval
from se_nas.records.measure import Measure
from se_nas.records.models.certificate import BudgetEntry
from se_nas.report.pages.costs import cost, named_cost
from se_nas.report.pages.evidence.words import Claim
from se_nas.report.pages.rows import Rows
from se_nas.report.pages.run_reading import RunFiles
from se_nas.report.theme.words import ABSENT, format_percent, format_size
from se_nas.search.black_box.evaluators.registry import EVALUATORS
from se_nas.space.size import read_size


@dataclass(frozen=True)
class Accuracy:
    """The page's one big number, in per cent where `unit` says so, and what it is."""

    figure: str
    unit: str
    words: str


@dataclass(frozen=True)
class BudgetBar:
    """A budget and how far the network fills it; `width` is that of its bar in per cent."""

    cost: str
    limit: str
    how: str
    share: str
    width: str
    holds: bool


@dataclass(frozen=True)
class Verdict:
    """What the run came to, in words: of the budgets, the accuracy, and the comparisons; `kept` of every budget."""

    kept: bool
    budgets: Claim
    accuracy: str
    compared: Sequence[Claim]


@dataclass(frozen=True)
class Headline:
    """The top of the page."""

    eyebrow: str
    verdict: Verdict
    accuracy: Accuracy
    budgets: Sequence[BudgetBar]
    facts: Rows


def headline(run: RunFiles, compared: Sequence[Claim]) -> Headline:
    """The top of the page of a run.

    Args:
        compared: how its answer came out against others; none where it was compared with nothing.
    """
    result = run.result
    return Headline(
        eyebrow=f"se_nas · {result.data.name} · space {result.space.name} · seed {result.seed}",
        verdict=_verdict(run, compared),
        accuracy=_accuracy(run),
        budgets=[_budget(entry) for entry in run.certificate.budgets],
        facts=_facts(run),
    )


def _verdict(run: RunFiles, compared: Sequence[Claim]) -> Verdict:
    budgets = run.certificate.budgets
    return Verdict(all(entry.holds for entry in budgets), _budget_words(budgets), _accuracy_words(run), compared)


def _budget_words(budgets: Sequence[BudgetEntry]) -> Claim:
    """How many budgets are kept, and each value against its bound, the broken ones first."""
    if not budgets:
        return Claim("No budget was set", ".")
    broken = [entry for entry in budgets if not entry.holds]
    every = "The budget is" if len(budgets) == 1 else f"All {len(budgets)} budgets are"
    strong = f"{every} kept" if not broken else f"{len(broken)} of {len(budgets)} budgets broken"
    ordered = [*broken, *(entry for entry in budgets if entry.holds)]
    said = [
        f"{named_cost(entry.metric, entry.value)} of at most {cost(entry.metric, entry.limit)} ({entry.how}"
        f"{'' if entry.holds else ', broken'})"
        for entry in ordered
    ]
    return Claim(strong, f": {', '.join(said)}.")


def _accuracy_words(run: RunFiles) -> str:
    retrain, measured = run.result.retrain, _validation_accuracy(run)
    if retrain is not None:
        images = retrain.test_images
        interval = accuracy_interval(retrain.test_accuracy, images)
        share = format_percent(retrain.test_accuracy, 2)
        return f"Trained from scratch it gets {share} of {images:,} test images right (95 % interval {interval})."
    if measured is None:
        return "Its accuracy is not known: it was not trained."
    measure = _measure(run)
    return (
        f"It has a validation {measure.name} of {measure.show(measured)}, {measure.source}; it was not trained itself."
    )


def _accuracy(run: RunFiles) -> Accuracy:
    retrain, search = run.result.retrain, run.result.search
    if retrain is not None:
        images = retrain.test_images
        words = (
            f"test accuracy after retraining from scratch, on {images:,} images; 95 % interval "
            f"{accuracy_interval(retrain.test_accuracy, images)} "
            "(Wilson; from the draw of these images alone, for this one training)"
        )
        return Accuracy(f"{100 * retrain.test_accuracy:.2f}", "%", words)
    measured = _validation_accuracy(run)
    if measured is None:
        return Accuracy(ABSENT, "", "no accuracy was measured in this run")
    images = run.result.data.parts.get("validation", 0)
    measure = _measure(run)
    words = f"validation {measure.name} {measure.source}; not retrained, not tested"
    if images and measure.on_images:
        words += f"; {images:,} images, 95 % interval {accuracy_interval(measured, images)} (Wilson)"
        judged = run.study.evaluations if run.study else search.validation_accuracies
        if judged and len(judged) > 1:
            words += "; picked by this very accuracy, so it reads somewhat high"
    return (
        Accuracy(f"{100 * measured:.2f}", "%", words) if measure.share else Accuracy(measure.show(measured), "", words)
    )


def _validation_accuracy(run: RunFiles) -> float | None:
    """Of the chosen network, before any retraining."""
    measured = run.result.search.validation_accuracy
    if measured is None and run.study is not None:
        found = [entry for entry in run.study.evaluations if entry.complete and entry.architecture == run.study.chosen]
        worth = found[0].accuracy if found else None
        measured = None if worth is None else run.study.measure.worth(worth)
    return measured


def _measure(run: RunFiles) -> Measure:
    """What the search measured of an architecture; a run of before it was written down has an evaluator at most."""
    search = run.result.search
    return search.measure or EVALUATORS[search.evaluator or "supernet"].measure


def _budget(entry: BudgetEntry) -> BudgetBar:
    share = float(entry.value) / entry.limit
    return BudgetBar(
        cost=named_cost(entry.metric, entry.value),
        limit=cost(entry.metric, entry.limit),
        how=entry.how,
        share=format_percent(share),
        width=f"{100 * min(share, 1):.1f}",
        holds=entry.holds,
    )


def resolution_rows(run: RunFiles) -> Rows:
    """Which resolution the network has where there were several, and how those did whose best was looked at."""
    if "resolution" not in run.choices:
        return []
    offered = ", ".join(map(str, run.choices["resolution"]))
    found: Rows = [(f"resolution, of {offered}", f"{run.architecture.network.resolution} pixels")]
    looked = [row for row in run.search if row.accuracy_at]
    if looked:
        row = max(looked, key=lambda row: row.validation_accuracy or 0.0) if run.result.search.stopped else looked[-1]
        told = ", ".join(f"{side}: {format_percent(share, 2)}" for side, share in (row.accuracy_at or {}).items())
        found.append(("validation of the best at each", told))
    return found


def _facts(run: RunFiles) -> Rows:
    search, retrain = run.result.search, run.result.retrain
    blocks = run.architecture.network.blocks
    limited = {budget.metric for budget in run.certificate.budgets}
    facts = [
        *(("ended early by", part.words) for part in search.stopped or ()),
        *resolution_rows(run),
        ("blocks with SE", f"{sum(block.se is not None for block in blocks)} of {len(blocks)}"),
        *(
            (entry.how, named_cost(entry.metric, entry.value))
            for entry in run.certificate.costs
            if entry.metric not in limited and not is_aside(entry.metric)
        ),
        ("networks in the space", format_size(read_size(run.result.space.size))),
        *((("supernet started from", source.words()),) if (source := run.certificate.started_from) else ()),
        (f"{search.strategy} search", format_seconds(search.seconds)),
    ]
    if retrain is not None:
        facts.append(("retraining", format_seconds(retrain.seconds)))
        if retrain.ema_test_accuracy is not None:
            facts.append(("with averaged weights", format_percent(retrain.ema_test_accuracy, 2)))
        validation = _validation_accuracy(run)
        if validation is not None:
            measure = _measure(run)
            facts.append(
                (f"{'validation' if measure.share else measure.name}, {measure.source}", measure.show(validation))
            )
    return facts
