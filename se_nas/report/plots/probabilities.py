"""How the choices' probabilities moved in a differentiable search."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from se_nas.report.plots.figure import WIDTH, Plot, drawn, metric_word, say_on_hover
from se_nas.report.plots.search import Choices, History, Panel, Picks, line_panels, series
from se_nas.report.theme.palette import attention_tone, light, rank_tone
from se_nas.report.theme.words import ABSENT
from se_nas.space.attention import OF_BARE_RATIO, kind_of_option
from se_nas.space.choice import Option, Place


def part_words(place: Place) -> str:
    """What a choice decides on in its block, after the kind of block where the stage offers several: "wide se"."""
    part = place.part.replace("se_", "SE ").replace("_", " ")
    return f"{place.op} {part}" if place.op else part


def place_words(place: Place) -> str:
    """Its stage and its block, without the part."""
    return place.stage_words if place.block is None else f"{place.stage_words} · block {place.block}"


def in_use(place: Place, picks: Picks) -> bool:
    """Whether the block the choice shapes is in the network, its stage's depth considered."""
    depth = picks.get(Place(place.stage, None, "depth").name)
    return not (isinstance(depth, int) and place.block is not None and place.block > depth)


def se_ratio(option: Option) -> float:
    """The ratio that an option of SE names: "r16" is 16; 0 for "none" and for SE's relatives."""
    found = kind_of_option(str(option))
    return found[1] if found is not None and found[0] == OF_BARE_RATIO else 0.0


def _probabilities(history: History, choice: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(T,) epochs and (T, count) probabilities of one choice, for the epochs that recorded it."""
    rows = [
        (row.epoch, shares)
        for row in history
        for name, shares in (row.probabilities or {}).items()
        if name == choice and len(shares) == count
    ]
    epochs = np.array([epoch for epoch, _ in rows], dtype=float)
    return epochs, np.array([p for _, p in rows], dtype=float).reshape(len(rows), count)


@drawn
def se_probabilities(history: History, choices: Choices, picks: Picks) -> Plot:
    """Stacked probabilities of every SE choice over the epochs, one panel a block, the picked option marked.

    Args:
        history: the search's epochs with "probabilities".
        choices: options by choice name, in order of depth; those that are not of SE are left out.
        picks: the decoded option by choice name.
    """
    places = {name: place for name in choices if (place := Place.named(name)).part == "se"}
    seen = dict.fromkeys(str(option) for name in places for option in choices[name])
    ratios = sorted((option for option in seen if se_ratio(option)), key=se_ratio, reverse=True)
    kinds = dict.fromkeys(found[0] for option in seen if not se_ratio(option) and (found := kind_of_option(option)))
    keys = [("no SE", "none"), *((f"r = {option[1:]}", attention_tone(option)) for option in ratios)]
    keys += [(kind.title, attention_tone(kind.label(1))) for kind in kinds]
    return Plot(
        [_se_panel(history, name, place, choices[name], picks) for name, place in places.items()],
        keys=[Patch(color=light(tone), label=label) for label, tone in keys],
        columns=5,
    )


def _se_panel(history: History, name: str, place: Place, options: Sequence[Option], picks: Picks) -> Figure:
    """The stacked probabilities of one block's SE."""
    figure = Figure(figsize=(2.0, 1.4))
    axes = figure.add_axes((0.02, 0.16, 0.93, 0.66))
    epochs, shares = _probabilities(history, name, len(options))
    _stack(axes, epochs, shares, options)
    axes.set_xlim(*_span(history))
    axes.set_ylim(0, 1)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.yaxis.set_major_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.tick_params(labelsize=7.5)
    used = in_use(place, picks)
    axes.set_title(place_words(place), fontsize=8, color=light("ink" if used else "muted"), pad=4)
    if used and name in picks and picks[name] in options and len(shares):
        _mark_pick(axes, shares[-1], list(options).index(picks[name]), str(picks[name]))
    elif not used:
        axes.set_title("not used", loc="right", fontsize=7.5, color=light("muted"), pad=4)
        axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, color=light("paper"), alpha=0.72, zorder=3))
    return figure


def _stack(axes: Axes, epochs: np.ndarray, shares: np.ndarray, options: Sequence[Option]) -> None:
    edges = np.concatenate([np.zeros((len(shares), 1)), np.cumsum(shares, axis=1)], axis=1)
    for place, option in enumerate(options):
        tone = light(attention_tone(str(option)))
        band = axes.fill_between(epochs, edges[:, place], edges[:, place + 1], color=tone, linewidth=0)
        if len(shares):
            say_on_hover(band, [_share_words(option, shares[:, place])])
        if place:
            axes.plot(epochs, edges[:, place], color=light("paper"), linewidth=0.5)


def _share_words(option: Option, shares: np.ndarray) -> str:
    """From where to where the probability of an option went."""
    return f"{option}: {100 * float(shares[0]):.0f} % at first, {100 * float(shares[-1]):.0f} % at last"


def _span(history: History) -> tuple[float, float]:
    first, last = float(history[0].epoch), float(history[-1].epoch)
    return first, max(last, first + 1)


def _mark_pick(axes: Axes, shares: np.ndarray, pick: int, label: str) -> None:
    low = float(shares[:pick].sum())
    axes.add_patch(
        Rectangle((1.012, low), 0.018, float(shares[pick]), transform=axes.transAxes, color=light("ink"), clip_on=False)
    )
    axes.set_title(f"{label} {100 * float(shares[pick]):.0f} %", loc="right", fontsize=8, fontweight="bold", pad=4)


@drawn
def other_probabilities(history: History, choices: Choices, picks: Picks) -> Figure:
    """The choices beside SE as one compact table: a row a kind, a column a block, a cell the stack over the epochs.

    Args:
        history: the search's epochs with "probabilities".
        choices: options by choice name, in order of depth; those of SE are left out.
        picks: the decoded option by choice name, printed under its cell.
    """
    places = {name: place for name in choices if (place := Place.named(name)).part != "se"}
    stages = list(dict.fromkeys(place.stage_words for place in places.values()))
    columns: list[tuple[str, int | None]] = []
    for stage in stages:
        blocks = dict.fromkeys(p.block for p in places.values() if p.stage_words == stage and p.block)
        columns += [(stage, block) for block in blocks] or [(stage, None)]
    lefts = {key: i + 0.35 * stages.index(key[0]) for i, key in enumerate(columns)}
    rows: dict[str, list[str]] = {}  # a block's own choices first, then those of whole stages
    for name in sorted(places, key=lambda name: places[name].block is None):
        rows.setdefault(part_words(places[name]), []).append(name)
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
        axes.text((min(mine) + max(mine) + 0.9) / 2, 0.30, stage, ha="center", fontsize=8, color=light("muted"))
    for row, (part, names) in enumerate(rows.items()):
        base = -1.42 * row - 1.0
        _row_key(axes, part, base, labels[part])
        for name in names:
            place = places[name]
            spanned = [x for key, x in lefts.items() if key == (place.stage_words, place.block or key[1])]
            box = (min(spanned), base, max(spanned) + 0.9 - min(spanned), 1.0)
            _cell(axes, history, name, choices[name], labels=labels[part], picks=picks, box=box)
    axes.text(0, -1.42 * len(rows) + 0.02, ";  ".join(notes), fontsize=8, color=light("muted"), va="top")
    return figure


def _option_labels(option_lists: Iterable[Sequence[Option]]) -> dict[Option, str]:
    """Every option of a row in order, with a label of few letters."""
    found = dict.fromkeys(option for options in option_lists for option in options)
    numbers = sorted(option for option in found if not isinstance(option, str))
    ordered = [*numbers, *(option for option in found if isinstance(option, str))]
    return {
        option: str(option) if len(str(option)) <= 3 else chr(ord("A") + rank) for rank, option in enumerate(ordered)
    }


def _row_key(axes: Axes, part: str, base: float, labels: Mapping[Option, str]) -> None:
    """Name of a row and, in their colours, its options: where they are many, the first and the last by their names."""
    at = axes.get_yaxis_transform()
    axes.text(-0.012, base + 0.80, part, transform=at, ha="right", va="center", fontsize=8.5)
    span = 0.070 / max(len(labels), 3)
    for rank, label in enumerate(labels.values()):
        x = -0.012 - span * (len(labels) - rank)
        tone = light(rank_tone(rank, len(labels)))
        key = Rectangle((x, base + 0.34), span * 0.86, 0.13, transform=at, color=tone, linewidth=0, clip_on=False)
        axes.add_patch(key)
        if len(labels) > 5 and 0 < rank < len(labels) - 1:  # there is no room; the cells say theirs when pointed at
            continue
        middle = x + span * 0.43
        axes.text(middle, base + 0.12, label, transform=at, ha="center", va="center", fontsize=7, color=light("muted"))


def _cell(
    axes: Axes,
    history: History,
    name: str,
    options: Sequence[Option],
    *,
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
    used = in_use(Place.named(name), picks)
    ranks = list(labels)
    for i, option in enumerate(options):
        band = axes.fill_between(
            x,
            base + tall * edges[:, i],
            base + tall * edges[:, i + 1],
            color=light(rank_tone(ranks.index(option), len(ranks))),
            linewidth=0,
            alpha=1.0 if used else 0.28,
        )
        say_on_hover(band, [_share_words(option, shares[:, i])])
    if used and picks.get(name) in labels:
        label = labels[picks[name]]
        axes.text(left + width / 2, base - 0.09, label, ha="center", va="top", fontsize=8, fontweight="bold")
    elif not used:
        axes.text(left + width / 2, base - 0.09, ABSENT, ha="center", va="top", fontsize=8, color=light("muted"))


@drawn
def decisiveness(history: History) -> Plot:
    """How decided the search is: entropy of the choices, temperature, and the budgets' multipliers."""
    panels: list[tuple[History, Panel]] = []
    if series(history, "entropy")[1]:
        lines = (("entropy", "blue", False, ("entropy",)),)
        panels.append((history, Panel("Entropy of the choices (1: undecided)", lines, bounds=(0.0, 1.03))))
    if series(history, "temperature")[1]:
        lines = (("temperature", "orange", False, ("temperature",)),)
        panels.append((history, Panel("Temperature of the softmax", lines)))
    metrics = list(dict.fromkeys(key for row in history for key in row.multipliers or {}))
    if metrics:
        tones = itertools.cycle(("blue", "orange", "green", "red"))
        idle = not any(value for metric in metrics for value in series(history, "multipliers", metric)[1])
        panels.append(
            (
                history,
                Panel(
                    "How far each budget pushed (multiplier)",
                    tuple(
                        (metric_word(metric), next(tones), i > 0, ("multipliers", metric))
                        for i, metric in enumerate(metrics)
                    ),
                    bounds=(-0.03, 1.0) if idle else None,
                ),
            )
        )
    return line_panels(panels, 2.4)
