"""The plots of a run: each a matplotlib figure built from what the run wrote down, with no global plotting state.

Figures are drawn in the light tones of `palette`; `figure_svg` makes them follow the page's colour scheme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from se_nas.cost.budget import format_cost
from se_nas.records.models.history import Epoch
from se_nas.report.plots.figure import TICK_STEPS, WIDTH, drawn, metric_title, percent_tick, tick
from se_nas.report.theme.palette import light
from se_nas.space.choice import Option

History = Sequence[Epoch]
Choices = Mapping[str, Sequence[Option]]
Picks = Mapping[str, Option]


# ---- what the histories hold


def series(history: History, column: str, metric: str = "") -> tuple[list[float], list[float]]:
    """Epochs and values of one recorded number, or that of a metric, without the epochs that did not record it."""
    epochs, values = [], []
    for row in history:
        value = getattr(row, column, None)
        if isinstance(value, Mapping):
            value = value.get(metric)
        if isinstance(value, (int, float)):
            epochs.append(float(row.epoch))
            values.append(float(value))
    return epochs, values


def _warmup_end(history: History) -> float | None:
    last = [row.epoch for row in history if row.searching is False]
    return max(last) + 0.5 if last else None


def _shade_warmup(axes: Axes, history: History, named: bool) -> None:
    end = _warmup_end(history)
    if end is None:
        return
    start = float(history[0].epoch)
    axes.axvspan(start, end, color=light("wash"), linewidth=0, zorder=-1)
    if named:
        at = axes.get_xaxis_transform()
        axes.text(start, 0.02, " warm-up", transform=at, va="bottom", color=light("muted"), fontsize=7.5)


def _epoch_axis(axes: Axes, history: History) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS, integer=True))
    first, last = float(history[0].epoch), float(history[-1].epoch)
    axes.set_xlim(first, max(last, first + 1))
    axes.set_xlabel("epoch")


# ---- the figures


def expected_cost(history: History, limits: Mapping[str, float], final: Mapping[str, float]) -> Figure:
    """Expected cost over the epochs, one panel a metric, with its limit as a line and the decoded network as a point.

    Args:
        history: the search's epochs with "expected".
        limits: budgets by metric.
        final: the certified costs of the decoded network by metric.
    """

    def make() -> Figure:
        metrics = list(dict.fromkeys(key for row in history for key in row.expected or {}))
        metrics.sort(key=lambda metric: metric not in limits)
        figure = Figure(figsize=(WIDTH, 2.75), layout="constrained")
        for axes, metric in zip(np.atleast_1d(figure.subplots(1, max(len(metrics), 1))), metrics, strict=True):
            epochs, values = series(history, "expected", metric)
            _shade_warmup(axes, history, named=metric == metrics[0])
            axes.plot(epochs, values, color=light("blue"))
            _epoch_axis(axes, history)
            shown = [*values]
            if metric in limits:
                limit = limits[metric]
                axes.axhline(limit, color=light("ink"), linewidth=1.1, linestyle=(0, (4, 3)))
                axes.text(
                    0.012, limit, f"budget {format_cost(metric, limit)}", transform=axes.get_yaxis_transform(),
                    ha="left", va="bottom", fontsize=8,
                )  # fmt: skip
                shown.append(limit)
            if metric in final:
                axes.plot(
                    epochs[-1:], [final[metric]], "o", color=light("orange"), markersize=6, clip_on=False, zorder=5
                )
                shown.append(final[metric])
            low, high = min(shown), max(shown)
            room = 0.14 * ((high - low) or high or 1.0)
            axes.set_ylim(max(low - room, 0.0), high + 1.6 * room)
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
            axes.yaxis.set_major_formatter(FuncFormatter(tick))
            axes.set_title(metric_title(metric))
        return figure

    return drawn(make)


@dataclass(frozen=True)
class Panel:
    """One panel of lines over epochs: title, and (label, tone, dashed, path) of each line; its key inside or above."""

    title: str
    lines: tuple[tuple[str, str, bool, tuple[str, ...]], ...]
    percent: bool = False
    bounds: tuple[float, float] | None = None
    key_above: bool = False


def line_panels(panels: Sequence[tuple[History, Panel]], height: float, rows: int = 1) -> Figure:
    """Panels from left to right in `rows` equal rows, each `height` inches tall."""
    figure = Figure(figsize=(WIDTH, rows * height), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, max(len(panels) // rows, 1))).flat
    for axes, (history, panel) in zip(grid, panels, strict=True):
        _shade_warmup(axes, history, named=panel is panels[0][1])
        count = 0
        for label, tone, dashed, path in panel.lines:
            epochs, values = series(history, *path)
            if values:
                count += 1
                marker = "o" if len(values) == 1 else ""
                axes.plot(
                    epochs, values, color=light(tone), linestyle="--" if dashed else "-", label=label, marker=marker
                )
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
        axes.yaxis.set_major_formatter(FuncFormatter(percent_tick if panel.percent else tick))
        if panel.bounds:
            axes.set_ylim(*panel.bounds)
        _epoch_axis(axes, history)
        axes.set_title(panel.title)
        if count > 1 and panel.key_above:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1.02), ncols=count, handlelength=1.5, borderaxespad=0)
        elif count > 1:
            axes.legend(loc="best")
    return figure


def learning_curves(search: History, retrain: History) -> Figure:
    """Loss and accuracy of the search, or of its supernet alone, and, where it is not empty, of the retraining."""
    panels: list[tuple[History, Panel]] = []
    if series(search, "largest_accuracy")[1]:
        panels += [
            (search, Panel("Supernet: loss", (("loss", "blue", False, ("loss",)),))),
            (
                search,
                Panel(
                    "Supernet: accuracy",
                    (
                        ("train", "blue", True, ("accuracy",)),
                        ("largest subnet", "orange", False, ("largest_accuracy",)),
                        ("smallest subnet", "green", False, ("smallest_accuracy",)),
                    ),
                    True,
                ),
            ),
        ]
    elif search:
        panels += [
            (
                search,
                Panel(
                    "Search: loss",
                    (("weight steps", "blue", True, ("loss",)), ("choice steps", "orange", False, ("choice_loss",))),
                ),
            ),
            (
                search,
                Panel(
                    "Search: accuracy",
                    (
                        ("train, sampled", "blue", True, ("accuracy",)),
                        ("validation, decoded", "orange", False, ("validation_accuracy",)),
                    ),
                    True,
                ),
            ),
        ]
    if retrain:
        panels += [
            (retrain, Panel("Retraining: loss", (("loss", "blue", False, ("loss",)),))),
            (
                retrain,
                Panel(
                    "Retraining: accuracy",
                    (
                        ("train", "blue", True, ("accuracy",)),
                        ("test", "orange", False, ("test_accuracy",)),
                        ("test, averaged weights", "green", False, ("ema_test_accuracy",)),
                    ),
                    True,
                ),
            ),
        ]
    return drawn(lambda: line_panels(panels, 2.6))


def retraining_curves(history: History) -> Figure:
    """Loss, top-1 and top-5 accuracy, and learning rate of a retraining on ImageNet over its epochs."""
    accuracies = (
        ("held out", "orange", False, "val"),
        ("held out, averaged", "green", False, "ema_val"),
    )
    top1, top5 = (
        tuple((label, tone, dashed, (f"{prefix}_{top}",)) for label, tone, dashed, prefix in accuracies)
        for top in ("top1", "top5")
    )
    panels = [
        Panel("Training loss", (("loss", "blue", False, ("loss",)),)),
        Panel("Learning rate", (("learning rate", "blue", False, ("lr",)),)),
        Panel("Top-1 accuracy", (("train", "blue", True, ("accuracy",)), *top1), True, key_above=True),
        Panel("Top-5 accuracy", top5, True, key_above=True),
    ]
    return drawn(lambda: line_panels([(history, panel) for panel in panels], 2.6, rows=2))


def latency_agreement(predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> Figure:
    """Predicted against measured latency of held-out networks, with the bands of 5 and 10 %."""

    def make() -> Figure:
        figure = Figure(figsize=(4.6, 4.0), layout="constrained")
        axes = figure.subplots()
        low = 0.94 * min(*predicted_ms, *measured_ms)
        high = 1.06 * max(*predicted_ms, *measured_ms)
        line = np.array([low, high])
        axes.fill_between(line, 0.90 * line, 1.10 * line, color=light("rule"), alpha=0.45, linewidth=0, label="± 10 %")
        axes.fill_between(line, 0.95 * line, 1.05 * line, color=light("rule"), alpha=0.95, linewidth=0, label="± 5 %")
        axes.plot(line, line, color=light("muted"), linewidth=0.9)
        axes.plot(
            measured_ms, predicted_ms, "o", color=light("blue"), markersize=4.5, markeredgecolor=light("paper"),
            markeredgewidth=0.5,
        )  # fmt: skip
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_aspect("equal")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("measured (ms)")
        axes.set_ylabel("predicted (ms)")
        axes.legend(loc="upper left")
        return figure

    return drawn(make)
