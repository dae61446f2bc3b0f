"""The answer beside its controls: its trainings beside random networks', differences, and accuracies against MACs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from se_nas.cost.budget import format_cost
from se_nas.evidence.comparisons import GROUPS
from se_nas.records.models.evidence import ComparisonEntry, ControlEntry, ControlsPart
from se_nas.report.plots.evidence import _DASHES, is_significant, points, seed_differences, trained_accuracy
from se_nas.report.plots.figure import (
    PANEL,
    TICK_STEPS,
    Plot,
    drawn,
    drawn_limit,
    limited_title,
    panel,
    percent_tick,
    say_on_hover,
    tick,
)
from se_nas.report.theme.palette import light

_KINDS = {  # words, colour, marker, its size, filled
    "answer": ("the search's answer", "orange", "o", 9.0, True),
    "other_answer": ("another search's answer", "orange", "D", 6.0, False),
    "search_seed": ("same search, other seeds", "orange", "o", 5.5, False),
    "best_of_random": ("best random by the supernet", "ink", "*", 9.5, True),
    "random": ("random", "muted", "o", 4.5, True),
    "of_size": ("random of the answer's size", "muted", "D", 4.0, False),
    "baseline": ("no SE, or one ratio", "blue", "s", 5.5, True),
    "published": ("published", "green", "^", 6.5, True),
}


@drawn
def controls(found: ControlsPart) -> Plot:
    """Each control's difference from the answer with its interval, beside the accuracy of every network over its MACs.

    Args:
        found: `controls.json` with at least one comparison.
    """
    height = max(3.6, 0.47 * len(found.comparisons) + 1.0)
    forest, left = panel(height, width=1.2 * PANEL)
    plane, right = panel(min(height, 4.4), width=1.2 * PANEL)
    _forest(left, found)
    _against_macs(right, found)
    keys = [_kind_key(kind) for kind in _KINDS if any(one.kind == kind for one in found.networks)]
    return Plot([forest, plane], keys, columns=2)


@drawn
def trainings(found: ControlsPart) -> Plot | None:
    """Every training of the answer and of the random networks on one axis, over the noise and the spread of these.

    None where there is no comparison of both yet.
    """
    kinds = {network.name: network.kind for network in found.networks}
    compared = [one for one in found.comparisons if one.value is not None and kinds[one.theirs[0]] in GROUPS]
    if not compared:
        return None

    shown = next((one for one in compared if one.primary), compared[0])
    drawn_as = kinds[shown.theirs[0]]
    trained = [(trained_accuracy(one), one) for one in found.networks if one.kind == drawn_as]
    networks = [one for mean, one in sorted((pair for pair in trained if pair[0]), key=lambda pair: -(pair[0] or 0))]
    figure, axes = panel(1.45 + min(0.12 * len(networks), 1.6), width=PANEL)
    _trainings(axes, found, shown, networks)
    return Plot([figure], columns=1)


def _trainings(axes: Axes, found: ControlsPart, shown: ComparisonEntry, networks: Sequence[ControlEntry]) -> None:
    answer = next(network for network in found.networks if network.name == shown.ours)
    seeds = [int(seed) for seed in shown.by_seed or {}]
    mine = trained_accuracy(answer, seeds)
    assert mine is not None
    assert shown.value is not None
    rival = 100 * (mine - shown.value)
    pitch = min(1.0, 14 / len(networks))
    first = 4.2
    last = first + pitch * (len(networks) - 1)
    rows = [(0.0, answer, "orange", 6.0), *((first + pitch * i, one, "muted", 4.0) for i, one in enumerate(networks))]
    every = [100 * value for _, one, _, _ in rows for value in one.accuracies.values() if value is not None]
    room = max(0.5 * (max(every) - min(every)), 0.2)
    lead = None if shown.low is None or shown.high is None else (rival + 100 * shown.low, rival + 100 * shown.high)
    reach = [*every, *(lead or ())]
    ends = max(min(reach), min(every) - room) - 0.15 * room, min(max(reach), max(every) + room) + 0.15 * room
    for place, network, tone, size in rows:
        values = {seed: 100 * value for seed, value in network.accuracies.items() if value is not None}
        axes.plot(
            [min(values.values()), max(values.values())], [place] * 2, color=light(tone), linewidth=0.9, alpha=0.6
        )
        (dots,) = axes.plot(list(values.values()), [place] * len(values), "o", color=light(tone), markersize=size,
                            markeredgewidth=0, alpha=0.85, zorder=4)  # fmt: skip
        say_on_hover(dots, [f"{network.label}, seed {seed}: {value:.2f} %" for seed, value in values.items()])
    ticks = {0.0: "the answer", (first + last) / 2: f"{len(networks)} random\nnetworks"}
    if lead is not None:
        tone = light(("blue" if shown.value > 0 else "red") if is_significant(shown) else "muted")
        _interval(axes, 1.8, *lead, ends, tone)
        axes.plot([rival + 100 * shown.value], [1.8], "D", color=tone, markersize=5.5, zorder=4)
        ticks[1.8] = "its lead, 95 %"
    axes.axvline(rival, color=light("ink"), linewidth=1.0, linestyle=_DASHES, zorder=1)
    axes.set_title(f"Dashed: {'the best' if shown.selected else 'the mean'} of the random networks", loc="left")
    bottom = last
    middle = math.fsum(100 * (trained_accuracy(one) or 0.0) for one in networks) / len(networks)
    if found.regime is not None:
        for word, deviation in (("noise", found.regime.noise), ("spread", found.regime.spread)):
            if deviation.value is not None:
                bottom += 2.0
                half = 100 * deviation.value
                ticks[bottom] = f"{word} ± {half:.2f}"
                axes.plot([middle - half, middle + half], [bottom] * 2, color=light("ink"), linewidth=4.5,
                          solid_capstyle="butt", alpha=0.8)  # fmt: skip
    axes.set_yticks(list(ticks), list(ticks.values()), color=light("ink"))
    axes.set_ylim(bottom + 1.2, -1.2)
    axes.set_xlim(*ends)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))


def _kind_key(kind: str) -> Line2D:
    words, tone, marker, size, filled = _KINDS[kind]
    face = light(tone) if filled else light("paper")
    return Line2D([], [], linestyle="", marker=marker, markersize=min(size, 7), markerfacecolor=face,
                  markeredgecolor=light(tone), label=words)  # fmt: skip


def _forest(axes: Axes, found: ControlsPart) -> None:
    rows = list(enumerate(found.comparisons))
    ends = _forest_ends(found)
    for place, comparison in rows:
        seeds = [100 * difference for difference in seed_differences(comparison)]
        axes.plot(seeds, [place + 0.2] * len(seeds), "o", color=light("muted"), markersize=3, alpha=0.6, zorder=2,
                  markeredgewidth=0)  # fmt: skip
        if comparison.value is None:
            continue
        value, counts = 100 * comparison.value, is_significant(comparison)
        tone = light(("blue" if value > 0 else "red") if counts else "muted")
        if comparison.low is not None and comparison.high is not None:
            _interval(axes, place, 100 * comparison.low, 100 * comparison.high, ends, tone)
        (point,) = axes.plot([value], [place], "o", markersize=6.5, markeredgecolor=tone, markeredgewidth=1.4, zorder=4,
                             markerfacecolor=tone if counts else light("paper"))  # fmt: skip
        say_on_hover(point, [f"{comparison.label}: {points(comparison.value)} points{_interval_words(comparison)}"])
        verdict = "" if counts else "\nnot significant" + " (Holm)" * comparison.excludes_zero
        axes.annotate(
            f"{points(comparison.value)}, n = {comparison.n}{verdict}", (1, place),
            xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8,
            linespacing=1.25, color=light("ink" if counts else "muted"), fontweight="bold" if counts else "normal",
        )  # fmt: skip
    axes.axvline(0, color=light("ink"), linewidth=0.9, zorder=1)
    words = ["\n".join(textwrap.wrap(comparison.label, 25)) for _, comparison in rows]
    axes.set_yticks([place for place, _ in rows], words, color=light("ink"))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(*ends)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.6g}" if value else "0"))
    axes.set_xlabel("points; right of 0 the answer is better")
    axes.set_title("How far the answer is ahead of each control")


def _interval_words(comparison: ComparisonEntry) -> str:
    low, high = comparison.low, comparison.high
    return "" if low is None or high is None else f", 95 % interval {points(low)} to {points(high)}"


def _forest_ends(found: ControlsPart) -> tuple[float, float]:
    """Both ends of the forest, in points: two trainings give intervals that would hide all the rest."""
    comparisons = [one for one in found.comparisons if one.value is not None]
    near = [0.0, *(one.value for one in comparisons if one.value is not None)]
    near += [difference for one in found.comparisons for difference in seed_differences(one)]
    room = 100 * max(max(near) - min(near), 1e-3)
    ends = [100 * end for one in comparisons for end in (one.low, one.high) if end is not None]
    low, high = 100 * min(near), 100 * max(near)
    return max(min([low, *ends]), low - room) - 0.06 * room, min(max([high, *ends]), high + room) + 0.06 * room


def _interval(axes: Axes, place: float, low: float, high: float, ends: tuple[float, float], tone: str) -> None:
    """A line from end to end, with an arrow where it goes on beyond the panel."""
    axes.plot([max(low, ends[0]), min(high, ends[1])], [place, place], color=tone, linewidth=1.8, zorder=3)
    for end, beyond, marker in ((ends[0], low < ends[0], "<"), (ends[1], high > ends[1], ">")):
        if beyond:
            axes.plot([end], [place], marker, color=tone, markersize=5, clip_on=False, zorder=3)


def _against_macs(axes: Axes, found: ControlsPart) -> None:
    shown = [(network, trained_accuracy(network)) for network in found.networks]
    for network, mean in sorted(shown, key=lambda pair: list(_KINDS).index(pair[0].kind), reverse=True):
        if mean is None:
            continue
        _, tone, marker, size, filled = _KINDS[network.kind]
        x, values = float(network.costs.macs), [value for value in network.accuracies.values() if value is not None]
        order = 6 if network.kind == "answer" else 3
        axes.plot([x, x], [min(values), max(values)], color=light(tone), linewidth=0.8, alpha=0.5, zorder=order - 1)
        (point,) = axes.plot(
            [x], [mean], marker, markersize=size, markeredgecolor=light(tone if not filled else "paper"),
            markerfacecolor=light(tone if filled else "paper"), zorder=order, markeredgewidth=0.6 if filled else 1.3,
        )  # fmt: skip
        costs = f"{percent_tick(round(mean, 4))}, {format_cost('macs', x)}"
        say_on_hover(point, [f"{network.label}: {costs}, {len(values)} trainings"])
    limit = (found.budgets or {}).get("macs")
    line = drawn_limit(limit, [float(network.costs.macs) for network, mean in shown if mean is not None])
    if line is not None:
        axes.axvline(line, color=light("ink"), linewidth=1.1, linestyle=_DASHES, zorder=1)
    axes.margins(x=0.08, y=0.12)
    axes.grid(True, axis="both")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(tick))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    axes.set_xlabel(limited_title("macs", limit, line))
    axes.set_title("Test accuracy: mean and range of the trainings")
