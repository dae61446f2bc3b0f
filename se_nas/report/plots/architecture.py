"""A network as one picture: a box a block from left to right, with its kernel, its width and its SE to the same scale.

The picture is an SVG that stands alone: it carries its own styles for light and dark, needs no font and no script.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from html import escape
from typing import NamedTuple

from markupsafe import Markup

from se_nas.cost.budget import format_cost
from se_nas.cost.counts import block_counts, head_counts, stem_counts
from se_nas.report.theme.palette import attention_tone, se_tone, tones
from se_nas.report.theme.words import TIMES
from se_nas.space.block_plan import block_plan
from se_nas.space.blocks import BLOCKS
from se_nas.space.counts import Counts
from se_nas.space.specs import BlockSpec, NetworkSpec

_MAX_IN_ROW = 28
_TALLEST = 168.0  # pixels of the widest layer
_LEFT = 64.0  # room for the lanes' names
_RIGHT = 10.0
_BASELINE = 226.0  # foot of the boxes within a row
_LEGEND_RATIOS = (32, 16, 8, 4, 2)
_ROW = 328.0
_LEGEND = 62.0

_RULES: tuple[tuple[str, str, str], ...] = (
    (".t", "fill", "ink"),
    (".q", "fill", "muted"),
    (".paper", "fill", "paper"),
    (".band", "fill", "wash"),
    (".rule", "stroke", "rule"),
    (".flow", "stroke", "muted"),
    (".box", "fill", "block"),
    (".box", "stroke", "edge"),
    (".bare", "fill", "paper"),
    (".bare", "stroke", "muted"),
    (".end", "fill", "wash"),
    (".end", "stroke", "muted"),
)


def draw_architecture_svg(network: NetworkSpec, title: str = "") -> Markup:
    """The network as a self-contained SVG element.

    Args:
        network: what to draw; more than 28 boxes wrap into rows.
        title: printed above the picture where not empty.

    Returns:
        The text of one <svg> element; every block is a group of class "block" with its facts as a tooltip.
    """
    boxes = [_stem, *(_block_drawer(block, i + 1) for i, block in enumerate(network.blocks)), _head]
    rows = math.ceil(len(boxes) / _MAX_IN_ROW)
    per_row = math.ceil(len(boxes) / rows)
    unit = min(max((1080 - _LEFT - _RIGHT) / per_row, 40.0), 77.0)
    width = max(_LEFT + per_row * unit + _RIGHT, 660.0)
    top = 34.0 if title else 6.0
    height = top + rows * _ROW + _LEGEND
    widest = max(_widths(network))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="se-nas-architecture" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{escape(title or "Architecture")}">',
        f"<style>{_style(network)}</style>",
        f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
    ]
    if title:
        parts.append(f'<text class="t title" x="0" y="20">{escape(title)}</text>')
    for row in range(rows):
        start, stop = row * per_row, min((row + 1) * per_row, len(boxes))
        parts.append(f'<g transform="translate(0 {top + row * _ROW:.0f})">')
        parts.extend(_lanes(network, start, stop, unit))
        for column, draw in enumerate(boxes[start:stop]):
            parts.append(draw(network, _Column(_LEFT + (column + 0.5) * unit, unit, _TALLEST / math.sqrt(widest))))
        parts.append("</g>")
    parts.append(f'<g transform="translate(0 {top + rows * _ROW:.0f})">{_legend(width)}</g>')
    return Markup("\n".join((*parts, "</svg>")))


def _widths(network: NetworkSpec) -> list[int]:
    blocks = [block.expanded for block in network.blocks]
    return [network.stem_convs[-1].out_channels, *blocks, network.head.features]


def _style(network: NetworkSpec) -> str:
    used = {attention_tone(block.se.label) for block in network.blocks if block.se} | set(map(se_tone, _LEGEND_RATIOS))
    rules = (*_RULES, *((f".{tone}", "fill", tone) for tone in sorted(used)))
    colours = tones()

    def sheet(dark: bool) -> str:
        return "".join(
            f".se-nas-architecture {selector}{{{key}:{colours[name].dark if dark else colours[name].light}}}"
            for selector, key, name in rules
        )

    return (
        ".se-nas-architecture text{font:11px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;"
        "text-anchor:middle}"
        ".se-nas-architecture .s{font-size:9.5px}.se-nas-architecture .b{font-weight:600}"
        ".se-nas-architecture .l{text-anchor:start}"
        ".se-nas-architecture .title{font-size:15px;font-weight:600;text-anchor:start}"
        ".se-nas-architecture .rule,.se-nas-architecture .flow{fill:none}"
        ".se-nas-architecture .bare{stroke-dasharray:3 2.5}"
        + sheet(dark=False)
        + "@media screen and (prefers-color-scheme:dark){"
        + sheet(dark=True)
        + "}"
    )


# ---- one box


class _Column(NamedTuple):
    """Where a box stands: its middle, the width of a column, and the pixels of the root of a channel."""

    x: float
    unit: float
    scale: float

    def box(self, channels: int) -> tuple[float, float]:
        """Width and height of a box of so many channels."""
        return min(self.unit - 8, 54.0), self.scale * math.sqrt(channels)


def _tooltip(words: str, counts: Counts) -> str:
    costs = f"{format_cost('macs', counts.macs)}, {format_cost('params', counts.params)}"
    return f"<title>{escape(words)}; {costs}</title>"


def _side_by_side(side: int) -> str:
    return f"{side}{TIMES}{side}"


def _block_drawer(block: BlockSpec, number: int) -> Callable[[NetworkSpec, _Column], str]:
    def draw(network: NetworkSpec, column: _Column) -> str:
        return _block(block, number, column)

    return draw


def _block(block: BlockSpec, number: int, column: _Column) -> str:
    x, (width, height) = column.x, column.box(block.expanded)
    left, top = x - width / 2, _BASELINE - height
    look = "box" if block.se else "bare"
    kernel = BLOCKS[block.kind].mark(block)
    parts = [
        f'<g class="block">{_tooltip(f"Block {number}: {block.words()}", block_counts(block))}',
        f'<rect class="{look}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3"/>',
        f'<text class="q s" x="{x:.1f}" y="{top - 5:.1f}">{block.expanded}</text>',
        f'<text class="t b" x="{x:.1f}" y="{top + height / 2 + 4:.1f}">{kernel}</text>',
    ]
    lane = _BASELINE + 30
    if block.se:
        _, bar = column.box(block.se_hidden)
        tone = attention_tone(block.se.label)
        parts[3] = f'<text class="t b" x="{x - 4:.1f}" y="{top + height / 2 + 4:.1f}">{kernel}</text>'
        parts += [
            f'<rect class="{tone}" x="{left + width - 8:.1f}" y="{_BASELINE - bar:.1f}" width="8" '
            f'height="{bar:.1f}" rx="1.5"/>',
            f'<rect class="{tone}" x="{left:.1f}" y="{lane - 11:.1f}" width="{width:.1f}" height="5" rx="2.5"/>',
            f'<text class="t b" x="{x:.1f}" y="{lane + 8:.1f}">{block.se.label}</text>',
            f'<text class="q s" x="{x:.1f}" y="{lane + 21:.1f}">{block.se_hidden or ""}</text>',
        ]
    else:
        parts.append(f'<text class="q s" x="{x:.1f}" y="{lane + 7:.1f}">none</text>')
    if block_plan(block).skip == "input" or block_plan(block).is_empty:  # the skip connection passes beneath the box
        parts.append(f'<path class="flow" d="M{left - 3:.1f} {_BASELINE} q0 9 9 9 H{left + width - 6:.1f} q9 0 9 -9"/>')
    return "".join((*parts, "</g>"))


def _end(words: str, counts: Counts, label: str, channels: int, column: _Column) -> str:
    x, (width, height) = column.x, column.box(channels)
    return (
        f'<g class="ends">{_tooltip(words, counts)}'
        f'<rect class="end" x="{x - width / 2:.1f}" y="{_BASELINE - height:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="3"/>'
        f'<text class="q s" x="{x:.1f}" y="{_BASELINE - height - 5:.1f}">{channels}</text>'
        f'<text class="t s" x="{x:.1f}" y="{_BASELINE - height / 2 + 3.5:.1f}">{label}</text></g>'
    )


def _stem(network: NetworkSpec, column: _Column) -> str:
    convs = network.stem_convs
    words = "; then ".join(
        f"{conv.kernel}x{conv.kernel} convolution, {conv.in_channels} to {conv.out_channels} channels at "
        f"{conv.resolution}x{conv.resolution}, stride {conv.stride}{', then 3x3 max-pooling' if conv.pool else ''}"
        for conv in convs
    )
    return _end(f"Stem: {words}", stem_counts(convs), "stem", convs[-1].out_channels, column)


def _head(network: NetworkSpec, column: _Column) -> str:
    head = network.head
    words = f"Head: {head.in_channels} channels, {head.features} features, {head.classes} classes"
    return _end(words, head_counts(head), "head", head.features, column)


# ---- what runs behind and beneath the boxes


def _lanes(network: NetworkSpec, start: int, stop: int, unit: float) -> list[str]:
    """Resolution bands, the line of flow, stride marks, and the brackets of equal output channels."""
    last = network.stem_convs[-1]
    ends = [
        (last.out_resolution, last.out_channels, math.prod(conv.reduction for conv in network.stem_convs)),
        *((block.out_resolution, block.out_channels, block.stride) for block in network.blocks),
        (network.head.resolution, 0, 1),
    ]
    shown = ends[start:stop]
    lane = _BASELINE + 30
    parts = [
        f'<text class="q s l" x="0" y="{_BASELINE - 3:.0f}">expanded</text>',
        f'<text class="q s l" x="0" y="{_BASELINE + 8:.0f}">channels</text>',
        f'<text class="q s l" x="0" y="{lane + 7:.0f}">SE</text>',
        f'<text class="q s l" x="0" y="{lane + 21:.0f}">hidden</text>',
        f'<text class="q s l" x="0" y="{lane + 50:.0f}">output</text>',
        '<text class="q s l" x="0" y="20">pixels</text>',
    ]
    places = list(enumerate(shown))
    for resolution, group in itertools.groupby(places, key=lambda place: place[1][0]):
        columns = [column for column, _ in group]
        left, right = _LEFT + columns[0] * unit + 2, _LEFT + (columns[-1] + 1) * unit - 2
        parts.append(
            f'<rect class="band" x="{left:.1f}" y="4" width="{right - left:.1f}" height="{_BASELINE + 10:.0f}" rx="5"/>'
        )
        middle = (left + right) / 2
        parts.append(f'<text class="t s" x="{middle:.1f}" y="20">{_side_by_side(resolution)}</text>')
    parts.append(
        f'<path class="flow" d="M{_LEFT + 2:.1f} {_BASELINE} H{_LEFT + len(shown) * unit - 2:.1f}" stroke-width="1.2"/>'
    )
    for column, (_, _, stride) in places:
        if stride > 1:  # where the map shrinks
            x = _LEFT + column * unit
            parts.append(f'<path class="t" d="M{x - 3.5:.1f} {_BASELINE - 5} l7 5 l-7 5 z"/>')
            parts.append(f'<text class="q s" x="{x:.1f}" y="38">÷{stride}</text>')
    for channels, group in itertools.groupby(places, key=lambda place: place[1][1]):
        columns = [column for column, _ in group]
        left, right = _LEFT + columns[0] * unit + 5, _LEFT + (columns[-1] + 1) * unit - 5
        middle = (left + right) / 2
        parts.append(f'<path class="rule" d="M{left:.1f} {lane + 33:.0f} v4 H{right:.1f} v-4"/>')
        parts.append(
            f'<text class="t s" x="{middle:.1f}" y="{lane + 50:.0f}">{channels or network.head.classes}</text>'
        )
        if not channels:
            parts.append(f'<text class="q s" x="{middle:.1f}" y="{lane + 61:.0f}">classes</text>')
    return parts


def _legend(width: float) -> str:
    """Two lines that say how to read the picture."""
    parts = [
        f'<path class="rule" d="M0 2 H{width:.0f}"/>',
        '<rect class="box" x="1" y="14" width="16" height="14" rx="2"/>',
        '<rect class="se-8" x="12" y="19" width="5" height="9" rx="1"/>',
        '<text class="t s l" x="24" y="25">block with SE</text>',
        '<rect class="bare" x="106" y="14" width="16" height="14" rx="2"/>',
        '<text class="t s l" x="129" y="25">without</text>',
        '<text class="t s l" x="190" y="25">SE ratio</text>',
    ]
    for place, ratio in enumerate(_LEGEND_RATIOS):
        x = 238 + 34 * place
        parts.append(f'<rect class="{se_tone(ratio)}" x="{x}" y="15" width="30" height="5" rx="2.5"/>')
        parts.append(f'<text class="q s" x="{x + 15}" y="31">{ratio}</text>')
    parts += [
        '<path class="t" d="M430 16 l7 5 l-7 5 z"/><text class="t s l" x="443" y="25">stride 2</text>',
        '<path class="flow" d="M500 17 q0 7 8 7 h10 q8 0 8 -7"/>'
        '<text class="t s l" x="532" y="25">skip connection</text>',
        '<text class="q s l" x="0" y="50">Heights grow with the square root of the channels; the orange bar is the SE '
        "hidden layer to the same scale. Labels are kernels.</text>",
    ]
    return "".join(parts)
