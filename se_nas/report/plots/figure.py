"""What every figure shares: its style, its axes' words and ticks, and how it becomes SVG or PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from se_nas.cost.metrics import METRICS
from se_nas.report.theme.palette import light, themed

TICK_STEPS = [1, 2, 2.5, 5, 10]
WIDTH = 11.0  # inches of every figure that fills the page
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


def metric_title(metric: str) -> str:
    """A metric with its unit: Latency (ms)."""
    word, unit = metric_word(metric), METRICS[metric].unit
    return f"{word} ({unit})" if unit and unit.lower() != word.lower() else word


def drawn(make: Callable[[], Figure]) -> Figure:
    """Call a function that makes a figure, in the house style whatever the process has set."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        return make()


def figure_svg(figure: Figure, name: str) -> Markup:
    """The figure as an inline <svg>, its colours CSS variables and its ids prefixed by `name`, unique in a page."""
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    text = text.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "").replace("xlink:href=", "href=")
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg class="plot" viewBox="\1" role="img">', text, count=1)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", text)
    return Markup(themed(text))  # matplotlib escapes its words


def figure_png(figure: Figure) -> bytes:
    """The figure as a PNG on light paper, 160 dots an inch."""
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=160, facecolor=light("paper"))
    return buffer.getvalue()
