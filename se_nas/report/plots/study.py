"""The plots of a black-box search, from its evaluations: fronts, progress, importance of choices, training curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from se_nas.cost.budget import format_cost
from se_nas.cost.metrics import METRICS
from se_nas.records.measure import ACCURACY, Measure
from se_nas.report.plots.figure import (
    PANEL,
    TICK_STEPS,
    Plot,
    drawn,
    drawn_limit,
    limited_title,
    panel,
    percent_tick,
    say_along,
    say_on_hover,
    tick,
)
from se_nas.report.plots.probabilities import in_use, part_words, place_words
from se_nas.report.theme.palette import RAMP_STEPS as SHADES
from se_nas.report.theme.palette import light, rank_tone
from se_nas.search.black_box.evaluation import Evaluation
from se_nas.search.black_box.pareto import front_in, front_of, hypervolume_over, objective_points
from se_nas.space.architecture import Architecture
from se_nas.space.choice import SE_PARTS, Place

SHOWN_CHOICES = 20
"""Choices whose importance is drawn one by one."""

_HALO: dict[str, Any] = {"markeredgecolor": light("paper"), "markeredgewidth": 0.8, "zorder": 6}
_BUDGET_DASHES = (0, (4, 3))


def _worth_tick(measure: Measure) -> FuncFormatter:
    """The value of a worth at a tick of an axis, on which what is better is higher up."""
    if measure.share and measure.raised:
        return FuncFormatter(percent_tick)
    return FuncFormatter(lambda worth, _=None: measure.show(measure.worth(worth)))


def _accuracy(entry: Evaluation) -> float:
    """Of a complete evaluation."""
    return float(entry.accuracy or 0.0)


def evaluated(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations that ended and were not answered by an earlier one, in their order."""
    return [entry for entry in evaluations if entry.same_as is None and entry.state != "running"]


# ---- accuracy against cost


@drawn
def pareto_fronts(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[str],
    limits: Mapping[str, float],
    chosen: Architecture | None,
    measure: Measure = ACCURACY,
) -> Plot:
    """Accuracy, or what else was measured, against each cost that was an objective or has a budget, one panel each.

    Complete evaluations are dots, the later the stronger, or rings where a budget is broken; the line is the best
    accuracy that a feasible one has up to each cost. Each says its number where it is pointed at, and one of the front
    its picks.

    Args:
        evaluations: at least one complete.
        objectives: "accuracy" and metrics.
        limits: budgets by metric.
        chosen: is marked in every panel, if it was evaluated.
    """
    entries = [entry for entry in evaluated(evaluations) if entry.complete]
    marked = [entry for entry in entries if entry.architecture == chosen]
    metrics = panel_metrics(objectives, limits)
    front = front_in(entries, objectives, list(limits))
    tips = _evaluation_words(entries, front, measure)
    panels = []
    for metric in metrics:
        figure, axes = panel(3.3)
        _dots(axes, entries, metric, tips)
        limit = limits.get(metric)
        shown = drawn_limit(limit, [entry.costs[metric] for entry in entries])
        _front_line(axes, front_of(entries, ("accuracy", metric)), metric, shown)
        _of_front(axes, front, metric, tips)
        for entry in marked:
            (point,) = axes.plot(
                [entry.costs[metric]], [_accuracy(entry)], "o", color=light("orange"), markersize=8.5, **_HALO
            )
            say_on_hover(point, [f"chosen: {tips[entry.number]}"])
        axes.set_xlabel(limited_title(metric, limit, shown))
        axes.set_title(measure.name)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
        axes.xaxis.set_major_formatter(FuncFormatter(tick))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
        axes.yaxis.set_major_formatter(_worth_tick(measure))
        axes.grid(True, axis="both")
        panels.append(figure)
    return Plot(panels, _front_keys(entries, bool(marked), bool(front)))


def _evaluation_words(entries: Sequence[Evaluation], front: Sequence[Evaluation], measure: Measure) -> dict[int, str]:
    """What each evaluation says of itself, by number: its values, and of one of the front its picks."""
    on_front = {entry.number for entry in front}
    found = {}
    for entry in entries:
        costs = ", ".join(format_cost(metric, cost) for metric, cost in entry.costs.items())
        words = f"number {entry.number}: {measure.show(measure.worth(_accuracy(entry)))}, {costs}"
        picks = f"; {picks_words(entry.architecture)}" if entry.number in on_front else ""
        found[entry.number] = f"{words}{picks}"
    return found


def picks_words(architecture: Architecture) -> str:
    """The picks of an architecture, those of a block together: stage 1: depth 2; stage 1 · block 1: kernel 3, SE r4.

    Of blocks that are not in the network nothing is said.
    """
    picks = architecture.as_dict()
    places: dict[str, list[str]] = {}
    for name, option in picks.items():
        place = Place.named(name)
        if in_use(place, picks):
            places.setdefault(place_words(place), []).append(f"{_part(name)} {option}")
    return "; ".join(f"{words}: {', '.join(parts)}" for words, parts in places.items())


def panel_metrics(objectives: Sequence[str], limits: Mapping[str, float]) -> list[str]:
    """The costs that a search looked at, objectives first."""
    return [metric for metric in dict.fromkeys([*objectives, *limits]) if metric in METRICS]


def _dots(axes: Axes, entries: Sequence[Evaluation], metric: str, tips: Mapping[int, str]) -> None:
    size = 4.6 if len(entries) <= 400 else 3.2
    broken = [entry for entry in entries if not entry.feasible]
    (rings,) = axes.plot(
        [entry.costs[metric] for entry in broken], [_accuracy(entry) for entry in broken], "o", markersize=0.87 * size,
        markerfacecolor="none", markeredgecolor=light("muted"), markeredgewidth=0.7, alpha=0.65, zorder=2,
    )  # fmt: skip
    say_on_hover(rings, [tips[entry.number] for entry in broken])
    shades: dict[str, list[Evaluation]] = {}
    for rank, entry in enumerate(entries):
        if entry.feasible:
            shades.setdefault(_shade(rank, len(entries)), []).append(entry)
    for tone, some in shades.items():
        (dots,) = axes.plot(
            [entry.costs[metric] for entry in some], [_accuracy(entry) for entry in some], "o", markersize=size,
            color=light(tone), markeredgecolor=light("paper"), markeredgewidth=0.4, zorder=3,
        )  # fmt: skip
        say_on_hover(dots, [tips[entry.number] for entry in some])


def _of_front(axes: Axes, front: Sequence[Evaluation], metric: str, tips: Mapping[int, str]) -> None:
    """A ring around each evaluation of the front, large enough to be pointed at."""
    (rings,) = axes.plot(
        [entry.costs[metric] for entry in front], [_accuracy(entry) for entry in front], "o", markersize=8,
        markerfacecolor=(0, 0, 0, 0), markeredgecolor=light("blue"), markeredgewidth=1.1, zorder=5,
    )  # fmt: skip
    say_on_hover(rings, [tips[entry.number] for entry in front])


def _shade(rank: int, count: int) -> str:
    """Name of the colour of evaluation `rank` of `count`, without the palest, which cannot be seen."""
    palest = SHADES // 4
    return rank_tone(palest + round((SHADES - palest) * rank / max(count - 1, 1)), SHADES + 1)


def _front_line(axes: Axes, front: Sequence[Evaluation], metric: str, limit: float | None) -> None:
    if front:
        rising = sorted(front, key=lambda entry: entry.costs[metric])
        x = [entry.costs[metric] for entry in rising]
        y = [_accuracy(entry) for entry in rising]
        end = limit if limit is not None else axes.get_xlim()[1]
        axes.plot(
            [*x, max(end, x[-1])], [*y, y[-1]], drawstyle="steps-post", color=light("blue"), linewidth=1.4, zorder=4,
        )  # fmt: skip
    if limit is not None:
        axes.axvline(limit, color=light("ink"), linewidth=1.1, linestyle=_BUDGET_DASHES, zorder=1)


def _front_keys(entries: Sequence[Evaluation], chosen: bool, front: bool) -> list[Artist]:
    """What is in the panels."""

    def dot(words: str, tone: str, size: float = 5.0, hollow: bool = False) -> Line2D:
        face = "none" if hollow else light(tone)
        return Line2D(
            [], [], marker="o", linestyle="", markeredgecolor=light(tone), markerfacecolor=face, markersize=size,
            label=words,
        )  # fmt: skip

    keys: list[Artist] = []
    feasible = sum(entry.feasible for entry in entries)
    bound = any(entry.excess for entry in entries)
    if feasible > 1:
        keys += [dot("keeps every budget, early" if bound else "early", _shade(0, 2)), dot("late", _shade(1, 2))]
    if feasible < len(entries):
        keys.append(dot("breaks a budget", "muted", 4.5, hollow=True))
    if feasible:
        within = "within the budgets " if bound else ""
        keys.append(Line2D([], [], color=light("blue"), label=f"best {within}up to this cost"))
    if front:
        keys.append(dot("of the front: point at it for its number and picks", "blue", 7.0, hollow=True))
    if chosen:
        keys.append(dot("chosen network", "orange", 7.5))
    return keys


# ---- progress


@drawn
def progress(evaluations: Sequence[Evaluation], shares: np.ndarray | None, measure: Measure = ACCURACY) -> Plot:
    """Best feasible accuracy so far over the evaluations and, where there is one, the hypervolume of the front.

    Args:
        evaluations: at least one that ended and is no repetition.
        shares: what `hypervolume_shares` says of them.
    """
    entries = evaluated(evaluations)
    best, axes = panel(2.9)
    _best_so_far(axes, entries, measure)
    panels = [best]
    if shares is not None:
        figure, axes = panel(2.9)
        places = range(1, len(entries) + 1)
        axes.plot(places, shares, color=light("blue"), drawstyle="steps-post")
        say_along(axes, places, shares.tolist(), lambda place, share: f"after {place:.0f} evaluations: {share:.1%}")
        axes.set_ylim(0, 1.08 * float(shares[-1]) or 1)
        axes.set_title("Hypervolume of the front")
        panels.append(figure)
    for figure, formatter in zip(panels, (_worth_tick(measure), FuncFormatter(percent_tick)), strict=False):
        axes = figure.axes[0]
        axes.set_xlim(0.5, len(entries) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
        axes.yaxis.set_major_formatter(formatter)
        axes.set_xlabel("evaluation")
    keys: list[Artist] = []
    if any(entry.complete and not entry.feasible for entry in entries):
        keys.append(
            Line2D([], [], marker="o", linestyle="", markersize=4, markerfacecolor="none",
                   markeredgecolor=light("muted"), label="breaks a budget")
        )  # fmt: skip
    return Plot(panels, keys, columns=2)


def hypervolume_shares(
    evaluations: Sequence[Evaluation], objectives: Sequence[str], limits: Mapping[str, float]
) -> np.ndarray | None:
    """(N,) hypervolume of the feasible front after each of `evaluated(evaluations)`, as a share of a box.

    The box reaches from the best feasible value of each objective to its budget, or to the worst value of any complete
    evaluation where it has none.

    Returns:
        None for one objective, fewer than two feasible points, and a flat box.
    """
    entries = evaluated(evaluations)
    counts = np.array([entry.complete and entry.feasible for entry in entries], dtype=bool)
    if len(objectives) < 2 or not counts.any():
        return None
    points = objective_points([entry for entry, count in zip(entries, counts, strict=True) if count], objectives)
    worst = objective_points([entry for entry in entries if entry.complete], objectives).max(axis=0)
    reference = np.array([limits.get(name, bound) for name, bound in zip(objectives, worst, strict=True)])
    span = reference - points.min(axis=0)
    if not (span > 0).all() or not np.ptp(points, axis=0).any():
        return None
    after = np.concatenate([[0.0], hypervolume_over((points - points.min(axis=0)) / span, np.ones(len(span)))])
    return np.asarray(after[np.cumsum(counts)])


def _best_so_far(axes: Axes, entries: Sequence[Evaluation], measure: Measure) -> None:
    at: dict[bool, tuple[list[int], list[float]]] = {True: ([], []), False: ([], [])}
    steps: list[float] = []
    for place, entry in enumerate(entries, start=1):
        value = float("nan")
        if entry.complete:
            at[entry.feasible][0].append(place)
            at[entry.feasible][1].append(_accuracy(entry))
            value = _accuracy(entry) if entry.feasible else value
        steps.append(value)
    axes.plot(
        *at[False], "o", markersize=3.4, markerfacecolor="none", markeredgecolor=light("muted"), markeredgewidth=0.6,
        alpha=0.65,
    )  # fmt: skip
    axes.plot(*at[True], "o", markersize=3.4, color=light("rank-6"), markeredgewidth=0)
    best = np.fmax.accumulate(np.array(steps))
    within = "within the budgets " if any(entry.excess for entry in entries) else ""
    axes.set_title(f"{measure.name.capitalize()}, and the best {within}so far")
    if at[True][0]:
        axes.plot(range(1, len(best) + 1), best, color=light("blue"), drawstyle="steps-post")
        top = int(np.nanargmax(best))
        axes.plot([top + 1], [best[top]], "o", color=light("blue"), markersize=5.5, **_HALO)
        axes.annotate(
            _worth_tick(measure)(round(float(best[top]), 4)), (1, best[top]), xycoords=("axes fraction", "data"),
            xytext=(5, 0), textcoords="offset points", va="center", fontsize=8, fontweight="bold",
        )  # fmt: skip
    for feasible, (places, values) in at.items():
        words = "" if feasible else ", which breaks a budget"
        say_along(axes, places, values, _nth_words(measure, words))


def _nth_words(measure: Measure, more: str) -> Callable[[float, float], str]:
    return lambda place, worth: f"evaluation {place:.0f}: {measure.show(measure.worth(worth))}{more}"


# ---- importance


def choice_words(choice: str) -> str:
    """A choice as words: "stage2.block1.se" is "stage 2 · block 1 · SE"."""
    return f"{place_words(Place.named(choice))} · {_part(choice)}"


def _part(choice: str) -> str:
    """What a choice decides: "SE", "kernel"; of one of several kinds of block, that kind too."""
    place = Place.named(choice)
    return part_words(replace(place, part="SE") if place.part == "se" else place)


def _of_se(choice: str) -> bool:
    return Place.named(choice).part in SE_PARTS


@drawn
def importance(shares: Mapping[str, float]) -> Plot:
    """How much each choice matters, the greatest `SHOWN_CHOICES` as bars, and the sum for each kind of choice.

    Args:
        shares: at least one, by choice name.
    """
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    shown = ranked[:SHOWN_CHOICES]
    kinds: dict[str, float] = {}
    for name, share in ranked:
        kind = _part(replace(Place.named(name), op=None).name)
        kinds[kind] = kinds.get(kind, 0.0) + share
    rest = ranked[SHOWN_CHOICES:]
    title = "Each choice"
    if rest:
        title += f" ({len(rest)} more: {100 * sum(share for _, share in rest):.1f} %)"
    each = _bars(title, [(choice_words(name), share, _of_se(name)) for name, share in shown])
    ordered = sorted(kinds, key=lambda kind: -kinds[kind])
    sums = _bars("All choices of a kind together", [(kind, kinds[kind], kind.startswith("SE")) for kind in ordered])
    keys: list[Artist] = []
    if any(map(_of_se, shares)) and not all(map(_of_se, shares)):
        keys = [Patch(color=light("orange"), label="SE"), Patch(color=light("blue"), label="other")]
    return Plot([each, sums], keys, columns=2)


def _bars(title: str, bars: Sequence[tuple[str, float, bool]]) -> Figure:
    figure, axes = panel(0.45 + 0.215 * len(bars))
    axes.set_title(title)
    places = range(len(bars))
    values = [share for _, share, _ in bars]
    axes.barh(places, values, height=0.62, color=[light("orange" if is_se else "blue") for _, _, is_se in bars])
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            f"{100 * value:.1f} %", (value, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_yticks(places, [words for words, _, _ in bars], color=light("ink"))
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, 1.22 * max([*values, 1e-9]))
    axes.xaxis.set_major_locator(NullLocator())
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    return figure


# ---- stand-alone trainings


@drawn
def intermediate_accuracy(
    evaluations: Sequence[Evaluation], chosen: Architecture | None, measure: Measure = ACCURACY
) -> Figure:
    """Accuracy by epoch of evaluations that trained a network each: those that were ended early quiet, with a cross.

    Args:
        evaluations: at least one with a curve.
        chosen: its curve is drawn strongest, if it was evaluated.
    """
    entries = [entry for entry in evaluated(evaluations) if entry.curve]
    figure, axes = panel(3.2, width=1.5 * PANEL)
    drawn_as = {
        "ended early": ([e for e in entries if not e.complete], "none", 0.9, 2),
        "complete": ([e for e in entries if e.complete and e.architecture != chosen], "blue", 1.0, 3),
        "chosen network": ([e for e in entries if e.complete and e.architecture == chosen], "orange", 2.2, 4),
    }
    keys = []
    for words, (some, tone, width, order) in drawn_as.items():
        for entry in some:
            epochs, values = zip(*((epoch + 1, accuracy) for epoch, accuracy in entry.curve), strict=True)
            marker = "o" if len(entry.curve) == 1 else ""
            quiet = 0.55 if words == "complete" else 1.0
            axes.plot(
                epochs, values, color=light(tone), linewidth=width, marker=marker, markersize=3, alpha=quiet,
                zorder=order,
            )  # fmt: skip
            if not entry.complete:
                axes.plot(epochs[-1:], values[-1:], "x", color=light("muted"), markersize=4, zorder=order)
        if some:
            label = words if words == "chosen network" else f"{words} ({len(some)})"
            keys.append(Line2D([], [], color=light(tone), linewidth=max(width, 1.4), label=label))
    last = max(epoch + 1 for entry in entries for epoch, _ in entry.curve)
    axes.set_xlim(1 - 0.012 * last, last + 0.012 * last)
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel("epoch")
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.yaxis.set_major_formatter(_worth_tick(measure))
    axes.set_title(f"Validation {measure.name}")
    figure.legend(handles=keys, loc="outside upper right", ncols=len(keys))
    return figure
