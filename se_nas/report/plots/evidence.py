"""The figures of a run's evidence, each drawn from the JSON of its part alone: a run's `evidence/controls.json` etc.

Accuracies and their differences are shares there; differences are drawn in points, hundredths of the whole.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from se_nas.cost.budget import format_cost
from se_nas.report.plots.figure import TICK_STEPS, WIDTH, drawn, metric_title, percent_tick, tick
from se_nas.report.plots.probabilities import place_of, se_ratio
from se_nas.report.theme.palette import RAMP_STEPS as SHADES
from se_nas.report.theme.palette import attention_tone, light
from se_nas.report.theme.words import ABSENT

Part = Mapping[str, Any]
"""A part's JSON, or an object in it."""

SIGNIFICANT = 0.05
"""A difference counts where its p-value, corrected for how many differences are looked at, is below this."""

SCORE_WORDS = {
    "supernet": "supernet",
    "uncalibrated": "supernet, norms not recalibrated",
    "macs": "MACs alone",
    "params": "parameters alone",
    "latency_ms": "latency alone",
    "partial": "supernet, MACs held fixed",
}
"""What networks are ranked by, and the correlation that is left when networks of equal MACs are compared."""

_KINDS = {  # words, colour, marker, its size, filled
    "answer": ("the search's answer", "orange", "o", 9.0, True),
    "other_answer": ("another search's answer", "orange", "D", 6.0, False),
    "search_seed": ("same search, other seeds", "orange", "o", 5.5, False),
    "best_of_random": ("best random by the supernet", "ink", "*", 9.5, True),
    "random": ("random", "muted", "o", 4.5, True),
    "baseline": ("no SE, or one ratio", "blue", "s", 5.5, True),
    "published": ("published", "green", "^", 6.5, True),
}
_DASHES = (0, (4, 3))
_WHISKERS = 60  # networks up to which each has the range of its trainings drawn


def points(share: float) -> str:
    """A difference of accuracies in points, with its sign; what rounds to none has no sign."""
    return f"{100 * share:+.2f}" if round(100 * share, 2) else "0.00"


def is_significant(comparison: Part) -> bool:
    """Whether a difference's interval leaves out 0, and still counts once all comparisons are allowed for."""
    p = comparison.get("p_holm")
    return bool(comparison["excludes_zero"]) and (p is None or float(p) < SIGNIFICANT)


def trained_accuracy(network: Part, seeds: Sequence[int] | None = None) -> float | None:
    """Mean accuracy of a network's trainings, a share, of all or of these seeds; None where none has ended."""
    wanted = None if seeds is None else {str(seed) for seed in seeds}
    known = network["accuracies"].items()
    values = [float(value) for seed, value in known if value is not None and (wanted is None or seed in wanted)]
    return math.fsum(values) / len(values) if values else None


def seed_differences(comparison: Part) -> list[float]:
    """Ours less theirs for each seed that the comparison is over, shares."""
    return [float(value) for value in (comparison.get("by_seed") or {}).values()]


def capital(words: object) -> str:
    """Words that begin a sentence, the rest as it is."""
    sentence = str(words)
    return sentence[:1].upper() + sentence[1:]


def block_words(block: str) -> tuple[str, str]:
    """Stage and block of "stage1.block2", and its kind where it has one, as words; no block for a whole stage."""
    place = place_of(f"{block}.se")
    stage, _, rest = place.words.partition(" · ")
    return stage, f"{rest} {place.part.removesuffix('se').strip()}".strip()


# ---- controls


def controls(found: Part) -> Figure:
    """Each control's difference from the answer with its interval, beside the accuracy of every network over its MACs.

    Args:
        found: `controls.json` with at least one comparison.
    """

    def make() -> Figure:
        count = len(found["comparisons"])
        height = max(3.6, 0.4 * count + 1.5)
        figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.1, wspace=0.03))
        left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
        _forest(left, found)
        _against_macs(right, found)
        keys = [_kind_key(kind) for kind in _KINDS if any(one["kind"] == kind for one in found["networks"])]
        figure.legend(handles=keys, loc="outside upper right", ncols=min(len(keys), 4), handletextpad=0.2)
        return figure

    return drawn(make)


def _kind_key(kind: str) -> Line2D:
    words, tone, marker, size, filled = _KINDS[kind]
    face = light(tone) if filled else light("paper")
    return Line2D([], [], linestyle="", marker=marker, markersize=min(size, 7), markerfacecolor=face,
                  markeredgecolor=light(tone), label=words)  # fmt: skip


def _forest(axes: Axes, found: Part) -> None:
    rows = list(enumerate(found["comparisons"]))
    ends = _forest_ends(found)
    for place, comparison in rows:
        seeds = [100 * difference for difference in seed_differences(comparison)]
        axes.plot(seeds, [place + 0.2] * len(seeds), "o", color=light("muted"), markersize=3, alpha=0.6, zorder=2,
                  markeredgewidth=0)  # fmt: skip
        if comparison["value"] is None:
            continue
        value, counts = 100 * float(comparison["value"]), is_significant(comparison)
        tone = light(("blue" if value > 0 else "red") if counts else "muted")
        if comparison["low"] is not None:
            _interval(axes, place, 100 * float(comparison["low"]), 100 * float(comparison["high"]), ends, tone)
        axes.plot([value], [place], "o", markersize=6.5, markeredgecolor=tone, markeredgewidth=1.4, zorder=4,
                  markerfacecolor=tone if counts else light("paper"))  # fmt: skip
        verdict = "" if counts else "\nnot significant" + " (Holm)" * bool(comparison["excludes_zero"])
        axes.annotate(
            f"{points(float(comparison['value']))}, n = {comparison['n']}{verdict}", (1, place),
            xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8,
            linespacing=1.25, color=light("ink" if counts else "muted"), fontweight="bold" if counts else "normal",
        )  # fmt: skip
    axes.axvline(0, color=light("ink"), linewidth=0.9, zorder=1)
    words = ["\n".join(textwrap.wrap(str(comparison["label"]), 30)) for _, comparison in rows]
    axes.set_yticks([place for place, _ in rows], words, color=light("ink"))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(*ends)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.6g}" if value else "0"))
    axes.set_xlabel("points of accuracy; right of 0 the answer is better")
    axes.set_title("The answer less each control")


def _forest_ends(found: Part) -> tuple[float, float]:
    """Both ends of the forest, in points: two trainings give intervals that would hide all the rest."""
    comparisons = [one for one in found["comparisons"] if one["value"] is not None]
    near = [0.0, *(float(one["value"]) for one in comparisons)]
    near += [difference for one in found["comparisons"] for difference in seed_differences(one)]
    room = 100 * max(max(near) - min(near), 1e-3)
    ends = [100 * float(one[end]) for one in comparisons for end in ("low", "high") if one[end] is not None]
    low, high = 100 * min(near), 100 * max(near)
    return max(min([low, *ends]), low - room) - 0.06 * room, min(max([high, *ends]), high + room) + 0.06 * room


def _interval(axes: Axes, place: float, low: float, high: float, ends: tuple[float, float], tone: str) -> None:
    """A line from end to end, with an arrow where it goes on beyond the panel."""
    axes.plot([max(low, ends[0]), min(high, ends[1])], [place, place], color=tone, linewidth=1.8, zorder=3)
    for end, beyond, marker in ((ends[0], low < ends[0], "<"), (ends[1], high > ends[1], ">")):
        if beyond:
            axes.plot([end], [place], marker, color=tone, markersize=5, clip_on=False, zorder=3)


def _against_macs(axes: Axes, found: Part) -> None:
    shown = [(network, trained_accuracy(network)) for network in found["networks"]]
    for network, mean in sorted(shown, key=lambda pair: list(_KINDS).index(pair[0]["kind"]), reverse=True):
        if mean is None:
            continue
        _, tone, marker, size, filled = _KINDS[network["kind"]]
        x, values = float(network["costs"]["macs"]), list(network["accuracies"].values())
        order = 6 if network["kind"] == "answer" else 3
        axes.plot([x, x], [min(values), max(values)], color=light(tone), linewidth=0.8, alpha=0.5, zorder=order - 1)
        axes.plot([x], [mean], marker, markersize=size, markeredgecolor=light(tone if not filled else "paper"),
                  markerfacecolor=light(tone if filled else "paper"), zorder=order,
                  markeredgewidth=0.6 if filled else 1.3)  # fmt: skip
    limit = (found.get("budgets") or {}).get("macs")
    if limit is not None:
        axes.axvline(float(limit), color=light("ink"), linewidth=1.1, linestyle=_DASHES, zorder=1)
        axes.annotate(f"budget {format_cost('macs', float(limit))} ", (float(limit), 0),
                      xycoords=("data", "axes fraction"), xytext=(-2, 4), textcoords="offset points", ha="right",
                      fontsize=8)  # fmt: skip
    axes.margins(x=0.08, y=0.12)
    axes.grid(True, axis="both")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(tick))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    axes.set_xlabel(metric_title("macs"))
    axes.set_title("Test accuracy: mean and range of the trainings")


# ---- ranking


def ranking(found: Part) -> Figure:
    """For each set of networks, trained accuracy over the supernet's, and how far each score ranks them as trained.

    Args:
        found: `ranking.json` with at least one set, each with correlations.
    """

    def make() -> Figure:
        sets = found["sets"]
        height = 3.3 * len(sets)
        figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
        panels = figure.subplots(len(sets), 2, width_ratios=[1, 1.1], squeeze=False)
        for (left, right), one in zip(panels, sets, strict=True):
            _supernet_scatter(figure, left, one)
            _correlation_bars(right, one)
        return figure

    return drawn(make)


def _supernet_scatter(figure: Figure, axes: Axes, one: Part) -> None:
    networks = one["networks"]
    x = [float(network["supernet"]) for network in networks]
    y = [trained_accuracy(network, one.get("truth_seeds")) or 0.0 for network in networks]
    macs = [float(network["macs"]) for network in networks]
    if len(networks) <= _WHISKERS:
        low, high = ([pick(network["accuracies"].values()) for network in networks] for pick in (min, max))
        axes.vlines(x, low, high, color=light("rule"), linewidth=1.2, zorder=1)
    tones = ListedColormap([light(f"rank-{step}") for step in range(2, SHADES + 1)])
    edges = np.linspace(min(macs), max(max(macs), 1.0001 * min(macs)), tones.N + 1)
    dots = axes.scatter(
        x, y, c=macs, cmap=tones, norm=BoundaryNorm(edges, tones.N), s=34 if len(networks) <= _WHISKERS else 16,
        edgecolors=light("paper"), linewidths=0.5, zorder=3,
    )  # fmt: skip
    bar = figure.colorbar(
        dots, ax=axes, ticks=edges[:: tones.N // 3], format=FuncFormatter(_short), aspect=24, pad=0.02
    )
    bar.outline.set_visible(False)
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=7.5)
    bar.ax.set_title("MACs", fontsize=7.5, color=light("muted"), pad=5)
    axes.grid(True, axis="both")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
        axis.set_major_formatter(FuncFormatter(percent_tick))
    axes.set_xlabel("accuracy with the supernet's weights")
    axes.set_ylabel("accuracy trained alone")
    axes.set_title(f"{capital(one['name'])}: {len(networks)} networks")


def _short(value: float, _: int | None = None) -> str:
    return tick(float(f"{value:.3g}"))


def ranked_scores(one: Part) -> list[tuple[str, Part]]:
    """The name in SCORE_WORDS and Kendall estimate of each score of a set, that with MACs held fixed last."""
    return [(name, both["kendall"]) for name, both in one["correlations"].items()] + [
        ("partial", one["partial_kendall"])
    ]


def _correlation_bars(axes: Axes, one: Part) -> None:
    bars = [(name, estimate) for name, estimate in ranked_scores(one) if estimate["value"] is not None]
    ends = [0.0]
    for place, (name, estimate) in enumerate(bars):
        value, low, high = (estimate[key] for key in ("value", "low", "high"))
        tone = light("orange" if name in ("supernet", "partial") else "se-5" if name == "uncalibrated" else "block")
        axes.barh(place, value, height=0.56, color=tone, linewidth=0)
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=light("ink"), linewidth=1.1)
        ends += [value, *(end for end in (low, high) if end is not None)]
        last = max(value, high if high is not None else value, 0.0)
        axes.annotate(f"{value:.2f}", (last, place), xytext=(5, 0), textcoords="offset points", va="center",
                      fontsize=8.5, fontweight="bold" if name == "supernet" else "normal",
                      bbox={"facecolor": light("paper"), "linewidth": 0, "pad": 1.0})  # fmt: skip
    again = one.get("seed_ceiling")
    if again and again["low"] is not None:
        axes.axvline(float(again["value"]), color=light("ink"), linewidth=1.1, linestyle=_DASHES, zorder=1)
        words = f"agreement of two trainings: {again['value']:.2f} (n = {again['n']})"
        axes.annotate(words, (float(again["value"]), 1),
                      xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points", ha="center",
                      fontsize=8)  # fmt: skip
        ends.append(float(again["value"]))
    axes.axvline(0, color=light("ink"), linewidth=0.8)
    axes.set_yticks(range(len(bars)), [SCORE_WORDS.get(name, name) for name, _ in bars], color=light("ink"))
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(min(ends) * 1.1, max(max(ends) * 1.16, 0.1))
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.set_xlabel("Kendall's tau with the trained accuracy, 95 % intervals")


# ---- stability


def stability(found: Part) -> Figure:
    """What each search chose for each block, and how often two searches agree beside two random networks.

    Args:
        found: `stability.json` with at least one answer and one block.
    """

    def make() -> Figure:
        blocks, answers = found["blocks"], found["answers"]
        rows = len(blocks) + 1.4
        height = 0.27 * rows + 1.25
        figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.08, wspace=0.02))
        wide = max(len(answers), 2)
        tiles, on_off, ratio = figure.subplots(1, 3, width_ratios=[wide, 3.4, 3.4])
        _choices_of_searches(tiles, found)
        for axes, key, title in ((on_off, "on_off", "Two searches agree: SE or none"),
                                 (ratio, "ratio", "Two searches agree: ratio")):  # fmt: skip
            _agreement(axes, found, key)
            axes.set_title(title)
        for axes in (tiles, on_off, ratio):
            axes.set_ylim(rows, -0.1)
        count = len(answers) * (len(answers) - 1) // 2
        pairs = f"{count} pair{'s' * (count != 1)} of {len(answers)} search{'es' * (len(answers) != 1)}"
        keys = [Patch(color=light("rank-6"), label=pairs),
                Line2D([], [], color=light("ink"), marker="|", linestyle="", markersize=9, markeredgewidth=1.6,
                       label="pairs of random networks")]  # fmt: skip
        figure.legend(handles=keys, loc="outside lower right", ncols=2, handlelength=1.2, handleheight=0.8)
        return figure

    return drawn(make)


def _choices_of_searches(axes: Axes, found: Part) -> None:
    blocks, answers = found["blocks"], found["answers"]
    for row, block in enumerate(blocks):
        for column, answer in enumerate(answers):
            option = answer["se"].get(block["block"])
            middle = (column + 0.5, row + 0.5)
            if option is None:
                axes.text(*middle, ABSENT, ha="center", va="center", color=light("muted"), fontsize=8)
                continue
            tone = attention_tone(str(option))
            axes.add_patch(Rectangle((column + 0.03, row + 0.06), 0.94, 0.88, color=light(tone), linewidth=0))
            axes.text(*middle, str(option), ha="center", va="center", color=_text_on(tone), fontsize=8)
    axes.set_xlim(0, max(len(answers), 1))
    axes.xaxis.tick_top()
    heads = []
    for answer in answers:
        mean = trained_accuracy(answer)
        heads.append(f"seed {answer['seed']}" + ("" if mean is None else f"\n{100 * mean:.2f} %"))
    axes.set_xticks([column + 0.5 for column in range(len(answers))], heads, color=light("ink"), fontsize=8)
    words = [" · ".join(filter(None, block_words(block["block"]))) for block in blocks]
    axes.set_yticks([row + 0.5 for row in range(len(blocks))], words, color=light("ink"), fontsize=8)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _text_on(tone: str) -> str:
    """A colour of text that can be read on a tone in either colour scheme: ramps run from paper's end to ink's."""
    step = int(tone.rsplit("-", 1)[1]) if tone[-1].isdigit() else None
    if step is None:
        return light("ink") if tone in ("none", "wash") else "black"
    return light("ink") if step <= 4 else "black" if step <= 10 else light("paper")


def _agreement(axes: Axes, found: Part, key: str) -> None:
    rows = [(row + 0.5, block.get(key), block.get(f"random_{key}")) for row, block in enumerate(found["blocks"])]
    whole = found.get(key) or {}
    last = len(rows) + 0.9
    for place, value, chance in [*rows, (last, whole.get("value"), whole.get("random"))]:
        tone = light("blue" if place == last else "rank-6")
        if value is not None:
            axes.barh(place, value, height=0.56, color=tone, linewidth=0)
        if chance is not None:
            axes.plot([chance], [place], "|", color=light("ink"), markersize=9, markeredgewidth=1.6, zorder=4)
    axes.set_yticks([last], ["all"], color=light("ink"), fontweight="bold", fontsize=8)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)


# ---- where SE pays


def where_se_pays(found: Part) -> Figure:
    """SE's gain in accuracy for each option and block in order of depth, above what each option costs there.

    Args:
        found: `where_se_pays.json` with at least one block that has an option.
    """

    def make() -> Figure:
        blocks = found["blocks"]
        options = offered_options(found)
        references = {str(block["reference"]) for block in blocks}
        rows = sorted({*options, *references}, key=_weakest_last)
        metrics = [
            metric
            for metric in ("params", "macs", "latency_ms")
            if any(option.get(metric) is not None for block in blocks for option in block["options"])
        ]
        heights = [0.32 * len(rows), *[0.95] * len(metrics)]
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.42 * len(metrics) + 1.35), layout="constrained")
        panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        _gain_cells(figure, panels[0], blocks, rows)
        for axes, metric in zip(panels[1:], metrics, strict=True):
            _option_costs(axes, blocks, options, metric)
        panels[-1].set_xticks(range(len(blocks)), _column_words(blocks), fontsize=8, color=light("ink"))
        panels[-1].set_xlim(-0.5, len(blocks) - 0.5)
        keys = [Patch(color=light(attention_tone(option)), label=option) for option in options]
        figure.legend(handles=keys, loc="outside lower left", ncols=len(keys), handlelength=1.0, handleheight=0.9,
                      columnspacing=1.2)  # fmt: skip
        return figure

    return drawn(make)


def offered_options(found: Part) -> list[str]:
    """Every option of SE that some block offers beside its reference, the widest first, SE's relatives last."""
    return sorted(
        {str(option["option"]) for block in found["blocks"] for option in block["options"]}, key=_weakest_last
    )


def _weakest_last(option: str) -> tuple[bool, bool, float, str]:
    """Sorts SE's ratios from the widest hidden layer, then SE's relatives, then none."""
    return option == "none", not se_ratio(option), se_ratio(option), option


def excludes_zero(estimate: Part) -> bool:
    """Whether there is an interval, and 0 is not in it."""
    low, high = estimate.get("low"), estimate.get("high")
    return low is not None and high is not None and (low > 0 or high < 0)


def _column_words(blocks: Sequence[Part]) -> list[str]:
    """Block by block, with the stage under its first one."""
    words, last = [], ""
    for block in blocks:
        stage, rest = block_words(block["block"])
        short = rest.replace("block ", "") if len(blocks) > 14 else rest
        words.append(f"{short or stage}\n{stage if rest and stage != last else ''}")
        last = stage
    return words


def _gain_cells(figure: Figure, axes: Axes, blocks: Sequence[Part], rows: Sequence[str]) -> None:
    gains = [
        abs(float(option["gain"])) for block in blocks for option in block["options"] if option["gain"] is not None
    ]
    greatest = max([*gains, 1e-4])
    for column, block in enumerate(blocks):
        cells = {str(option["option"]): option for option in block["options"]}
        for row, name in enumerate(rows):
            option = cells.get(name)
            if name == block["reference"]:
                _plain_cell(axes, column, row, "none", "0")
            elif option is not None and option["gain"] is not None:
                tone = gain_tone(float(option["gain"]), greatest)
                sure = excludes_zero(option)
                _plain_cell(axes, column, row, tone, points(float(option["gain"])), bold=sure)
                if sure:
                    axes.plot([column + 0.38], [row - 0.31], "o", color=_text_on(tone), markersize=2.6)
            if block["chosen"] == name:
                axes.add_patch(Rectangle((column - 0.46, row - 0.45), 0.92, 0.90, fill=False, linewidth=1.8,
                                         edgecolor=light("ink"), zorder=5))  # fmt: skip
        if block["chosen"] is None:
            axes.text(column, -0.62, "unused", ha="center", va="bottom", fontsize=7, color=light("muted"))
    axes.set_yticks(range(len(rows)), rows, color=light("ink"))
    axes.set_ylim(len(rows) - 0.46, -0.54)
    axes.tick_params(labelbottom=False)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    pad = 18 if any(block["chosen"] is None for block in blocks) else 8
    title = "Gain in points over the grey option (outlined: chosen; bold with a dot: the interval leaves out 0)"
    axes.set_title(title, pad=pad)
    _gain_scale(figure, axes, greatest)


def _plain_cell(axes: Axes, column: int, row: int, tone: str, words: str, bold: bool = False) -> None:
    axes.add_patch(Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, color=light(tone), linewidth=0))
    axes.text(column, row, words, ha="center", va="center", fontsize=7.8, color=_text_on(tone),
              fontweight="bold" if bold else "normal")  # fmt: skip


def gain_tone(gain: float, greatest: float) -> str:
    """Name of the colour of a gain on a scale from -greatest to greatest: orange above 0, blue below, paler near it."""
    step = round((SHADES + 1) * min(abs(gain) / greatest, 1.0))
    return "wash" if step == 0 else f"{'se' if gain > 0 else 'rank'}-{step - 1}"


def _gain_scale(figure: Figure, axes: Axes, greatest: float) -> None:
    """The colours of the gains as a bar at the side."""
    ends = [*(f"rank-{step}" for step in reversed(range(SHADES + 1))), "wash", *(f"se-{s}" for s in range(SHADES + 1))]
    bar = axes.inset_axes((1.012, 0.0, 0.011, 1.0))
    edges = np.linspace(-100 * greatest, 100 * greatest, len(ends) + 1)
    for low, high, tone in zip(edges[:-1], edges[1:], ends, strict=True):
        bar.add_patch(Rectangle((0, low), 1, high - low, color=light(tone), linewidth=0.3))
    bar.set_ylim(edges[0], edges[-1])
    bar.set_xlim(0, 1)
    bar.xaxis.set_major_locator(NullLocator())
    bar.yaxis.tick_right()
    bar.yaxis.set_major_locator(MaxNLocator(4, steps=TICK_STEPS, symmetric=True))
    bar.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g}" if value else "0"))
    bar.tick_params(labelsize=7.5)
    bar.grid(False)
    bar.spines[:].set_visible(False)


def _option_costs(axes: Axes, blocks: Sequence[Part], options: Sequence[str], metric: str) -> None:
    """Bars of what each option adds to a block, in parameters, MACs or microseconds."""
    factor = 1000.0 if metric == "latency_ms" else 1.0
    width = 0.84 / len(options)
    for rank, name in enumerate(options):
        cells = [(column, option) for column, block in enumerate(blocks) for option in block["options"]
                 if option["option"] == name and option.get(metric) is not None]  # fmt: skip
        places = [column + (rank - (len(options) - 1) / 2) * width for column, _ in cells]
        values = [factor * float(option[metric]) for _, option in cells]
        axes.bar(places, values, 0.92 * width, color=light(attention_tone(name)), linewidth=0)
    title = "Latency added (µs, predicted)" if metric == "latency_ms" else f"{metric_title(metric)} added"
    axes.set_title(title, pad=5)
    axes.axhline(0, color=light("rule"), linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=TICK_STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(tick))


# ---- latency


def latency_check(found: Part) -> Figure:
    """Predicted against measured latency of each set of networks, and the error of each prediction; 5 % is shaded.

    Args:
        found: `latency_check.json` with at least one network.
    """

    def make() -> Figure:
        figure = Figure(figsize=(WIDTH, 3.9), layout=ConstrainedLayoutEngine(w_pad=0.12))
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
        networks = [network for one in found["sets"] for network in one["networks"]]
        ends = [float(network[key]) for network in networks for key in ("predicted_ms", "measured_ms")]
        low, high = 0.96 * min(ends), 1.04 * max(ends)
        line = np.array([low, high])
        band = {"color": light("rule"), "alpha": 0.6, "linewidth": 0}
        left.fill_between(line, 0.95 * line, 1.05 * line, label="± 5 %", **band)
        left.plot(line, line, color=light("muted"), linewidth=0.9)
        right.axhspan(-5, 5, **band)
        right.axhline(0, color=light("muted"), linewidth=0.9)
        looks = zip(("orange", "blue", "green", "red"), ("o", "s", "^", "D"), strict=True)
        for one, (tone, marker) in zip(found["sets"], looks, strict=False):
            _latency_points(left, right, one["networks"], light(tone), marker, capital(one["name"]))
        left.set_xlim(low, high)
        left.set_ylim(low, high)
        left.set_aspect("equal")
        left.grid(True, axis="both")
        left.set_ylabel("predicted (ms)")
        right.set_ylabel("predicted over measured, 95 % interval")
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g} %" if value else "0"))
        furthest = max([6.0, *map(abs, right.get_ylim())])
        right.set_ylim(-furthest, furthest)
        for axes in (left, right):
            axes.set_xlabel("measured (ms)")
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=5, handletextpad=0.4)
        return figure

    return drawn(make)


def _latency_points(left: Axes, right: Axes, networks: Iterable[Part], tone: str, marker: str, label: str) -> None:
    style: dict[str, Any] = {"markersize": 5, "markeredgecolor": light("paper"), "markeredgewidth": 0.5, "zorder": 4}
    for number, network in enumerate(networks):
        predicted, measured = float(network["predicted_ms"]), float(network["measured_ms"])
        low, high = network.get("low"), network.get("high")
        if low is not None and high is not None:
            left.plot([low, high], [predicted, predicted], color=tone, linewidth=0.9, alpha=0.7)
            errors = [100 * (predicted / float(end) - 1) for end in (low, high)]
            right.plot([measured, measured], errors, color=tone, linewidth=0.9, alpha=0.7)
        left.plot([measured], [predicted], marker, color=tone, label="" if number else label, **style)
        right.plot([measured], [100 * (predicted / measured - 1)], marker, color=tone, **style)
