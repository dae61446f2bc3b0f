"""Predicted against measured latency of networks that were timed for the evidence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from se_nas.cost.metrics import device_of
from se_nas.records.models.evidence import LatencyCheck, LatencyPart, TimedEntry
from se_nas.report.plots.evidence import capital
from se_nas.report.plots.figure import TICK_STEPS, Plot, drawn, panel, say_on_hover
from se_nas.report.theme.palette import light


@drawn
def latency_check(found: LatencyPart) -> Plot:
    """Predicted against measured latency of each set of networks, and the error of each prediction; 5 % is shaded.

    Args:
        found: `latency_check.json` with at least one network of some device.
    """
    plots = [_of_device(device_of(metric), check) for metric, check in found.devices.items() if check.sets]
    return Plot([part for plot in plots for part in plot.panels], plots[0].keys, columns=2)


def _of_device(device: str | None, check: LatencyCheck) -> Plot:
    agreement, left = panel(3.6)
    errors, right = panel(3.6)
    networks = [network for one in check.sets for network in one.networks]
    ends = [value for network in networks for value in (network.predicted_ms, network.measured_ms)]
    low, high = 0.96 * min(ends), 1.04 * max(ends)
    line = np.array([low, high])
    band: dict[str, Any] = {"color": light("rule"), "alpha": 0.6, "linewidth": 0}
    left.fill_between(line, 0.95 * line, 1.05 * line, label="± 5 %", **band)
    left.plot(line, line, color=light("muted"), linewidth=0.9)
    right.axhspan(-5, 5, **band)
    right.axhline(0, color=light("muted"), linewidth=0.9)
    looks = zip(("orange", "blue", "green", "red"), ("o", "s", "^", "D"), strict=True)
    for one, (tone, marker) in zip(check.sets, looks, strict=False):
        _latency_points(left, right, one.networks, light(tone), marker, capital(one.name))
    left.set_xlim(low, high)
    left.set_ylim(low, high)
    left.set_aspect("equal")
    left.grid(True, axis="both")
    if device is not None:
        left.set_title(device)
        right.set_title(device)
    left.set_ylabel("predicted (ms)")
    right.set_ylabel("predicted over measured, 95 % interval")
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g} %" if value else "0"))
    furthest = max([6.0, *map(abs, right.get_ylim())])
    right.set_ylim(-furthest, furthest)
    for axes in (left, right):
        axes.set_xlabel("measured (ms)")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
    return Plot([agreement, errors], left.get_legend_handles_labels()[0], columns=2)


def _latency_points(
    left: Axes, right: Axes, networks: Iterable[TimedEntry], tone: str, marker: str, label: str
) -> None:
    style: dict[str, Any] = {"markersize": 5, "markeredgecolor": light("paper"), "markeredgewidth": 0.5, "zorder": 4}
    for number, network in enumerate(networks):
        predicted, measured = network.predicted_ms, network.measured_ms
        low, high = network.low, network.high
        if low is not None and high is not None:
            left.plot([low, high], [predicted, predicted], color=tone, linewidth=0.9, alpha=0.7)
            errors = [100 * (predicted / end - 1) for end in (low, high)]
            right.plot([measured, measured], errors, color=tone, linewidth=0.9, alpha=0.7)
        error = 100 * (predicted / measured - 1)
        words = f"{network.name}: measured {measured:.4g} ms, predicted {predicted:.4g} ms ({error:+.1f} %)"
        for axes, height in ((left, predicted), (right, error)):
            shown = "_" if number or axes is right else label
            (point,) = axes.plot([measured], [height], marker, color=tone, label=shown, **style)
            say_on_hover(point, [words])
