"""The plots of a run: each a matplotlib figure built from what the run wrote down, with no global plotting state.

Figures are drawn in the light tones of `palette`; `figure_svg` makes them follow the page's colour scheme.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from se_nas.cost.budget import format_cost
from se_nas.cost.table import UNITS
from se_nas.evidence.palette import attention_tone, light, rank_tone, themed
from se_nas.evidence.quantities import ABSENT
from se_nas.space.choice import Option

History = Sequence[Mapping[str, Any]]
Choices = Mapping[str, Sequence[Option]]
Picks = Mapping[str, Option]

STEPS = [1, 2, 2.5, 5, 10]
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

METRIC_WORDS = {"macs": "MACs", "params": "Parameters", "latency_ms": "Latency"}


def tick(value: float, _: int | None = None) -> str:
    """A cost at a tick of an axis: 2.5 M."""
    for size, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:.6g}"


def percent_tick(value: float, _: int | None = None) -> str:
    """A share at a tick of an axis: 62.5 %."""
    return f"{100 * value:.6g} %"


def metric_title(metric: str) -> str:
    """A metric with its unit: Latency (ms)."""
    word, unit = METRIC_WORDS.get(metric, metric), UNITS.get(metric, "")
    return f"{word} ({unit})" if unit and unit.lower() != word.lower() else word


def drawn(make: Callable[[], Figure]) -> Figure:
    """Call a function that makes a figure, in the house style whatever the process has set."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        return make()


def figure_svg(figure: Figure, name: str) -> str:
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
    return themed(text)


def figure_png(figure: Figure) -> bytes:
    """The figure as a PNG on light paper, 160 dots an inch."""
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=160, facecolor=light("paper"))
    return buffer.getvalue()


# ---- what the histories hold


def series(history: History, *path: str) -> tuple[list[float], list[float]]:
    """Epochs and values of one recorded number, without the epochs that did not record it."""
    epochs, values = [], []
    for row in history:
        value: Any = row
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, (int, float)) and math.isfinite(value):
            epochs.append(float(row["epoch"]))
            values.append(float(value))
    return epochs, values


def _warmup_end(history: History) -> float | None:
    last = [float(row["epoch"]) for row in history if row.get("searching") is False]
    return max(last) + 0.5 if last else None


def _shade_warmup(axes: Axes, history: History, named: bool) -> None:
    end = _warmup_end(history)
    if end is None:
        return
    start = float(history[0]["epoch"])
    axes.axvspan(start, end, color=light("wash"), linewidth=0, zorder=-1)
    if named:
        at = axes.get_xaxis_transform()
        axes.text(start, 0.02, " warm-up", transform=at, va="bottom", color=light("muted"), fontsize=7.5)


def _epoch_axis(axes: Axes, history: History) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS, integer=True))
    first, last = float(history[0]["epoch"]), float(history[-1]["epoch"])
    axes.set_xlim(first, max(last, first + 1))
    axes.set_xlabel("epoch")


@dataclass(frozen=True)
class Place:
    """Where a choice acts, read from its name: "stage3.block2.se", "stage3.depth"."""

    stage: str
    block: str | None
    part: str

    @property
    def words(self) -> str:
        """The stage and the block, without the part."""
        return f"{_spaced(self.stage)} · {_spaced(self.block)}" if self.block else _spaced(self.stage)


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=\d)", " ", name)


def place_of(choice: str) -> Place:
    """Where a choice acts."""
    stage, *rest = choice.split(".")
    block = rest.pop(0) if len(rest) > 1 and rest[0].startswith("block") else None
    return Place(stage, block, " ".join(rest).replace("_", " ") or stage)


def _in_use(choice: str, picks: Picks) -> bool:
    """Whether the block the choice shapes is in the network, its stage's depth considered."""
    place = place_of(choice)
    depth = picks.get(f"{place.stage}.depth")
    number = re.search(r"\d+$", place.block or "")
    return not (isinstance(depth, int) and number and int(number.group()) > depth)


def is_se_choice(choice: str) -> bool:
    """Whether a choice is that of an SE ratio, by its name."""
    return choice.rsplit(".", 1)[-1] == "se"


KIND_WORDS = {"eca": "ECA", "ese": "effective SE", "cbam": "CBAM", "spatial": "spatial attention"}
"""SE's relatives as people call them."""


def se_ratio(option: Option) -> float:
    """The ratio that an option of SE names: "r16" is 16; 0 for "none" and for SE's relatives."""
    text = str(option)
    return float(text[1:]) if re.fullmatch(r"r\d+(\.\d+)?", text) else 0.0


def _probabilities(history: History, choice: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(T,) epochs and (T, count) probabilities of one choice, for the epochs that recorded it."""
    rows = [
        (row["epoch"], row["probabilities"][choice])
        for row in history
        if len((row.get("probabilities") or {}).get(choice) or ()) == count
    ]
    epochs = np.array([epoch for epoch, _ in rows], dtype=float)
    return epochs, np.array([p for _, p in rows], dtype=float).reshape(len(rows), count)


# ---- the figures


def se_probabilities(history: History, choices: Choices, picks: Picks) -> Figure:
    """Stacked probabilities of every SE choice over the epochs, one panel a block, the picked option marked.

    Args:
        history: the search's epochs with "probabilities".
        choices: options by choice name, in order of depth; those that are not of SE are left out.
        picks: the decoded option by choice name.
    """

    def make() -> Figure:
        names = [name for name in choices if is_se_choice(name)]
        rows = math.ceil(len(names) / 5)
        columns = max(math.ceil(len(names) / rows), 3)
        height = 1.35 * rows + 0.75
        figure = Figure(figsize=(WIDTH, height))
        grid = figure.add_gridspec(
            rows,
            columns,
            left=0.004,
            right=0.985,
            top=1 - 0.62 / height,
            bottom=0.30 / height,
            hspace=0.46,
            wspace=0.16,
        )
        for index, name in enumerate(names):
            axes = figure.add_subplot(grid[index // columns, index % columns])
            options = list(choices[name])
            epochs, shares = _probabilities(history, name, len(options))
            _stack(axes, epochs, shares, [attention_tone(str(option)) for option in options])
            axes.set_xlim(*_span(history))
            axes.set_ylim(0, 1)
            axes.grid(False)
            axes.spines[:].set_visible(False)
            axes.yaxis.set_major_locator(NullLocator())
            lowest = index + columns >= len(names)
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True) if lowest else NullLocator())
            used = _in_use(name, picks)
            axes.set_title(place_of(name).words, fontsize=8, color=light("ink" if used else "muted"), pad=4)
            if used and name in picks and picks[name] in options and len(shares):
                _mark_pick(axes, shares[-1], options.index(picks[name]), str(picks[name]))
            elif not used:
                axes.set_title("not used", loc="right", fontsize=7.5, color=light("muted"), pad=4)
                axes.add_patch(
                    Rectangle((0, 0), 1, 1, transform=axes.transAxes, color=light("paper"), alpha=0.72, zorder=3)
                )
        seen = dict.fromkeys(str(option) for name in names for option in choices[name])
        ratios = sorted((option for option in seen if se_ratio(option)), key=se_ratio, reverse=True)
        others = dict.fromkeys(attention_tone(option) for option in seen if not se_ratio(option) and option != "none")
        keys = [("no SE", "none"), *((f"r = {option[1:]}", attention_tone(option)) for option in ratios)]
        keys += [(KIND_WORDS[kind], kind) for kind in others]
        _swatches(figure, keys, left=0.004, height=height)
        return figure

    return drawn(make)


def _stack(axes: Axes, epochs: np.ndarray, shares: np.ndarray, tones: Sequence[str]) -> None:
    edges = np.concatenate([np.zeros((len(shares), 1)), np.cumsum(shares, axis=1)], axis=1)
    for option, tone in enumerate(tones):
        axes.fill_between(epochs, edges[:, option], edges[:, option + 1], color=light(tone), linewidth=0)
        if option:
            axes.plot(epochs, edges[:, option], color=light("paper"), linewidth=0.5)


def _span(history: History) -> tuple[float, float]:
    first, last = float(history[0]["epoch"]), float(history[-1]["epoch"])
    return first, max(last, first + 1)


def _mark_pick(axes: Axes, shares: np.ndarray, pick: int, label: str) -> None:
    low = float(shares[:pick].sum())
    axes.add_patch(
        Rectangle((1.012, low), 0.018, float(shares[pick]), transform=axes.transAxes, color=light("ink"), clip_on=False)
    )
    axes.set_title(f"{label}  {100 * float(shares[pick]):.0f} %", loc="right", fontsize=8, fontweight="bold", pad=4)


def _swatches(figure: Figure, keys: Sequence[tuple[str, str]], left: float, height: float) -> None:
    """A row of colour keys at the top of a figure."""
    x, y = left, 1 - 0.22 / height
    for label, tone in keys:
        figure.add_artist(
            Rectangle((x, y), 0.014, 0.12 / height, transform=figure.transFigure, color=light(tone), linewidth=0)
        )
        figure.text(x + 0.019, y, label, fontsize=8.5, va="baseline")
        x += 0.032 + 0.0078 * len(label)


def other_probabilities(history: History, choices: Choices, picks: Picks) -> Figure:
    """The choices beside SE as one compact table: a row a kind, a column a block, a cell the stack over the epochs.

    Args:
        history: the search's epochs with "probabilities".
        choices: options by choice name, in order of depth; those of SE are left out.
        picks: the decoded option by choice name, printed under its cell.
    """

    def make() -> Figure:
        places = {name: place_of(name) for name in choices if not is_se_choice(name)}
        stages = list(dict.fromkeys(place.stage for place in places.values()))
        columns: list[tuple[str, str]] = []
        for stage in stages:
            blocks = dict.fromkeys(p.block for p in places.values() if p.stage == stage and p.block)
            columns += [(stage, block) for block in blocks] or [(stage, "")]
        lefts = {key: i + 0.35 * stages.index(key[0]) for i, key in enumerate(columns)}
        rows: dict[str, list[str]] = {}  # a block's own choices first, then those of whole stages
        for name in sorted(places, key=lambda name: places[name].block is None):
            rows.setdefault(places[name].part, []).append(name)
        labels = {part: _option_labels(choices[name] for name in names) for part, names in rows.items()}
        notes = [
            f"{part} {letter} is {option}"
            for part, letters in labels.items()
            for option, letter in letters.items()
            if letter != str(option)
        ]
        height = 0.86 * len(rows) + 0.42 + 0.2 * bool(notes)
        figure = Figure(figsize=(WIDTH, height))
        total = max(lefts.values()) + 1
        axes = figure.add_axes((0.085, 0.02, 0.905, 0.96))
        axes.set_xlim(0, total)
        axes.set_ylim(-1.42 * len(rows) + 0.1 - 0.36 * bool(notes), 0.62)
        axes.axis("off")
        for stage in stages:
            mine = [left for key, left in lefts.items() if key[0] == stage]
            axes.text(
                (min(mine) + max(mine) + 0.9) / 2, 0.30, _spaced(stage), ha="center", fontsize=8, color=light("muted")
            )
        for row, (part, names) in enumerate(rows.items()):
            base = -1.42 * row - 1.0
            _row_key(axes, part, base, labels[part])
            for name in names:
                place = places[name]
                spanned = [x for key, x in lefts.items() if key == (place.stage, place.block or key[1])]
                box = (min(spanned), base, max(spanned) + 0.9 - min(spanned), 1.0)
                _cell(axes, history, name, choices[name], labels[part], picks, box)
        axes.text(0, -1.42 * len(rows) + 0.02, ";  ".join(notes), fontsize=8, color=light("muted"), va="top")
        return figure

    return drawn(make)


def _option_labels(option_lists: Iterable[Sequence[Option]]) -> dict[Option, str]:
    """Every option of a row in order, with a label of few letters."""
    found = dict.fromkeys(option for options in option_lists for option in options)
    numbers = sorted(option for option in found if not isinstance(option, str))
    ordered = [*numbers, *(option for option in found if isinstance(option, str))]
    return {
        option: str(option) if len(str(option)) <= 3 else chr(ord("A") + rank) for rank, option in enumerate(ordered)
    }


def _row_key(axes: Axes, part: str, base: float, labels: Mapping[Option, str]) -> None:
    """Name of a row and, in their colours, its options."""
    at = axes.get_yaxis_transform()
    axes.text(-0.012, base + 0.80, part, transform=at, ha="right", va="center", fontsize=8.5)
    span = 0.070 / max(len(labels), 3)
    for rank, label in enumerate(labels.values()):
        x = -0.012 - span * (len(labels) - rank)
        tone = light(rank_tone(rank, len(labels)))
        key = Rectangle((x, base + 0.34), span * 0.86, 0.13, transform=at, color=tone, linewidth=0, clip_on=False)
        axes.add_patch(key)
        middle = x + span * 0.43
        axes.text(middle, base + 0.12, label, transform=at, ha="center", va="center", fontsize=7, color=light("muted"))


def _cell(
    axes: Axes,
    history: History,
    name: str,
    options: Sequence[Option],
    labels: Mapping[Option, str],
    picks: Picks,
    box: tuple[float, float, float, float],
) -> None:
    left, base, width, tall = box
    epochs, shares = _probabilities(history, name, len(options))
    if not len(epochs):
        return
    first, last = _span(history)
    x = left + width * (epochs - first) / (last - first)
    edges = np.concatenate([np.zeros((len(shares), 1)), np.cumsum(shares, axis=1)], axis=1)
    used = _in_use(name, picks)
    ranks = list(labels)
    for i, option in enumerate(options):
        axes.fill_between(
            x,
            base + tall * edges[:, i],
            base + tall * edges[:, i + 1],
            color=light(rank_tone(ranks.index(option), len(ranks))),
            linewidth=0,
            alpha=1.0 if used else 0.28,
        )
    if used and picks.get(name) in labels:
        label = labels[picks[name]]
        axes.text(left + width / 2, base - 0.09, label, ha="center", va="top", fontsize=8, fontweight="bold")
    elif not used:
        axes.text(left + width / 2, base - 0.09, ABSENT, ha="center", va="top", fontsize=8, color=light("muted"))


def expected_cost(history: History, limits: Mapping[str, float], final: Mapping[str, float]) -> Figure:
    """Expected cost over the epochs, one panel a metric, with its limit as a line and the decoded network as a point.

    Args:
        history: the search's epochs with "expected".
        limits: budgets by metric.
        final: the certified costs of the decoded network by metric.
    """

    def make() -> Figure:
        metrics = list(dict.fromkeys(key for row in history for key in (row.get("expected") or {})))
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
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
            axes.yaxis.set_major_formatter(FuncFormatter(tick))
            axes.set_title(metric_title(metric))
        return figure

    return drawn(make)


@dataclass(frozen=True)
class _Panel:
    """One panel of lines over epochs: title, and (label, tone, dashed, path) of each line; its key inside or above."""

    title: str
    lines: tuple[tuple[str, str, bool, tuple[str, ...]], ...]
    percent: bool = False
    bounds: tuple[float, float] | None = None
    key_above: bool = False


def _line_panels(panels: Sequence[tuple[History, _Panel]], height: float, rows: int = 1) -> Figure:
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
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
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
    panels: list[tuple[History, _Panel]] = []
    if any("largest_accuracy" in row for row in search):
        panels += [
            (search, _Panel("Supernet: loss", (("loss", "blue", False, ("loss",)),))),
            (
                search,
                _Panel(
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
                _Panel(
                    "Search: loss",
                    (("weight steps", "blue", True, ("loss",)), ("choice steps", "orange", False, ("choice_loss",))),
                ),
            ),
            (
                search,
                _Panel(
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
            (retrain, _Panel("Retraining: loss", (("loss", "blue", False, ("loss",)),))),
            (
                retrain,
                _Panel(
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
    return drawn(lambda: _line_panels(panels, 2.6))


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
        _Panel("Training loss", (("loss", "blue", False, ("loss",)),)),
        _Panel("Learning rate", (("learning rate", "blue", False, ("lr",)),)),
        _Panel("Top-1 accuracy", (("train", "blue", True, ("accuracy",)), *top1), True, key_above=True),
        _Panel("Top-5 accuracy", top5, True, key_above=True),
    ]
    return drawn(lambda: _line_panels([(history, panel) for panel in panels], 2.6, rows=2))


def decisiveness(history: History) -> Figure:
    """How decided the search is: entropy of the choices, temperature, and the budgets' multipliers."""
    panels: list[tuple[History, _Panel]] = []
    if series(history, "entropy")[1]:
        lines = (("entropy", "blue", False, ("entropy",)),)
        panels.append((history, _Panel("Entropy of the choices (1 is undecided)", lines, bounds=(0.0, 1.03))))
    if series(history, "temperature")[1]:
        lines = (("temperature", "orange", False, ("temperature",)),)
        panels.append((history, _Panel("Temperature of the softmax", lines)))
    metrics = list(dict.fromkeys(key for row in history for key in (row.get("multipliers") or {})))
    if metrics:
        tones = itertools.cycle(("blue", "orange", "green", "red"))
        idle = not any(value for metric in metrics for value in series(history, "multipliers", metric)[1])
        panels.append(
            (
                history,
                _Panel(
                    "How far each budget pushed (multiplier)",
                    tuple(
                        (METRIC_WORDS.get(metric, metric), next(tones), i > 0, ("multipliers", metric))
                        for i, metric in enumerate(metrics)
                    ),
                    bounds=(-0.03, 1.0) if idle else None,
                ),
            )
        )
    return drawn(lambda: _line_panels(panels, 2.4))


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
