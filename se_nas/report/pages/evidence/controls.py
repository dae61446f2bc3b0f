"""The answer of a search against controls at the same budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from se_nas.evidence.controls import ANSWER_PREFIX
from se_nas.records.fields import Metric
from se_nas.records.models.evidence import ComparisonEntry, ControlEntry, ControlsPart
from se_nas.report.pages.evidence.words import (
    RIVALS,
    Claim,
    Shown,
    Table,
    cost_cells,
    cost_heads,
    costs_of,
    mean_costs,
    p_words,
    shown_metrics,
    spread_words,
    trainings_words,
    verdict,
)
from se_nas.report.pages.rows import Rows, flat, plain, spaced
from se_nas.report.plots import controls
from se_nas.report.plots.evidence import SIGNIFICANT, is_significant, seed_differences, trained_accuracy
from se_nas.report.theme.words import ABSENT, format_percent

_FEW_SEARCHES = 3
"""From so many searches on the page says how answers differ, and no longer that there may be others."""

Networks = Mapping[str, ControlEntry]


@dataclass(frozen=True)
class Row:
    """A network's row of the table; `ours` is one of the search's answer, which has no verdict."""

    cells: Sequence[str]
    ours: bool = False
    verdict: str = ""


@dataclass(frozen=True, kw_only=True)
class Controls(Shown):
    """The values of `controls.html`; `in_short` is what the top of the page says."""

    in_short: Sequence[Claim]
    claims: Sequence[Claim]
    heads: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str]
    networks: Table
    recipe: Rows


def show_controls(found: ControlsPart, searches: int) -> Controls:
    """What `controls.json` says.

    Args:
        searches: from how many seeds the search was run.
    """
    networks = {network.name: network for network in found.networks}
    answers = [networks[name] for name in dict.fromkeys(one.ours for one in found.comparisons)]
    metrics = shown_metrics((costs_of(network.costs) for network in found.networks), found.budgets or ())
    rows = [_answer_row(network, metrics) for network in answers]
    rows += [_control_row(one, networks, metrics) for one in found.comparisons]
    return Controls(
        figure=controls.controls(found) if found.comparisons else None,
        in_short=_in_short(found, networks),
        claims=_claims(found, networks, searches),
        heads=("network", *cost_heads(metrics), "test accuracy", "Holm p", "the answer is"),
        rows=rows,
        notes=_notes(found, networks),
        networks=_every_network(found.networks, metrics),
        recipe=spaced([(key, plain(value)) for key, value in flat(found.recipe or {})]),
    )


# ---- what is claimed


def _claims(found: ControlsPart, networks: Networks, searches: int) -> list[Claim]:
    random = [one for one in found.comparisons if all(networks[name].kind == "random" for name in one.theirs)]
    claims = [_best_claim(one, networks) if one.selected else _random_claim(one) for one in random]
    if random and searches < _FEW_SEARCHES:
        claims.append(Claim("", "It is one search: another seed may give another answer."))
    seeds, count = len(found.seeds), len(found.comparisons)
    of = "all the comparisons" if found.plan is None else "all but the planned comparison"
    how = (
        f"{count} comparison{'s' * (count != 1)} in all, each over at most {seeds} seed{'s' * (seeds != 1)}, on "
        f"{found.test_images:,} test images; a difference counts where its interval leaves out 0 and its p-value, "
        f"by Holm's correction for {of}, is below {SIGNIFICANT}."
    )
    return [*_planned(found), *claims, Claim("", how)]


def _planned(found: ControlsPart) -> list[Claim]:
    """The comparison that was planned, how it came out, and the plan."""
    plan = found.plan
    if plan is None:
        return []
    primary, planned = plan.primary, plan.networks
    outcome = [
        verdict(one)
        + (f", p {p_words(one.p)}" if one.p is not None else "")
        + (f", with {one.networks} of them" if (one.networks or planned) < planned else "")
        for one in found.comparisons
        if one.primary
    ]
    short = "" if plan.power >= primary.power else f", where {primary.power:.2f} were asked for"
    found_by = (
        f"{len(plan.seeds)} seeds, which find {100 * primary.difference:g} points with power {plan.power:.2f}{short}"
    )
    networks = "" if primary.spread is None else f" and {100 * primary.spread:g} between networks"
    spread = f"{100 * primary.noise:g} between trainings{networks}"
    rest = (
        f" on {plan.written}, {plan.before}, and is tested alone: the answer against "
        f"{RIVALS[primary.against].format(planned)}, over {found_by} at a spread of {spread}. It came out: "
        f"{outcome[0] if outcome else 'not trained yet'}."
    )
    return [Claim("One comparison was planned", rest)]


def _in_short(found: ControlsPart, networks: Networks) -> list[Claim]:
    """What stands beside the claim: against the largest within the budgets without SE and with one SE everywhere.

    And against the mean of random networks, where the claim is another; without a claim that is what is said of it.
    """
    claims = []
    for one in found.comparisons:
        if one.value is None:
            continue  # of no training there is nothing to say in short
        theirs = [networks[name] for name in one.theirs]
        if all(network.kind == "random" for network in theirs):
            if found.plan is not None and not one.primary and not one.selected:
                claims.append(_random_claim(one))
        elif theirs[0].kind == "of_size" and not one.primary:
            claims.append(Claim("", f"Against {one.label}, with costs within 10 % of its own: {verdict(one)}."))
        elif all(network.kind == "baseline" and not network.name.startswith(ANSWER_PREFIX) for network in theirs):
            claims.append(Claim("", f"Against {one.label}: {verdict(one)}."))
    return claims


def _random_claim(comparison: ComparisonEntry) -> Claim:
    """The headline: of this answer, as one search says little about others."""
    count = len(comparison.theirs)
    of = f"{count} random network{'s' * (count != 1)}"
    words, average = verdict(comparison), "than the average random network of equal budgets"
    if comparison.value is None or not is_significant(comparison):
        strong = f"It is not shown that this answer is better {average}"
        return Claim(strong, f": against the mean of {of}, {words}.")
    word = "better" if comparison.value > 0 else "worse"
    rest = f", {words.removeprefix(f'{word} ')}, against the mean of {of}."
    return Claim(f"This answer is {word} {average}", rest)


def _best_claim(comparison: ComparisonEntry, networks: Networks) -> Claim:
    """Against what random search would hand back, and where the answer stands among the random networks."""
    seeds = [int(seed) for seed in comparison.by_seed or {}]
    mine = trained_accuracy(networks[comparison.ours], seeds)
    means = [trained_accuracy(networks[name], seeds) for name in comparison.theirs]
    ahead = sum(mean is not None and mine is not None and mean > mine for mean in means)
    words = (
        f"Against {comparison.label}, which random search would hand back: {verdict(comparison)}. By "
        f"mean accuracy {ahead or 'none'} of the {len(means)} random networks {'is' if ahead < 2 else 'are'} ahead of "
        "the answer."
    )
    return Claim("", words)


# ---- the comparisons


def _answer_row(network: ControlEntry, metrics: Sequence[Metric]) -> Row:
    cells = [network.label, *cost_cells(costs_of(network.costs), metrics), trainings_words(network), ABSENT]
    return Row(cells, ours=True)


def _control_row(comparison: ComparisonEntry, networks: Networks, metrics: Sequence[Metric]) -> Row:
    theirs = [networks[name] for name in comparison.theirs]
    if comparison.selected:
        ours = networks[comparison.ours].accuracies
        differences = zip(comparison.by_seed or {}, seed_differences(comparison), strict=True)
        pairs = ((ours.get(seed), difference) for seed, difference in differences)
        spread = spread_words([mine - less for mine, less in pairs if mine is not None])
        costs: Mapping[Metric, float] = {}
    elif len(theirs) == 1:
        spread, costs = trainings_words(theirs[0]), mean_costs(theirs)
    else:
        means = [mean for mean in map(trained_accuracy, theirs) if mean is not None]
        spread, costs = spread_words(means), mean_costs(theirs)
    return Row(
        [comparison.label, *cost_cells(costs, metrics), spread, _p_cell(comparison)], verdict=verdict(comparison)
    )


def _p_cell(comparison: ComparisonEntry) -> str:
    """Holm's p, or of the comparison that was planned its own."""
    return f"{p_words(comparison.p)} (planned)" if comparison.primary else p_words(comparison.p_holm)


def _notes(found: ControlsPart, networks: Networks) -> list[str]:
    methods = dict.fromkeys(one.method for one in found.comparisons if one.low is not None)
    notes = [
        "A difference is the accuracy of the answer minus that of the control, in points, paired by seed. An accuracy "
        "is the mean ± standard deviation of n trainings, or for several networks of the n networks' means.",
        "Intervals cover other seeds of training, on these test images and for this one answer.",
        f"How: {'; '.join(methods) or ABSENT}.",
    ]
    if found.budgets and any(network.kind == "random" for network in networks.values()):
        notes.append(
            "Random networks keep every budget; how much of each they use stands above, beside the answer's. Against "
            "the mean of several, the interval is over other such networks too."
        )
    return notes + _left_out(found.comparisons, networks)


def _left_out(comparisons: Sequence[ComparisonEntry], networks: Networks) -> list[str]:
    """Which random networks the comparison with them does not count, and why."""
    words = []
    for one in comparisons[:1]:
        out = [networks[name] for name in one.left_out or ()]
        of = len(one.theirs) + len(out)
        diverged = [network for network in out if network.failed]
        waiting = [network for network in out if not network.failed]
        for some, why in ((diverged, "diverged and"), (waiting, "not trained yet with every seed,")):
            if some:
                labels = ", ".join(network.label for network in some)
                verb = "is" if len(some) == 1 else "are"
                words.append(f"{len(some)} of {of} random networks {why} {verb} left out: {labels}.")
    return words


def _every_network(networks: Sequence[ControlEntry], metrics: Sequence[Metric]) -> Table:
    rows = [
        [
            network.label,
            *cost_cells(costs_of(network.costs), metrics),
            f"{sum(option not in (None, 'none') for option in network.se)} of {len(network.se)}"
            if network.se
            else ABSENT,
            ABSENT if network.supernet_accuracy is None else format_percent(network.supernet_accuracy, 2),
            trainings_words(network),
        ]
        for network in networks
    ]
    heads = ("network", *cost_heads(metrics), "blocks with SE", "with the supernet's weights", "test accuracy")
    return Table(heads, rows, range(1, len(heads)))
