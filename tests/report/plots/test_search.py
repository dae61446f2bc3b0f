from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from se_nas.records.models.history import Epoch
from se_nas.report.plots import figure as plots_figure
from se_nas.report.plots import probabilities
from se_nas.report.plots import search as plots
from se_nas.space.yaml.file import load_space
from tests.report.fake_run import LIMITS, SPACES, pick_within, search_history

#: What is tested here is how pages look: see `figures` of conftest.
RENDERED = True


@pytest.fixture(scope="module")
def search() -> tuple[list[Epoch], dict[str, list[Any]], dict[str, Any]]:
    space = load_space(SPACES / "mbconv_digits.yaml")
    picks = pick_within(space, LIMITS["mbconv_digits"], np.random.default_rng(0)).as_dict()
    history = [Epoch(**row) for row in search_history(space, picks, LIMITS["mbconv_digits"], 12, 0)]
    return history, {choice.name: list(choice.options) for choice in space.choices}, picks


def texts(figure: Any) -> str:
    """What is written in a plot, and in its key."""
    return " | ".join(
        re.findall(r"(?:<text[^>]*>|</svg>)([^<]+)</(?:text|span)>", plots_figure.figure_svg(figure, "x"))
    )


def test_se_panels_name_every_block_and_mark_its_pick(search: Any) -> None:
    history, choices, picks = search
    shown = texts(probabilities.se_probabilities(history, choices, picks))
    for name in choices:
        if name.endswith(".se"):
            stage, block = (re.findall(r"\d+", part)[0] for part in name.split(".")[:2])
            assert f"stage {stage} · block {block}" in shown
            if picks.get(f"stage{stage}.depth", 99) >= int(block):
                share = history[-1].probabilities[name][choices[name].index(picks[name])]
                assert f"{picks[name]} {100 * share:.0f} %" in shown
    assert "not used" in shown or all(picks[name] == 2 for name in picks if name.endswith("depth"))


def test_se_s_relatives_have_a_key_each() -> None:
    options = ["none", "r16", "eca", "ese", "spatial", "cbam16", "cbam8"]
    shares = {"stage1.block1.se": [1 / len(options)] * len(options)}
    history = [Epoch(epoch=epoch, probabilities=shares) for epoch in (1, 2)]
    shown = texts(probabilities.se_probabilities(history, {"stage1.block1.se": options}, {"stage1.block1.se": "eca"}))
    keys = ["no SE", "r = 16", "ECA", "effective SE", "spatial attention", "CBAM"]
    assert [word for word in shown.split(" | ") if word in keys] == keys


def test_other_choices_have_a_row_each_and_long_options_a_letter(search: Any) -> None:
    history, choices, picks = search
    kinds = {"stage1.block1.block": ["mbconv", "identity"], **choices}
    mixed = {"stage1.block1.block": (0.3, 0.7)}
    rows = [row.model_copy(update={"probabilities": {**mixed, **row.probabilities}}) for row in history]
    shown = texts(probabilities.other_probabilities(rows, kinds, {"stage1.block1.block": "identity", **picks}))
    assert {"kernel", "expansion", "depth", "block"} <= set(shown.split(" | "))
    assert "block A is mbconv;  block B is identity" in shown


def test_places_and_gates_of_se_have_a_row_each_among_the_other_choices() -> None:
    options = {"stage1.block1.se_position": ["pre", "identity"], "stage1.block1.se_gate": ["sigmoid", "tanh"]}
    history = [Epoch(epoch=epoch, probabilities={name: [0.4, 0.6] for name in options}) for epoch in (1, 2)]
    picks = {"stage1.block1.se_position": "identity", "stage1.block1.se_gate": "tanh"}
    shown = texts(probabilities.other_probabilities(history, options, picks))
    assert {"SE position", "SE gate"} <= set(shown.split(" | "))
    assert "SE position B is identity" in shown


def test_cost_panels_show_the_budget(search: Any) -> None:
    history, _, _ = search
    shown = texts(plots.expected_cost(history, {"macs": 400e3}, {"macs": 390e3}))
    assert "budget 400 k MACs" in shown
    assert "pretraining" in shown
    assert "Latency (ms)" in shown


def test_a_budget_far_above_the_expected_costs_leaves_the_panel_to_the_curve(search: Any) -> None:
    history, _, _ = search
    plot = plots.expected_cost(history, {"macs": 1e9}, {"macs": 390e3})
    assert "MACs; budget 1 G MACs, beyond the panel" in texts(plot)
    plot = plots.expected_cost(history, {"latency_ms": 1e9}, {})
    assert max(map(len, plot.axes[0].get_title("left").splitlines())) < 45  # or it would end with the panel
    plot = plots.expected_cost(history, {"macs": 1e9}, {"macs": 390e3})
    costs = [row.expected["macs"] for row in history if row.expected]
    assert plot.axes[0].get_ylim()[1] < 2 * max(*costs, 390e3)


def test_curves_skip_what_was_not_recorded() -> None:
    history = [Epoch(epoch=1, loss=2.0), Epoch(epoch=2, loss=None), Epoch(epoch=3)]
    assert plots.series(history, "loss") == ([1.0], [2.0])
    assert plots.series(history, "expected", "macs") == ([], [])
    assert "Retraining: loss" in texts(plots.learning_curves([], history))
    assert "Entropy" not in texts(probabilities.decisiveness([Epoch(epoch=1, temperature=2.0)]))


def test_latency_bands_are_where_they_say(search: Any) -> None:
    figure = plots.latency_agreement([1.0, 2.1], [1.1, 2.0])
    outer, inner = figure.axes[0].collections
    for band, share in ((outer, 0.10), (inner, 0.05)):
        points = band.get_paths()[0].vertices
        assert np.max(np.abs(points[:, 1] / points[:, 0] - 1)) == pytest.approx(share)


def test_figures_are_themed_unique_and_leave_the_global_style_alone(search: Any, tmp_path: Path) -> None:
    history, choices, picks = search
    before = dict(mpl.rcParams)
    figure = probabilities.se_probabilities(history, choices, picks)
    svg = plots_figure.figure_svg(figure, "one")
    ElementTree.fromstring(svg)
    assert dict(mpl.rcParams) == before
    assert "var(--ink" in svg
    ids = re.findall(r' id="([^"]+)"', svg)
    assert all(name.startswith("one-") for name in ids)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg)) <= set(ids)
    assert plots_figure.figure_png(figure).startswith(b"\x89PNG")
    assert plots_figure.figure_svg(figure, "one") == svg
