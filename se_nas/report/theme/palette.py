"""The one palette of every plot and drawing: each colour in a light and a dark version, safe for colour-blind readers.

Blue is for the network, orange for SE (Okabe and Ito's pair); along both ramps lightness alone tells the order. SE's
relatives have a colour each, of Okabe and Ito's others.
Plots are drawn in the light colours; `themed` turns these into CSS variables, which follow the reader's colour scheme.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from se_nas.space.attention import ATTENTION, OF_BARE_RATIO, kind_of_option


@dataclass(frozen=True)
class Tone:
    """One colour as #rrggbb on light and on dark paper."""

    light: str
    dark: str


RAMP_STEPS = 16
"""Ramps have RAMP_STEPS + 1 colours."""


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def _ramp(light: tuple[str, str, str], dark: tuple[str, str, str]) -> tuple[Tone, ...]:
    """Colours from the weakest to the strongest, through three stops."""

    def at(stops: tuple[str, str, str], step: int) -> str:
        place = 2 * step / RAMP_STEPS
        low = min(int(place), 1)
        ends = zip(_channels(stops[low]), _channels(stops[low + 1]), strict=True)
        return "#" + "".join(f"{round(a + (b - a) * (place - low)):02x}" for a, b in ends)

    return tuple(Tone(at(light, step), at(dark, step)) for step in range(RAMP_STEPS + 1))


_SE_RAMP = _ramp(("#fbdcb8", "#e58a3c", "#8a2f0b"), ("#5a3a22", "#cf7a33", "#ffd3a3"))
_RANK_RAMP = _ramp(("#dbe7f3", "#7ba4cc", "#1f4e80"), ("#26384b", "#4f82b5", "#bfdcf8"))

_FIXED: Mapping[str, Tone] = {
    "paper": Tone("#fdfcf9", "#15171b"),
    "ink": Tone("#20242a", "#e8e6e1"),
    "muted": Tone("#6c727b", "#9aa0a8"),
    "rule": Tone("#d8dade", "#373b42"),
    "wash": Tone("#f2f1ed", "#1e2126"),
    "none": Tone("#c9ccd1", "#4a4f57"),
    "blue": Tone("#2368a8", "#6fb1ea"),
    "orange": Tone("#cc5a0b", "#f39a4f"),
    "green": Tone("#117a63", "#4fc3a6"),
    "red": Tone("#b3261e", "#ff8a80"),
    "block": Tone("#b9cfe5", "#2f4c69"),
    "edge": Tone("#4c78a4", "#7fa9d1"),
    "attention": Tone("#8f959c", "#7f858d"),
    **{f"se-{step}": tone for step, tone in enumerate(_SE_RAMP)},
    **{f"rank-{step}": tone for step, tone in enumerate(_RANK_RAMP)},
}
"""Every colour that is of no kind of attention, by its name."""


def tones() -> dict[str, Tone]:
    """Every colour by its name; those of kinds of attention are in their entries."""
    kinds = {f"attention-{kind.name}": Tone(*kind.tone) for kind in ATTENTION.values() if kind.tone is not None}
    return {**_FIXED, **kinds}


def light(name: str) -> str:
    """The light version, as plots are drawn."""
    return tones()[name].light


def se_tone(ratio: float | None) -> str:
    """Name of the colour of an SE ratio: the stronger, the wider the hidden layer; neutral for no SE."""
    if ratio is None:
        return "none"
    weakness = min(max((math.log2(ratio) - 1) / 4, 0.0), 1.0)  # r = 2 is the strongest, r = 32 the weakest
    return f"se-{round(RAMP_STEPS * (1 - weakness))}"


def attention_tone(option: str) -> str:
    """Name of the colour of an option of SE by its name: "none", "r16", "eca", "cbam16".

    A kind that was added without a colour, or that is not known any more, has a neutral one.
    """
    if option == "none":
        return option
    found = kind_of_option(option)
    if found is not None and found[0] == OF_BARE_RATIO:
        return se_tone(found[1])
    name = f"attention-{found[0].name}" if found is not None else ""
    return name if name in tones() else "attention"


def rank_tone(rank: int, count: int) -> str:
    """Name of the colour of option `rank` of `count` ordered ones."""
    return f"rank-{round(RAMP_STEPS * rank / max(count - 1, 1))}"


def css_variables(dark: bool) -> str:
    """Every colour as a CSS declaration."""
    return "".join(f"--{name}:{tone.dark if dark else tone.light};" for name, tone in tones().items())


def themed(svg: str) -> str:
    """An SVG drawn in light colours with these replaced by CSS variables, for a page that sets `css_variables`."""
    names = {tone.light: name for name, tone in tones().items()}

    def variable(match: re.Match[str]) -> str:
        colour = match.group(0)
        return f"var(--{names[colour]},{colour})" if colour in names else colour

    return re.sub(r"#[0-9a-f]{6}\b", variable, svg)
