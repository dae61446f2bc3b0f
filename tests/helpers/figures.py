"""Whether figures are rendered: to lay out and to write a run's figures takes most of the time of a tiny run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from markupsafe import Markup

from se_nas.report.plots import figure

_PNG, _SVG = figure.figure_png, figure.figure_svg


@contextmanager
def unrendered() -> Iterator[None]:
    """Meanwhile what a figure shows is drawn, and an empty one is written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure, "figure_png", lambda drawn: b"\x89PNG")
        patch.setattr(figure, "figure_svg", lambda drawn, name: Markup("<svg></svg>"))
        yield


@contextmanager
def rendered() -> Iterator[None]:
    """Figures are whole again, for what looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure, "figure_png", _PNG)
        patch.setattr(figure, "figure_svg", _SVG)
        yield
