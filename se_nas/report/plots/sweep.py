"""The plot of a sweep: parameters, MACs and latency of each option, in bars from 0 that compare as the costs do."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from se_nas.evidence.sweep import MeasuredSweep, Sweep
from se_nas.report.plots.figure import TICK_STEPS, WIDTH, drawn, metric_title, tick
from se_nas.report.theme.palette import light

_PART_WORDS = {"se": "SE ratio"}


@drawn
def sweep_plot(sweep: Sweep, measured: MeasuredSweep | None) -> Figure:
    """One panel a cost, one bar an option; latency with its 95 % interval, where it was measured."""
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    panels = figure.subplots(1, 2 if measured is None else 3)
    options = [point.option for point in sweep.points]
    for axes, metric in zip(panels, ("params", "macs", "latency_ms"), strict=False):
        axes.set_title(metric_title(metric))
        axes.set_xlabel(_PART_WORDS.get(sweep.part, sweep.part))
        axes.yaxis.set_major_formatter(FuncFormatter(tick))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
    _bars(panels[0], options, [point.counts.params for point in sweep.points], "orange")
    _bars(panels[1], options, [point.counts.macs for point in sweep.points], "block")
    if measured is not None:
        _latency_bars(panels[2], options, measured)
        figure.supxlabel(measured.conditions, x=0.995, ha="right", fontsize=7, color=light("muted"))
    figure.suptitle(sweep.space, x=0.005, ha="left", fontsize=9.5)
    return figure


def _bars(axes: Axes, options: list[str], counts: list[int], tone: str) -> None:
    bars = axes.bar(options, counts, 0.62, color=light(tone))
    words = [tick(float(f"{count:.4g}")) for count in counts]
    axes.bar_label(bars, words, padding=3, fontsize=7.5, color=light("muted"))
    axes.set_ylim(0, 1.12 * max(counts))


def _latency_bars(axes: Axes, options: list[str], measured: MeasuredSweep) -> None:
    medians = np.array([latency.median_ms for latency in measured.latencies])
    ends = np.array([latency.ci95_ms for latency in measured.latencies]).T
    style = {"ecolor": light("ink"), "elinewidth": 0.9, "capsize": 3}
    bars = axes.bar(options, medians, 0.62, color=light("blue"), yerr=np.abs(ends - medians), error_kw=style)
    axes.bar_label(bars, [f"{median:.3g}" for median in medians], padding=3, fontsize=7.5, color=light("muted"))
    axes.set_ylim(0, 1.12 * float(ends.max()))
