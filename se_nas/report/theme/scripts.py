"""Words of any script in figures: classes are called as their folders are, and no one font has every letter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager, get_font
from matplotlib.text import Text

from se_nas.errors import cut

_FONT = "DejaVu Sans"
_MOST = 32
_NO_LETTERS = ("Last Resort", "DejaVu", "STIX", "cm")
"""Beginnings of the names of fonts that matplotlib brings: none has a letter that `_FONT` lacks, but for boxes."""


@contextmanager
def any_script() -> Iterator[None]:
    """Without matplotlib's warning of letters that its font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        yield


@contextmanager
def drawable(figure: Figure) -> Iterator[None]:
    """Make the words of a figure such that they can be drawn: by another font of this machine, or as escapes."""
    before: list[tuple[Text, str, list[str]]] = []
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        missing = {letter for letter in text.get_text() if letter not in "\n\t" and not _has(_FONT, letter)}
        if not missing:
            continue
        before.append((text, text.get_text(), text.get_fontfamily()))
        families = {family for letter in missing if (family := _family_with(letter)) is not None}
        text.set_fontfamily([_FONT, *sorted(families)])
        words = text.get_text()
        for letter in missing:
            if _family_with(letter) is None:
                words = words.replace(letter, letter.encode("unicode_escape").decode())
        text.set_text(words)
    try:
        yield
    finally:
        for text, said, fonts in before:
            text.set_text(said)
            text.set_fontfamily(fonts)


def name_in_plot(name: str) -> str:
    """The name of a class at a line or a row: not too long, and none that matplotlib takes for a hidden one."""
    shown = cut(name, _MOST)
    return f" {shown}" if shown.startswith("_") else shown


@cache
def _family_with(letter: str) -> str | None:
    """A font family of this machine that has a letter; None where there is none."""
    for entry in sorted(fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        if not entry.name.startswith(_NO_LETTERS) and ord(letter) in _letters(entry):
            return entry.name
    return None


def _has(family: str, letter: str) -> bool:
    return any(ord(letter) in _letters(entry) for entry in fontManager.ttflist if entry.name == family)


@cache
def _letters_of(path: str) -> frozenset[int]:
    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):  # a font that is damaged or was removed
        return frozenset()


def _letters(entry: FontEntry) -> frozenset[int]:
    return _letters_of(str(entry.fname))
