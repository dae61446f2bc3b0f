"""The plots of a run: each a matplotlib figure built from what the run wrote down, with no global plotting state.

Figures are drawn in the light tones of `palette`; `figure_svg` makes them follow the page's colour scheme.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from se_nas.cost.budget import format_cost
from se_nas.records.models.history import Epoch
from se_nas.report.plots.figure import (
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
from se_nas.report.theme.palette import light
from se_nas.space.choice import Option

History = Sequence[Epoch]
Choices = Mapping[str, Sequence[Option]]
Picks = Mapping[str, Option]

#: A line above a panel; more would end where the panel does.
_TITLE_LETTERS = 44


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


def _pretraining_end(history: History) -> float | None:
    last = [row.epoch for row in history if row.searching is False]
    return max(last) + 0.5 if last else None


def _shade_pretraining(axes: Axes, history: History) -> None:
    """Shade the epochs before the choices moved."""
    end = _pretraining_end(history)
    if end is None:
        return
    start = float(history[0].epoch)
    shade = axes.axvspan(start, end, color=light("wash"), linewidth=0, zorder=-1)
    say_on_hover(shade, [f"pretraining, to epoch {end:.0f}"])


def _pretraining_key(history: History) -> list[Artist]:
    """What the shade means, where there is one."""
    if _pretraining_end(history) is None:
        return []
    return [Patch(facecolor=light("wash"), edgecolor=light("none"), linewidth=0.8, label="pretraining")]


def _epoch_axis(axes: Axes, history: History) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS, integer=True))
    first, last = float(history[0].epoch), float(history[-1].epoch)
    axes.set_xlim(first, max(last, first + 1))
    axes.set_xlabel("epoch")


# ---- the figures


@drawn
def expected_cost(history: History, limits: Mapping[str, float], final: Mapping[str, float]) -> Plot:
    """Expected cost over the epochs, with its limit as a line and the decoded network as a point.

    Args:
        history: the search's epochs with "expected".
        limits: budgets by metric.
        final: the certified costs of the decoded network by metric.
    """
    known = dict.fromkeys(key for row in history for key in row.expected or {})
    metrics = sorted(known, key=lambda metric: metric not in limits)
    keys = _pretraining_key(history)
    if set(metrics) & set(final):
        keys.append(Line2D([], [], marker="o", linestyle="", color=light("orange"), label="the final network"))
    panels = [_expected_panel(history, metric, limits.get(metric), final.get(metric)) for metric in metrics]
    return Plot(panels, keys)


def _expected_panel(history: History, metric: str, limit: float | None, final: float | None) -> Figure:
    figure, axes = panel(2.75)
    epochs, values = series(history, "expected", metric)
    _shade_pretraining(axes, history)
    axes.plot(epochs, values, color=light("blue"))
    say_along(axes, epochs, values, lambda epoch, cost: f"epoch {epoch:.0f}: {format_cost(metric, cost)}")
    _epoch_axis(axes, history)
    shown = [*values]
    line = drawn_limit(limit, values if final is None else [*values, final])
    if line is not None:
        axes.axhline(line, color=light("ink"), linewidth=1.1, linestyle=(0, (4, 3)))
        shown.append(line)
    if final is not None:
        (point,) = axes.plot(
            epochs[-1:], [final], "o", color=light("orange"), markersize=6, clip_on=False, zorder=10
        )  # fmt: skip
        say_on_hover(point, [f"the final network: {format_cost(metric, final)}"])
        shown.append(final)
    low, high = min(shown), max(shown)
    room = 0.14 * ((high - low) or high or 1.0)
    axes.set_ylim(max(low - room, 0.0), high + room)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(tick))
    # above the panel, where no curve can cross the words
    axes.set_title(textwrap.fill(limited_title(metric, limit, line), _TITLE_LETTERS))
    return figure


@dataclass(frozen=True)
class Panel:
    """One panel of lines over epochs: title, and (label, tone, dashed, path) of each line."""

    title: str
    lines: tuple[tuple[str, str, bool, tuple[str, ...]], ...]
    percent: bool = False
    bounds: tuple[float, float] | None = None


def line_panels(panels: Sequence[tuple[History, Panel]], height: float, columns: int = 3) -> Plot:
    """Panels of lines, each `height` inches tall."""
    keys = next(filter(None, (_pretraining_key(history) for history, _ in panels)), [])
    return Plot([_line_panel(history, lines, height) for history, lines in panels], keys, columns)


def _line_panel(history: History, lines: Panel, height: float) -> Figure:
    figure, axes = panel(height)
    _shade_pretraining(axes, history)
    shown = percent_tick if lines.percent else tick
    count = 0
    for label, tone, dashed, path in lines.lines:
        epochs, values = series(history, *path)
        if not values:
            continue
        count += 1
        marker = "o" if len(values) == 1 else ""
        axes.plot(epochs, values, color=light(tone), linestyle="--" if dashed else "-", label=label, marker=marker)
        say_along(axes, epochs, values, _saying(label, shown))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(shown))
    if lines.bounds:
        axes.set_ylim(*lines.bounds)
    _epoch_axis(axes, history)
    axes.set_title(lines.title)
    if count > 1:  # below the panel, where no curve can cross the words
        figure.legend(loc="outside lower left", ncols=count, handlelength=1.5, columnspacing=1.2)
    return figure


def _saying(label: str, shown: Callable[[float], str]) -> Callable[[float, float], str]:
    return lambda epoch, value: f"{label}, epoch {epoch:.0f}: {shown(float(f'{value:.4g}'))}"


@drawn
def learning_curves(search: History, retrain: History) -> Plot:
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
    return line_panels(panels, 2.6, columns=2)


@drawn
def retraining_curves(history: History) -> Plot:
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
        Panel("Top-1 accuracy", (("train", "blue", True, ("accuracy",)), *top1), True),
        Panel("Top-5 accuracy", top5, True),
    ]
    return line_panels([(history, lines) for lines in panels], 2.6, columns=2)


@drawn
def latency_agreement(predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> Figure:
    """Predicted against measured latency of held-out networks, with the bands of 5 and 10 %."""
    figure = Figure(figsize=(4.4, 3.9), layout="constrained")
    axes = figure.subplots()
    low = 0.94 * min(*predicted_ms, *measured_ms)
    high = 1.06 * max(*predicted_ms, *measured_ms)
    line = np.array([low, high])
    axes.fill_between(line, 0.90 * line, 1.10 * line, color=light("rule"), alpha=0.45, linewidth=0, label="± 10 %")
    axes.fill_between(line, 0.95 * line, 1.05 * line, color=light("rule"), alpha=0.95, linewidth=0, label="± 5 %")
    axes.plot(line, line, color=light("muted"), linewidth=0.9)
    (points,) = axes.plot(
        measured_ms, predicted_ms, "o", color=light("blue"), markersize=4.5, markeredgecolor=light("paper"),
        markeredgewidth=0.5,
    )  # fmt: skip
    pairs = zip(measured_ms, predicted_ms, strict=True)
    say_on_hover(points, [f"measured {a:.4g} ms, predicted {b:.4g} ms ({100 * (b / a - 1):+.1f} %)" for a, b in pairs])
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("measured (ms)")
    axes.set_ylabel("predicted (ms)")
    axes.legend(loc="upper left")
    return figure
