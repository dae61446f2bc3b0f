"""How a supernet ranks networks that were trained on their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from se_nas.cost.budget import format_cost
from se_nas.cost.metrics import is_latency
from se_nas.records.models.evidence import EstimateEntry, RankedEntry, RankingSet
from se_nas.report.plots.evidence import _DASHES, _WHISKERS, capital, trained_accuracy
from se_nas.report.plots.figure import TICK_STEPS, Plot, drawn, panel, percent_tick, say_on_hover, sentence_word, tick
from se_nas.report.theme.palette import RAMP_STEPS as SHADES
from se_nas.report.theme.palette import light

SCORE_WORDS = {
    "supernet": "supernet",
    "uncalibrated": "supernet, norms not recalibrated",
    "macs": "MACs alone",
    "params": "parameters alone",
    "partial": "supernet, MACs held fixed",
}
"""What networks are ranked by, and the correlation that is left when networks of equal MACs are compared."""


@drawn
def ranking(sets: Sequence[RankingSet]) -> Plot:
    """For each set of networks, trained accuracy over the supernet's, and how far each score ranks them as trained.

    Args:
        sets: those of `ranking.json` that have correlations, at least one.
    """
    panels = []
    for one in sets:
        scatter, left = panel(3.3)
        _supernet_scatter(scatter, left, one)
        bars, right = panel(3.3)
        _correlation_bars(right, one)
        panels += [scatter, bars]
    return Plot(panels, columns=2)


def _supernet_scatter(figure: Figure, axes: Axes, one: RankingSet) -> None:
    networks = one.networks
    x = [network.supernet for network in networks]
    y = [trained_accuracy(network, one.truth_seeds) or 0.0 for network in networks]
    macs = [float(network.macs) for network in networks]
    if len(networks) <= _WHISKERS:
        shares = [[share for share in network.accuracies.values() if share is not None] for network in networks]
        trained = [(at, of) for at, of in zip(x, shares, strict=True) if of]
        low, high = ([pick(of) for _, of in trained] for pick in (min, max))
        axes.vlines([at for at, _ in trained], low, high, color=light("rule"), linewidth=1.2, zorder=1)
    tones = ListedColormap([light(f"rank-{step}") for step in range(2, SHADES + 1)])
    edges = np.linspace(min(macs), max(max(macs), 1.0001 * min(macs)), tones.N + 1)
    dots = axes.scatter(
        x, y, c=macs, cmap=tones, norm=BoundaryNorm(edges, tones.N), s=34 if len(networks) <= _WHISKERS else 16,
        edgecolors=light("paper"), linewidths=0.5, zorder=3,
    )  # fmt: skip
    (marks,) = axes.plot(x, y, "o", markersize=7, alpha=0, zorder=4)
    say_on_hover(marks, [_network_words(network, a, b) for network, a, b in zip(networks, x, y, strict=True)])
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
    axes.set_title(f"{capital(one.name)}: {len(networks)} networks")


def _network_words(network: RankedEntry, supernet: float, trained: float) -> str:
    macs = format_cost("macs", float(network.macs))
    return f"{network.name}: {supernet:.2%} with the supernet's weights, {trained:.2%} trained, {macs}"


def _short(value: float, _: int | None = None) -> str:
    return tick(float(f"{value:.3g}"))


def score_words(name: str) -> str:
    """What networks are ranked by, in words."""
    if is_latency(name):
        return f"{sentence_word(name)} alone"
    return SCORE_WORDS.get(name, name)


def ranked_scores(one: RankingSet) -> list[tuple[str, EstimateEntry]]:
    """The name for `score_words` and Kendall estimate of each score of a set, that with MACs held fixed last."""
    scores = [(name, both.kendall) for name, both in (one.correlations or {}).items()]
    return [*scores, *([] if one.partial_kendall is None else [("partial", one.partial_kendall)])]


def _correlation_bars(axes: Axes, one: RankingSet) -> None:
    scores = ranked_scores(one)
    bars = [(name, score.value, score.low, score.high) for name, score in scores if score.value is not None]
    ends = [0.0]
    for place, (name, value, low, high) in enumerate(bars):
        tone = light("orange" if name in ("supernet", "partial") else "se-5" if name == "uncalibrated" else "block")
        axes.barh(place, value, height=0.56, color=tone, linewidth=0)
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=light("ink"), linewidth=1.1)
        ends += [value, *(end for end in (low, high) if end is not None)]
        last = max(value, high if high is not None else value, 0.0)
        axes.annotate(f"{value:.2f}", (last, place), xytext=(5, 0), textcoords="offset points", va="center",
                      fontsize=8.5, fontweight="bold" if name == "supernet" else "normal",
                      bbox={"facecolor": light("paper"), "linewidth": 0, "pad": 1.0})  # fmt: skip
    again = one.seed_ceiling
    if again and again.value is not None and again.low is not None:
        axes.axvline(again.value, color=light("ink"), linewidth=1.1, linestyle=_DASHES, zorder=1)
        axes.set_title(f"Dashed: agreement of two trainings, {again.value:.2f} (n = {again.n})")
        ends.append(again.value)
    axes.axvline(0, color=light("ink"), linewidth=0.8)
    axes.set_yticks(range(len(bars)), [score_words(name).replace(", ", ",\n") for name, *_ in bars], color=light("ink"))
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(min(ends) * 1.1, max(max(ends) * 1.16, 0.1))
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.set_xlabel("Kendall's tau with training, 95 % intervals")
