"""Searches that differ by their seed alone, choice by choice."""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from se_nas.records.models.evidence import StabilityPart
from se_nas.report.plots.evidence import block_words, trained_accuracy
from se_nas.report.plots.figure import TICK_STEPS, Plot, drawn, panel, percent_tick, say_on_hover
from se_nas.report.theme.palette import attention_tone, light
from se_nas.report.theme.words import ABSENT


@drawn
def stability(found: StabilityPart) -> Plot:
    """What each search chose for each block, and how often two searches agree beside two random networks.

    Args:
        found: `stability.json` with at least one answer and one block.
    """
    blocks, answers = found.blocks, found.answers
    rows = len(blocks) + 1.4
    panels = []
    for title in ("", "Two searches agree: SE or none", "Two searches agree: ratio"):
        figure, axes = panel(0.27 * rows + 0.75)
        if not title:
            _choices_of_searches(axes, found)
        else:
            _agreement(axes, found, "ratio" if title.endswith("ratio") else "on_off")
            axes.set_title(title)
        axes.set_ylim(rows, -0.1)
        panels.append(figure)
    count = len(answers) * (len(answers) - 1) // 2
    pairs = f"{count} pair{'s' * (count != 1)} of {len(answers)} search{'es' * (len(answers) != 1)}"
    keys = [Patch(color=light("rank-6"), label=pairs),
            Line2D([], [], color=light("ink"), marker="|", linestyle="", markersize=9, markeredgewidth=1.6,
                   label="pairs of random networks")]  # fmt: skip
    return Plot(panels, keys)


def _choices_of_searches(axes: Axes, found: StabilityPart) -> None:
    blocks, answers = found.blocks, found.answers
    for row, block in enumerate(blocks):
        for column, answer in enumerate(answers):
            option = answer.se.get(block.block)
            middle = (column + 0.5, row + 0.5)
            if option is None:
                axes.text(*middle, ABSENT, ha="center", va="center", color=light("muted"), fontsize=8)
                continue
            tone = attention_tone(option)
            axes.add_patch(Rectangle((column + 0.03, row + 0.06), 0.94, 0.88, color=light(tone), linewidth=0))
            axes.text(*middle, option, ha="center", va="center", color=text_on(tone), fontsize=8)
    axes.set_xlim(0, max(len(answers), 1))
    axes.xaxis.tick_top()
    heads = []
    for answer in answers:
        mean = trained_accuracy(answer)
        heads.append(f"seed {answer.seed}" + ("" if mean is None else f"\n{100 * mean:.2f} %"))
    axes.set_xticks([column + 0.5 for column in range(len(answers))], heads, color=light("ink"), fontsize=8)
    axes.set_yticks([row + 0.5 for row in range(len(blocks))], _rows(found), color=light("ink"), fontsize=8)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _rows(found: StabilityPart) -> list[str]:
    """A row a block, as every panel names it."""
    return [" · ".join(filter(None, block_words(block.block))) for block in found.blocks]


def text_on(tone: str) -> str:
    """A colour of text that can be read on a tone in either colour scheme: ramps run from paper's end to ink's."""
    step = int(tone.rsplit("-", 1)[1]) if tone[-1].isdigit() else None
    if step is None:
        return light("ink") if tone in ("none", "wash") else "black"
    return light("ink") if step <= 4 else "black" if step <= 10 else light("paper")


def _agreement(axes: Axes, found: StabilityPart, key: Literal["on_off", "ratio"]) -> None:
    by_block = [
        (block.on_off, block.random_on_off) if key == "on_off" else (block.ratio, block.random_ratio)
        for block in found.blocks
    ]
    rows = [(row + 0.5, *both) for row, both in enumerate(by_block)]
    whole = found.on_off if key == "on_off" else found.ratio
    last = len(rows) + 0.9
    for place, value, chance in [*rows, (last, whole.value, whole.random)]:
        tone = light("blue" if place == last else "rank-6")
        if value is not None:
            (bar,) = axes.barh(place, value, height=0.56, color=tone, linewidth=0)
            of_random = "" if chance is None else f"; random networks in {chance:.0%}"
            say_on_hover(bar, [f"searches agree in {value:.0%} of the pairs{of_random}"])
        if chance is not None:
            axes.plot([chance], [place], "|", color=light("ink"), markersize=9, markeredgewidth=1.6, zorder=4)
    places = [*(place for place, *_ in rows), last]
    axes.set_yticks(places, [*_rows(found), "all"], color=light("ink"), fontsize=8)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
