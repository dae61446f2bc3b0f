"""How well the supernet ranks networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from se_nas.records.models.evidence import RankingPart, RankingSet
from se_nas.report.pages.evidence.words import Shown, Table, ends_words, tau_words
from se_nas.report.plots import ranking
from se_nas.report.plots.evidence import capital
from se_nas.report.plots.ranking import ranked_scores, score_words
from se_nas.report.plots.where_se_pays import excludes_zero
from se_nas.report.theme.words import ABSENT


@dataclass(frozen=True)
class Regret:
    """What one set of networks loses to its best by each score; `trainings` says what the best is judged by."""

    title: str
    table: Table
    trainings: str


@dataclass(frozen=True, kw_only=True)
class Ranking(Shown):
    """The values of `ranking.html`; `correlations` is None where no set has any."""

    sets: Sequence[str]
    correlations: Table | None
    regrets: Sequence[Regret]


def show_ranking(found: RankingPart) -> Ranking:
    """What `ranking.json` says."""
    sets = [one for one in found.sets if one.correlations]
    return Ranking(
        figure=ranking.ranking(sets) if sets else None,
        sets=[_set_words(one) for one in found.sets],
        correlations=_correlations(sets) if sets else None,
        regrets=[_regret(one) for one in sets if one.regret],
    )


def _set_words(one: RankingSet) -> str:
    name = capital(one.name)
    if not one.correlations:
        return f"{name}: {len(one.networks)} trained so far, too few to rank."
    supernet = one.correlations["supernet"].kendall
    if supernet.value is None:
        return f"{name}: no order, as the supernet or the trainings tell none of the networks apart."
    words = f"{name}: tau {tau_words(supernet)}"
    gain = one.gain_over_macs
    if gain is None or gain.value is None:
        return f"{words}."
    interval = f"95 % interval {ends_words(gain.low, gain.high, '{:+.2f}'.format)}"
    if not excludes_zero(gain.low, gain.high):
        return f"{words}, not significantly different from MACs alone (by {gain.value:+.2f}, {interval})."
    return f"{words}, {'more' if gain.value > 0 else 'less'} than MACs alone by {abs(gain.value):.2f} ({interval})."


def _correlations(sets: Sequence[RankingSet]) -> Table:
    """Kendall's and Spearman's correlation of each score with the trained accuracy, a pair of columns a set."""
    heads, columns = ["networks ranked by"], []
    for one in sets:
        taus = {score_words(name): tau_words(estimate) for name, estimate in ranked_scores(one)}
        beside = {
            "agreement of two trainings": one.seed_ceiling,
            "gain of the supernet over MACs": one.gain_over_macs,
            "gain of recalibrating the batch norms": one.gain_of_recalibration,
        }
        taus |= {words: tau_words(estimate) for words, estimate in beside.items() if estimate is not None}
        scores = (one.correlations or {}).items()
        columns += [taus, {score_words(name): tau_words(both.spearman) for name, both in scores}]
        heads += [f"{one.name} (n = {len(one.networks)}): Kendall's tau", "Spearman's rho"]
    named = dict.fromkeys(words for column in columns for words in column)
    rows = [[words, *(column.get(words, ABSENT) for column in columns)] for words in named]
    return Table(heads, rows, range(1, len(heads)))


def _regret(one: RankingSet) -> Regret:
    rows = [
        [
            f"the best {row.k}" if row.k > 1 else "the first",
            *(ABSENT if lost is None else f"{100 * lost:.2f}" for lost in (row.supernet, row.macs, row.random)),
        ]
        for row in one.regret or ()
    ]
    seeds = len(one.truth_seeds or ())
    return Regret(
        title=f"{capital(one.name)}: points lost to the best network",
        table=Table(("trained alone", "by the supernet", "by MACs", "at random"), rows, range(1, 4)),
        trainings=f"the mean of {seeds} trainings" if seeds > 1 else "one training of each",
    )
