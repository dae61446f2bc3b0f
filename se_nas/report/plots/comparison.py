"""The fronts of several searches in one plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from se_nas.cost.budget import format_cost
from se_nas.records.measure import Measure
from se_nas.report.plots.figure import (
    TICK_STEPS,
    Plot,
    drawn,
    metric_title,
    panel,
    percent_tick,
    say_on_hover,
    tick,
)
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


@drawn
def compared_fronts(runs: Sequence[SearchedRun], metrics: Sequence[str], measure: Measure) -> Plot:
    """What was measured against each cost, one panel each: a line is the front of a search, a mark its answer."""
    panels = []
    keys: dict[str, Artist] = {}
    for metric in metrics:
        figure, axes = panel(3.3)
        for number, run in enumerate(runs):
            _draw(axes, run, metric, number, measure)
        axes.set_title(f"{measure.name}, as each search judged it")
        axes.set_xlabel(metric_title(metric))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
        axes.xaxis.set_major_formatter(FuncFormatter(tick))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
        axes.grid(True, axis="both")
        if not measure.raised:
            axes.invert_yaxis()
        if measure.share:
            axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
        handles, labels = axes.get_legend_handles_labels()
        keys |= dict(zip(labels, handles, strict=True))
        panels.append(figure)
    return Plot(panels, list(keys.values()))


def _draw(axes: Axes, run: SearchedRun, metric: str, number: int, measure: Measure) -> None:
    tone = light(_TONES[number % len(_TONES)])
    mark = _MARKS[(number // len(_TONES) + number) % len(_MARKS)]
    front = front_of(run.evaluations, ("accuracy", metric)) if _has(run.evaluations, metric) else []
    if front:
        points = sorted((entry.costs[metric], run.worth(float(entry.accuracy or 0.0))) for entry in front)
        axes.step(*zip(*points, strict=True), where="post", color=tone, alpha=0.8, zorder=3)
    if metric in run.costs:
        (point,) = axes.plot(
            [run.costs[metric]], [run.accuracy], mark, color=tone, markersize=8, label=run.label, zorder=6,
            markeredgecolor=light("paper"), markeredgewidth=0.8,
        )  # fmt: skip
        value = f"{measure.show(run.accuracy)}, {format_cost(metric, run.costs[metric])}"
        say_on_hover(point, [f"{run.label}: {value}"])
    else:
        axes.plot([], [], mark, color=tone, label=run.label)


def _has(evaluations: Sequence[Evaluation], metric: str) -> bool:
    return bool(evaluations) and metric in evaluations[0].costs
