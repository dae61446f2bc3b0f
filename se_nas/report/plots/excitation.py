"""The plots of what SE learned: gates by channel and class, by depth, and the accuracy that each unit is worth.

The first is the figure of https://arxiv.org/abs/1709.01507 (section 7.2): mean gates of a few classes over channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from se_nas.evidence.excitation import Excitation, Loss, UnitStudy
from se_nas.report.plots.figure import TICK_STEPS, WIDTH, Plot, drawn, panel, percent_tick
from se_nas.report.theme.palette import RAMP_STEPS as SHADES
from se_nas.report.theme.palette import light
from se_nas.report.theme.scripts import name_in_plot
from se_nas.report.theme.words import TIMES

CHANNELS = 50
"""Channels of a unit that are drawn, evenly spaced, as in the paper."""

_PANELS = 6
_CLASS_ROWS = 40
_CLASS_TONES = ("blue", "orange", "green", "red")
SHOWN_CLASSES = len(_CLASS_TONES)


def spread_over(count: int, wanted: int) -> list[int]:
    """At most `wanted` numbers from 0 to count - 1, evenly spaced, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(wanted, count))})


def _title(study: UnitStudy) -> str:
    spec = study.unit.spec
    side = spec.se_resolution
    return f"Block {study.unit.number}: {spec.se_channels} channels at {side} {TIMES} {side}"


@drawn
def class_gates(excitation: Excitation, classes: Sequence[int]) -> Plot:
    """Mean gate of each channel for a few classes and for all images, one panel a unit, at most six, first to last.

    Of units whose channels have gates of their own; there must be one.

    Args:
        classes: numbers of at most SHOWN_CLASSES classes that have images.
    """
    of_channels = [study for study in excitation.units if not study.unit.shares_gates]
    units = [of_channels[place] for place in spread_over(len(of_channels), _PANELS)]
    shown = [(study.gates.mean, study.gates.class_mean[list(classes)]) for study in units]
    lowest = min(float(gates.min()) for both in shown for gates in both)
    highest = max(float(gates.max()) for both in shown for gates in both)
    room = 0.05 * max(highest - lowest, 1e-3)
    panels = []
    for study in units:
        figure, axes = panel(2.35)
        channels = spread_over(study.gates.class_mean.shape[1], CHANNELS)
        axes.plot(channels, study.gates.mean[channels], color=light("muted"), linewidth=3.2, alpha=0.35)
        for number, tone in zip(classes, _CLASS_TONES, strict=False):
            axes.plot(channels, study.gates.class_mean[number, channels], color=light(tone), linewidth=1.1)
        axes.set_title(f"{_title(study)}: mean gate")
        axes.set_ylim(lowest - room, highest + room)  # the same in every panel
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS, integer=True))
        axes.set_xlabel("channel")
        panels.append(figure)
    keys = [Line2D([], [], color=light("muted"), linewidth=3.2, alpha=0.35, label="all images")]
    keys += [
        Line2D([], [], color=light(tone), label=name_in_plot(excitation.classes[number]))
        for number, tone in zip(classes, _CLASS_TONES, strict=False)
    ]
    return Plot(panels, keys)


@drawn
def by_depth(excitation: Excitation) -> Plot:
    """How large the gates are, how far classes explain them, and how many are saturated, from block to block."""
    blocks = [study.unit.number for study in excitation.units]
    gates = [study.gates for study in excitation.units]
    figures = [panel(2.9) for _ in range(3)]
    level, share, ends = (axes for _, axes in figures)
    means = np.array([found.mean.mean() for found in gates])
    among = np.array([found.mean.std() for found in gates])
    level.errorbar(
        blocks, means, among, fmt="o-", color=light("blue"), ecolor=light("rule"), elinewidth=5, markersize=4,
        label="mean, ± channels",
    )  # fmt: skip
    moving = [float(np.sqrt(np.square(found.std).mean())) for found in gates]
    level.plot(blocks, moving, "o-", color=light("orange"), markersize=4, label="± images")
    level.set_title("Gates")
    share.plot(
        blocks, [np.nan if found.class_share is None else found.class_share for found in gates], "o-",
        color=light("blue"), markersize=4,
    )  # fmt: skip
    share.set_title("Variance that classes explain")
    shares = [np.array([study.opened, study.closed], dtype=float) for study in excitation.units]  # None is NaN
    for shown, tone, label in zip(np.transpose(shares), ("orange", "blue"), ("> 0.95", "< 0.05"), strict=True):
        ends.plot(blocks, shown, "o-", color=light(tone), markersize=4, label=label)
    ends.set_title("Saturated gates")
    for figure, axes in (figures[0], figures[2]):
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=2, handlelength=1.5)
    for axes in (share, ends):
        axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    for axes in (level, share, ends):
        top = max(axes.get_ylim()[1], 1e-3)
        axes.set_ylim(min(axes.get_ylim()[0], 0.0), 1.08 * top)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
        _block_axis(axes, blocks)
    return Plot([figure for figure, _ in figures])


@drawn
def class_by_depth(excitation: Excitation) -> Figure:
    """How far the gates of each class are from those of all images, in each unit: a row a class, a column a unit.

    Of more than forty classes the forty that are farthest in some unit.
    """
    distances = np.stack([study.gates.class_distance for study in excitation.units], axis=1)
    seen = [number for number in range(len(excitation.classes)) if np.isfinite(distances[number]).all()]
    seen = sorted(sorted(seen, key=lambda number: -distances[number].max())[:_CLASS_ROWS])
    cells = distances[seen]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.24 * len(seen)), layout="constrained")
    axes = figure.subplots()
    tones = ListedColormap([light(f"rank-{step}") for step in range(SHADES + 1)])
    edges = np.linspace(0, max(float(cells.max()), 1e-6), SHADES + 2)
    image = axes.pcolormesh(
        cells, cmap=tones, norm=BoundaryNorm(edges, tones.N), edgecolors=light("paper"), linewidth=0.8
    )
    axes.invert_yaxis()
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_yticks(np.arange(len(seen)) + 0.5, [name_in_plot(excitation.classes[number]) for number in seen])
    axes.set_xticks(np.arange(len(excitation.units)) + 0.5, [str(study.unit.number) for study in excitation.units])
    axes.set_xlabel("block")
    bar = figure.colorbar(image, ax=axes, ticks=edges[:: SHADES // 4], format="%.2g", aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("distance of the gates from those of all images")
    return figure


@drawn
def accuracy_lost(excitation: Excitation) -> Figure:
    """Accuracy lost with one unit's gates fixed at their mean, and with the unit left out, with 95 % intervals."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(excitation.units))
    fixed, removed = ([getattr(study, name) for study in excitation.units] for name in ("fixed", "removed"))
    _bars(axes, places - 0.2, fixed, "orange", "gates fixed at their mean")
    _bars(axes, places + 0.2, removed, "none", "without SE (gates of 1)")
    axes.axhline(0, color=light("ink"), linewidth=0.8)
    axes.set_xticks(places, [str(study.unit.number) for study in excitation.units])
    axes.set_xlim(-0.6, len(places) - 0.4)
    # a unit that the network cannot do without must not hide the others
    ends = [end for loss in fixed for end in loss.interval]
    room = 0.08 * max(max(ends) - min(ends), 1e-4)
    top = max(max(ends) + room, min(max(loss.interval[1] for loss in removed) + room, 2.5 * max(ends)))
    axes.set_ylim(min(min(ends), min(loss.interval[0] for loss in removed)) - room, top)
    for place, loss in zip(places, removed, strict=True):
        if loss.share > top:
            axes.text(
                place + 0.2, top, percent_tick(round(loss.share, 3)), ha="center", va="bottom", fontsize=7.5,
                color=light("muted"),
            )  # fmt: skip
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    axes.set_xlabel("block")
    axes.set_ylabel("accuracy lost")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _bars(axes: Axes, places: np.ndarray, losses: Sequence[Loss], tone: str, label: str) -> None:
    shares = np.array([loss.share for loss in losses])
    ends = np.array([loss.interval for loss in losses]).T
    reach = np.abs(ends - shares)  # the interval's middle is drawn towards 0, but never past the share
    axes.bar(places, shares, 0.38, color=light(tone), label=label)
    axes.errorbar(places, shares, reach, fmt="none", ecolor=light("ink"), elinewidth=0.9, capsize=0)


def _block_axis(axes: Axes, blocks: Sequence[int]) -> None:
    axes.set_xticks([blocks[place] for place in spread_over(len(blocks), 12)])
    axes.set_xlim(blocks[0] - 0.5, blocks[-1] + 0.5)
    axes.set_xlabel("block")
