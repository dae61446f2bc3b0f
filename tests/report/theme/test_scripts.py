"""Classes are called as folders are: dollars, any script, a leading underscore, and names of any length are drawn."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from se_nas.report.plots.figure import drawn, figure_png, figure_svg
from se_nas.report.theme.scripts import name_in_plot

_NAMES = ("$10_$20", "$x", "猫", "собака", "कुत्ता", "_hidden", "a<b>&", r"caf\xe9", "x" * 255)


@drawn
def _figure() -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for number in range(len(_NAMES)):
        axes.plot([0, 1], [number, number])
    figure.legend(axes.lines, list(map(name_in_plot, _NAMES)), loc="outside upper left")
    axes.set_yticks(range(len(_NAMES)), list(map(name_in_plot, _NAMES)))
    return figure


def test_every_name_is_in_the_page_as_it_is() -> None:
    figure = _figure()
    figure_png(figure)  # of which nothing stays
    words = re.findall(r"<text[^>]*>([^<]*)</text>", figure_svg(figure, "x"))
    for name in ("$10_$20", "$x", "猫", "собака", "कुत्ता", "_hidden", "a&lt;b&gt;&amp;", r"caf\xe9"):
        assert [word.strip() for word in words].count(name) == 2, name
    assert max(map(len, words)) < 40


def test_no_letter_is_drawn_as_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no font of the machine has it, it stands as an escape, which is another image than a box."""
    monkeypatch.setattr("se_nas.report.theme.scripts._family_with", lambda letter: None)

    @drawn
    def figure_of(name: str) -> Figure:
        figure = Figure(figsize=(3, 1))
        figure.text(0.1, 0.5, name)
        return figure

    def image(name: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(figure_png(figure_of(name)))))

    np.testing.assert_array_equal(image("猫 1"), image(r"\u732b 1"))
    assert (image("猫") != image("狗")).any()
