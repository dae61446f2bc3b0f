"""What every figure shares: its style, its axes' words and ticks, and how it becomes SVG or PNG.

A plot of several panels is a figure a panel, which a page sets side by side as its width allows: a reader with a narrow
screen sees them below each other, each as large as on a wide one.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import matplotlib as mpl
import matplotlib.image
import numpy as np
from markupsafe import Markup, escape
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from se_nas.cost.budget import format_cost
from se_nas.cost.metrics import METRICS
from se_nas.report.theme.palette import light, themed
from se_nas.report.theme.scripts import any_script, drawable

TICK_STEPS = [1, 2, 2.5, 5, 10]
_FARTHEST = 3  # a budget is drawn up to so many times the greatest cost
WIDTH = 11.0  # inches of a figure that is a table, and fills the page
PANEL = 4.0  # inches of a panel
_LARGEST, _LEAST = 1.4, 0.95  # pixels of a page for a point of a figure: words neither shout nor get too small to read
_GAP = 16  # pixels between panels
_HOVERED = 40  # points of a curve that say their value, at most
_STYLE: dict[Any, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.titlecolor": light("ink"),
    "axes.labelsize": 8.5,
    "axes.labelcolor": light("muted"),
    "axes.edgecolor": light("rule"),
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": light("rule"),
    "grid.linewidth": 0.6,
    "xtick.color": light("muted"),
    "ytick.color": light("muted"),
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": light("ink"),
    "text.parse_math": False,  # a class may be called $10_$20
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "se_nas",
}


def tick(value: float, _: int | None = None) -> str:
    """A cost at a tick of an axis: 2.5 M."""
    for size, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:.6g}"


def percent_tick(value: float, _: int | None = None) -> str:
    """A share at a tick of an axis: 62.5 %."""
    return f"{100 * value:.6g} %"


def metric_word(metric: str) -> str:
    """A metric without its unit: Latency."""
    return METRICS[metric].title


def sentence_word(metric: str) -> str:
    """The same inside a sentence: latency on phone, but MACs."""
    word = metric_word(metric)
    return word if word[:2].isupper() else f"{word[:1].lower()}{word[1:]}"


def metric_title(metric: str) -> str:
    """A metric with its unit: Latency (ms)."""
    word, unit = metric_word(metric), METRICS[metric].unit
    return f"{word} ({unit})" if unit and unit.lower() != word.lower() else word


def drawn_limit(limit: float | None, costs: Iterable[float]) -> float | None:
    """The budget, None where there is none or where its line would press all costs into a corner of the panel."""
    return limit if limit is not None and limit <= _FARTHEST * max(costs, default=limit) else None


def limited_title(metric: str, limit: float | None, shown: float | None) -> str:
    """A metric with its budget, where it has one: Latency (ms); dashed: budget 2 ms.

    Args:
        shown: what `drawn_limit` made of the budget.
    """
    if limit is None:
        return metric_title(metric)
    budget = f"budget {format_cost(metric, limit)}"
    return f"{metric_title(metric)}; {f'{budget}, beyond the panel' if shown is None else f'dashed: {budget}'}"


@dataclass(frozen=True)
class Plot:
    """Panels, each a figure, under a key of what their marks mean.

    Attributes:
        keys: matplotlib's handles of a legend, with labels.
        columns: how many panels stand side by side at most.
    """

    panels: Sequence[Figure]
    keys: Sequence[Artist] = ()
    columns: int = 3

    @property
    def axes(self) -> list[Axes]:
        """Of every panel, in their order."""
        return [axes for panel in self.panels for axes in panel.axes]


_P = ParamSpec("_P")
_D = TypeVar("_D")


def drawn(make: Callable[_P, _D]) -> Callable[_P, _D]:
    """Let a function make its figure or plot in the house style, whatever the process has set."""

    @wraps(make)
    def in_style(*args: _P.args, **values: _P.kwargs) -> _D:
        with mpl.rc_context(), any_script():
            mpl.rcdefaults()
            mpl.rcParams.update(_STYLE)
            return make(*args, **values)

    return in_style


def panel(height: float = 2.6, width: float = PANEL) -> tuple[Figure, Axes]:
    """A figure of one panel, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


# ---- what a mark says where it is pointed at

_TIPS: WeakKeyDictionary[Artist, Sequence[str]] = WeakKeyDictionary()


def say_on_hover(artist: Artist, words: Sequence[str]) -> None:
    """What the marks of a line say where a reader points at them, one after the other; a patch has one."""
    _TIPS[artist] = words


def say_along(axes: Axes, x: Sequence[float], y: Sequence[float], words: Callable[[float, float], str]) -> None:
    """Let a curve say its values where a reader points at it, at `_HOVERED` of its points at most."""
    places = sorted({round(place) for place in np.linspace(0, len(x) - 1, min(_HOVERED, len(x)))})
    at = [(x[place], y[place]) for place in places]
    (marks,) = axes.plot([a for a, _ in at], [b for _, b in at], "o", markersize=9, alpha=0, zorder=9, label="_")
    say_on_hover(marks, [words(a, b) for a, b in at])


def _with_tips(text: str, tips: Sequence[tuple[Artist, Sequence[str]]]) -> str:
    """An SVG whose artists are groups named tip0, tip1, ... with a <title> in each of their marks."""
    for number, (artist, words) in enumerate(tips):
        head, group, rest = text.partition(f'<g id="tip{number}">')
        titles = map(_title, words)
        if isinstance(artist, Line2D):  # a <use> each
            parts = re.split(r"(<use [^>]*)/>", rest, maxsplit=len(words))
            between, marks = parts[::2], parts[1::2]
            said = [f"{mark}>{title}</use>" for mark, title in zip(marks, titles, strict=True)]
            rest = "".join(itertools.chain.from_iterable(itertools.zip_longest(between, said, fillvalue="")))
        else:
            rest = next(titles) + rest
        text = head + group + rest
    return text


def _title(words: str) -> str:
    return f"<title>{escape(words)}</title>"


# ---- files


def figure_svg(drawing: Figure | Plot, name: str) -> Markup:
    """The figure as an inline <svg>, its colours CSS variables and its ids prefixed by `name`, unique in a page.

    A plot is a <div> of them, a panel each.
    """
    if isinstance(drawing, Figure):
        return _svg(drawing, name)
    keys = [
        f'<span class="key">{_svg(_mark(key), f"{name}-key{place}")}{escape(key.get_label())}</span>'
        for place, key in enumerate(drawing.keys)
    ]
    panels = [str(_svg(figure, f"{name}-{place}")) for place, figure in enumerate(drawing.panels)]
    widest = max((72 * figure.get_figwidth() for figure in drawing.panels), default=0.0)
    columns = min(drawing.columns, max(len(panels), 1))
    room = f"--least:{min(1.1 * widest, 300):.0f}px;max-width:{columns * (_LARGEST * widest + _GAP):.0f}px"
    above = f'<div class="keys">{"".join(keys)}</div>' if keys else ""
    return Markup(f'<div class="panelled">{above}<div class="panels" style="{room}">{"".join(panels)}</div></div>')


def _svg(figure: Figure, name: str) -> Markup:
    tips = [(artist, _TIPS[artist]) for artist in figure.findobj(lambda artist: artist in _TIPS)]
    for number, (artist, _) in enumerate(tips):
        artist.set_gid(f"tip{number}")
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE), any_script():  # the browser has the fonts
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = _with_tips(text, tips)
    text = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    text = text.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "").replace("xlink:href=", "href=")
    points = 72 * figure.get_figwidth()
    sizes = f"max-width:{_LARGEST * points:.0f}px" + (
        f";min-width:{_LEAST * points:.0f}px" if points > 72 * 1.5 * PANEL else ""
    )
    opening = rf'<svg class="plot" viewBox="\1" role="img" style="{sizes}">'
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', opening, text, count=1)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", text)
    return Markup(themed(text))  # matplotlib escapes its words


@drawn
def _mark(key: Artist) -> Figure:
    """The mark of a key alone; its words are the page's, which wraps them."""
    figure = Figure(figsize=(0.3, 0.15))
    figure.legend([key], [""], loc="center", handlelength=1.6, handletextpad=0, borderpad=0, borderaxespad=0)
    return figure


def figure_png(drawing: Figure | Plot) -> bytes:
    """The figure as a PNG on light paper, 160 dots an inch; the panels of a plot in rows."""
    rows = [_pixels(drawing)] if isinstance(drawing, Figure) else _rows(drawing)
    width = max(row.shape[1] for row in rows)
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, np.concatenate([_padded(row, width=width) for row in rows]), format="png", dpi=160)
    return buffer.getvalue()


def _rows(plot: Plot) -> list[np.ndarray]:
    """The key of a plot, and its panels, as many side by side as there are columns."""
    panels = [_pixels(figure) for figure in plot.panels]
    rows = []
    for start in range(0, len(panels), plot.columns):
        some = panels[start : start + plot.columns]
        height = max(pixels.shape[0] for pixels in some)
        rows.append(np.concatenate([_padded(pixels, height=height) for pixels in some], axis=1))
    return [_pixels(_keys_row(plot.keys, max(row.shape[1] for row in rows))), *rows] if plot.keys else rows


@drawn
def _keys_row(keys: Sequence[Artist], width: int) -> Figure:
    figure = Figure(figsize=(width / 160, 0.45))
    figure.legend(handles=keys, loc="center left", ncols=len(keys), handletextpad=0.4, columnspacing=1.6)
    return figure


def _pixels(figure: Figure) -> np.ndarray:
    """(H, W, 4) of a figure on light paper."""
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE), any_script(), drawable(figure):
        figure.savefig(buffer, format="rgba", dpi=160, facecolor=light("paper"))
    width, height = (int(160 * side) for side in figure.get_size_inches())
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8).reshape(height, width, 4)


def _padded(pixels: np.ndarray, *, width: int = 0, height: int = 0) -> np.ndarray:
    """The same with paper to the right of it and below it."""
    tall, wide = pixels.shape[:2]
    paper = np.empty((max(height, tall), max(width, wide), 4), dtype=np.uint8)
    paper[:] = [*bytes.fromhex(light("paper")[1:]), 255]
    paper[:tall, :wide] = pixels
    return paper
