"""The fronts of several searches in one plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from se_nas.records.measure import Measure
from se_nas.report.plots.figure import TICK_STEPS, WIDTH, drawn, metric_title, percent_tick, tick
from se_nas.report.theme.palette import light
from se_nas.search.black_box.evaluation import Evaluation
from se_nas.search.black_box.pareto import front_of

_TONES = ("blue", "orange", "green", "red", "ink", "muted")
_MARKS = ("o", "s", "D", "^", "v", "P")


@dataclass(frozen=True)
class SearchedRun:
    """An answer, and the evaluations that a black-box search made.

    Attributes:
        accuracy: of the answer, as its search judged it.
        worth: what an evaluation's accuracy stands for, as it was measured.
    """

    label: str
    costs: Mapping[str, float]
    accuracy: float
    evaluations: Sequence[Evaluation]
    worth: Callable[[float], float]


def compared_fronts(runs: Sequence[SearchedRun], metrics: Sequence[str], measure: Measure) -> Figure:
    """What was measured against each cost, one panel each: a line is the front of a search, a mark its answer."""

    def make() -> Figure:
        rows = -(-len(metrics) // 3)
        columns = min(3, len(metrics))
        size = (WIDTH, 3.9 * rows)
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.12))
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
        for axes, metric in zip(panels, metrics, strict=False):
            for number, run in enumerate(runs):
                _draw(axes, run, metric, number)
            axes.set_xlabel(metric_title(metric))
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
            axes.xaxis.set_major_formatter(FuncFormatter(tick))
            axes.grid(True, axis="both")
        for axes in list(panels)[len(metrics) :]:
            axes.set_axis_off()
        if not measure.raised:
            figure.axes[0].invert_yaxis()  # the panels share it
        if measure.share:
            figure.axes[0].yaxis.set_major_formatter(FuncFormatter(percent_tick))
        figure.axes[0].set_ylabel(f"{measure.name}, as each search judged it")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)))
        return figure

    return drawn(make)


def _draw(axes: Axes, run: SearchedRun, metric: str, number: int) -> None:
    tone = light(_TONES[number % len(_TONES)])
    mark = _MARKS[(number // len(_TONES) + number) % len(_MARKS)]
    front = front_of(run.evaluations, ("accuracy", metric)) if _has(run.evaluations, metric) else []
    if front:
        points = sorted((entry.costs[metric], run.worth(float(entry.accuracy or 0.0))) for entry in front)
        axes.step(*zip(*points, strict=True), where="post", color=tone, alpha=0.8, zorder=3)
    if metric in run.costs:
        axes.plot(
            [run.costs[metric]], [run.accuracy], mark, color=tone, markersize=8, label=run.label, zorder=6,
            markeredgecolor=light("paper"), markeredgewidth=0.8,
        )  # fmt: skip
    else:
        axes.plot([], [], mark, color=tone, label=run.label)


def _has(evaluations: Sequence[Evaluation], metric: str) -> bool:
    return bool(evaluations) and metric in evaluations[0].costs
