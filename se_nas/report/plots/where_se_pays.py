"""What each option of SE is worth in each block, beside what it costs there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from se_nas.cost.metrics import METRICS, is_aside, is_latency
from se_nas.records.fields import Metric
from se_nas.records.models.evidence import BlockGains, GainEntry
from se_nas.report.plots.evidence import block_words, points
from se_nas.report.plots.figure import TICK_STEPS, WIDTH, drawn, metric_title, metric_word, tick
from se_nas.report.plots.probabilities import se_ratio
from se_nas.report.plots.stability import text_on
from se_nas.report.theme.palette import RAMP_STEPS as SHADES
from se_nas.report.theme.palette import attention_tone, light


@drawn
def where_se_pays(blocks: Sequence[BlockGains]) -> Figure:
    """SE's gain in accuracy for each option and block in order of depth, above what each option costs there.

    Args:
        blocks: those of `where_se_pays.json` that have an option, at least one.
    """
    options = offered_options(blocks)
    references = {block.reference for block in blocks}
    rows = sorted({*options, *references}, key=_weakest_last)
    metrics = [
        metric
        for metric in METRICS.listed(name for block in blocks for option in block.options for name in option.plain())
        if not is_aside(metric)
        and any(added(option, metric) is not None for block in blocks for option in block.options)
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


def offered_options(blocks: Sequence[BlockGains]) -> list[str]:
    """Every option of SE that some block offers beside its reference, the widest first, SE's relatives last."""
    return sorted({option.option for block in blocks for option in block.options}, key=_weakest_last)


def added(option: GainEntry, metric: Metric) -> float | None:
    """What an option adds to the cost of its block; None where that is not known."""
    return option.of(metric)


def _weakest_last(option: str) -> tuple[bool, bool, float, str]:
    """Sorts SE's ratios from the widest hidden layer, then SE's relatives, then none."""
    return option == "none", not se_ratio(option), se_ratio(option), option


def excludes_zero(low: float | None, high: float | None) -> bool:
    """Whether there is an interval, and 0 is not in it."""
    return low is not None and high is not None and (low > 0 or high < 0)


def _column_words(blocks: Sequence[BlockGains]) -> list[str]:
    """Block by block, with the stage under its first one."""
    words, last = [], ""
    for block in blocks:
        stage, rest = block_words(block.block)
        short = rest.replace("block ", "") if len(blocks) > 14 else rest
        words.append(f"{short or stage}\n{stage if rest and stage != last else ''}")
        last = stage
    return words


def _gain_cells(figure: Figure, axes: Axes, blocks: Sequence[BlockGains], rows: Sequence[str]) -> None:
    gains = [abs(option.gain) for block in blocks for option in block.options if option.gain is not None]
    greatest = max([*gains, 1e-4])
    for column, block in enumerate(blocks):
        cells = {option.option: option for option in block.options}
        for row, name in enumerate(rows):
            option = cells.get(name)
            if name == block.reference:
                plain_cell(axes, column, row, "none", "0")
            elif option is not None and option.gain is not None:
                tone = gain_tone(option.gain, greatest)
                sure = excludes_zero(option.low, option.high)
                plain_cell(axes, column, row, tone, points(option.gain), bold=sure)
                if sure:
                    axes.plot([column + 0.38], [row - 0.31], "o", color=text_on(tone), markersize=2.6)
            if block.chosen == name:
                axes.add_patch(Rectangle((column - 0.46, row - 0.45), 0.92, 0.90, fill=False, linewidth=1.8,
                                         edgecolor=light("ink"), zorder=5))  # fmt: skip
        if block.chosen is None:
            axes.text(column, -0.62, "unused", ha="center", va="bottom", fontsize=7, color=light("muted"))
    axes.set_yticks(range(len(rows)), rows, color=light("ink"))
    axes.set_ylim(len(rows) - 0.46, -0.54)
    axes.tick_params(labelbottom=False)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    pad = 18 if any(block.chosen is None for block in blocks) else 8
    title = "Gain in points over the grey option (outlined: chosen; bold with a dot: the interval leaves out 0)"
    axes.set_title(title, pad=pad)
    _gain_scale(figure, axes, greatest)


def plain_cell(axes: Axes, column: int, row: int, tone: str, words: str, bold: bool = False) -> None:
    """One cell of a grid: a square of a tone with words on it."""
    axes.add_patch(Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, color=light(tone), linewidth=0))
    axes.text(column, row, words, ha="center", va="center", fontsize=7.8, color=text_on(tone),
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


def _option_costs(axes: Axes, blocks: Sequence[BlockGains], options: Sequence[str], metric: Metric) -> None:
    """Bars of what each option adds to a block, in parameters, MACs or microseconds."""
    factor = 1000.0 if is_latency(metric) else 1.0
    width = 0.84 / len(options)
    for rank, name in enumerate(options):
        cells = [
            (column, value)
            for column, block in enumerate(blocks)
            for option in block.options
            if option.option == name and (value := added(option, metric)) is not None
        ]
        places = [column + (rank - (len(options) - 1) / 2) * width for column, _ in cells]
        values = [factor * value for _, value in cells]
        axes.bar(places, values, 0.92 * width, color=light(attention_tone(name)), linewidth=0)
    title = f"{metric_word(metric)} added (µs, predicted)" if is_latency(metric) else f"{metric_title(metric)} added"
    axes.set_title(title, pad=5)
    axes.axhline(0, color=light("rule"), linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=TICK_STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(tick))
