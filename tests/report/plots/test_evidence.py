from __future__ import annotations

import re
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from se_nas.records.models.evidence import BlockGains, ControlsPart, LatencyPart, RankingSet, StabilityPart
from se_nas.records.record import parse_record
from se_nas.report.plots import controls, latency, ranking, stability, where_se_pays
from se_nas.report.plots import evidence as evidence_plots
from se_nas.report.plots import figure as plots_figure
from se_nas.report.plots.figure import Plot
from se_nas.report.theme.palette import RAMP_STEPS, light
from se_nas.report.theme.words import ABSENT
from tests.report import fake_evidence as fake

Json = dict[str, Any]


#: What is tested here is how pages look: see `figures` of conftest.
RENDERED = True


def texts(figure: Figure | Plot) -> list[str]:
    return re.findall(r"(?:<text[^>]*>|</svg>)([^<]+)</(?:text|span)>", plots_figure.figure_svg(figure, "x"))


def marks(axes: Axes, **properties: Any) -> list[tuple[float, float]]:
    """The single points of a panel whose lines have these properties."""
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in axes.lines
        if len(line.get_xdata()) == 1
        and all(getattr(line, f"get_{key}")() == value for key, value in properties.items())
    ]


def drawn_controls(found: Json) -> Plot:
    return controls.controls(parse_record(ControlsPart, found, "controls.json"))


def drawn_ranking(*sets: Json) -> Plot:
    return ranking.ranking([parse_record(RankingSet, one, "ranking.json") for one in sets])


def drawn_stability(found: Json) -> Plot:
    return stability.stability(parse_record(StabilityPart, found, "stability.json"))


def drawn_gains(found: Json) -> Figure:
    return where_se_pays.where_se_pays([parse_record(BlockGains, one, "where_se_pays.json") for one in found["blocks"]])


def comparison(value: float | None, low: float | None = None, high: float | None = None, **more: Any) -> Json:
    return {
        "ours": "answer",
        "theirs": ["other"],
        "label": "the other",
        "value": value,
        "low": low,
        "high": high,
        "n": 2,
        "networks": 1,
        "p": None,
        "p_holm": None,
        "method": "made up",
        "excludes_zero": low is not None and high is not None and (low > 0 or high < 0),
        "by_seed": {} if value is None else {"0": value - 0.005, "1": value + 0.005},
        **more,
    }


def two_networks(*comparisons: Json, theirs: dict[str, float | None] | None = None) -> Json:
    costs = {"macs": 5e6, "params": 1e5, "latency_ms": None}
    ours = {"0": 0.70, "1": 0.72}
    named = (("answer", "answer", ours), ("other", "baseline", {"0": 0.69, "1": 0.70} if theirs is None else theirs))
    networks = [
        {
            "name": name,
            "kind": kind,
            "label": name,
            "costs": costs,
            "supernet_accuracy": None,
            "se": [],
            "accuracies": of,
        }
        for name, kind, of in named
    ]
    return {"seeds": [0, 1], "test_images": 100, "networks": networks, "comparisons": list(comparisons)}


# ---- controls


def test_the_forest_has_each_difference_with_its_interval_and_each_seed() -> None:
    figure = drawn_controls(two_networks(comparison(0.015, 0.005, 0.025), comparison(-0.015, -0.04, 0.01)))
    forest = figure.axes[0]
    assert marks(forest, markersize=6.5) == [(1.5, 0), (-1.5, 1)]
    spans = [line.get_xdata() for line in forest.lines if line.get_linewidth() == 1.8]
    assert [list(span) for span in spans] == [pytest.approx([0.5, 2.5]), pytest.approx([-4.0, 1.0])]
    seeds = [line.get_xdata() for line in forest.lines if line.get_markersize() == 3]
    assert seeds == [pytest.approx([1.0, 2.0]), pytest.approx([-2.0, -1.0])]
    assert "not significant" in texts(figure)


def test_what_is_not_significant_is_hollow_and_muted() -> None:
    cases = {"blue": comparison(0.01, 0.005, 0.015), "red": comparison(-0.01, -0.015, -0.005)}
    muted = [comparison(0.01, -0.01, 0.03), comparison(0.01, 0.001, 0.019, p_holm=0.2), comparison(0.01)]
    forest = drawn_controls(two_networks(*cases.values(), *muted)).axes[0]
    points = [line for line in forest.lines if line.get_markersize() == 6.5]
    assert [line.get_markeredgecolor() for line in points] == [*map(light, cases), *[light("muted")] * 3]
    assert [line.get_markerfacecolor() == light("paper") for line in points] == [False, False, True, True, True]


def test_an_interval_far_wider_than_the_differences_is_cut_with_arrows() -> None:
    forest = drawn_controls(two_networks(comparison(0.015, -0.5, 0.53))).axes[0]
    low, high = forest.get_xlim()
    assert -10 < low < 0 < 1.5 < high < 10
    assert marks(forest, marker="<") == [(low, 0)]
    assert marks(forest, marker=">") == [(high, 0)]


def test_a_network_not_yet_trained_is_not_drawn() -> None:
    figure = drawn_controls(two_networks(comparison(None), theirs={}))
    assert not marks(figure.axes[0], markersize=6.5)
    assert [y for _, y in marks(figure.axes[1], marker="o")] == [pytest.approx(0.71)]


def test_every_network_is_in_the_panel_of_macs() -> None:
    found = fake.controls()
    panel = drawn_controls(found).axes[1]
    assert len(marks(panel)) == len(found["networks"])
    assert marks(panel, markersize=9.0)[0][0] == found["networks"][0]["costs"]["macs"]


def test_a_budget_far_above_all_networks_leaves_them_the_panel_of_macs() -> None:
    found = fake.controls()
    costs = [network["costs"]["macs"] for network in found["networks"]]
    panel = drawn_controls({**found, "budgets": {"macs": 50.0 * max(costs)}}).axes[1]
    assert panel.get_xlabel().endswith("beyond the panel")
    assert panel.get_xlim()[1] < 2 * max(costs)


# ---- ranking


def test_each_set_has_its_networks_and_a_bar_for_each_score() -> None:
    found = fake.ranking()
    figure = drawn_ranking(*found["sets"])
    panels = [panel.axes[0] for panel in figure.panels]
    for one, scatter, bars in zip(found["sets"], panels[0::2], panels[1::2], strict=True):
        (dots,) = (item for item in scatter.collections if len(item.get_offsets()) > 1)
        assert len(dots.get_offsets()) == len(one["networks"])
        taus = [
            one["correlations"][name]["kendall"]["value"] for name in ("supernet", "uncalibrated", "macs", "params")
        ]
        assert [bar.get_width() for bar in bars.patches] == pytest.approx([*taus, 0.44])
        assert 0.86 in [line.get_xdata()[0] for line in bars.lines]
        title = f"Dashed: agreement of two trainings, 0.86 (n = {len(one['networks'])})"
        assert bars.get_title(loc="left") == title


def test_the_agreement_of_two_trainings_is_drawn_only_with_an_interval() -> None:
    one = fake.ranking()["sets"][0]
    one["seed_ceiling"] = fake.estimate(0.86, None, None, 7)
    bars = drawn_ranking(one).panels[1].axes[0]
    assert 0.86 not in [line.get_xdata()[0] for line in bars.lines]
    assert "two trainings" not in bars.get_title(loc="left")


def test_without_a_ceiling_or_intervals_there_are_bars_alone() -> None:
    one = fake.ranking()["sets"][0]
    value, undefined = fake.estimate(0.6, None, None, 5), {**fake.estimate(0.0, None, None, 5), "value": None}
    one |= {"networks": one["networks"][:5], "seed_ceiling": None, "partial_kendall": undefined}
    one["correlations"] = {"supernet": {"kendall": value, "spearman": value}}
    figure = drawn_ranking(one)
    assert [bar.get_width() for bar in figure.panels[1].axes[0].patches] == [0.6]
    assert "Within the budgets: 5 networks" in texts(figure)


# ---- stability


def test_each_block_has_a_tile_for_each_search_and_its_agreement_beside_chance() -> None:
    found = fake.stability()
    figure = drawn_stability(found)
    tiles, on_off, ratio = figure.axes
    used = [option for answer in found["answers"] for option in answer["se"].values() if option]
    assert len([patch for patch in tiles.patches if isinstance(patch, Rectangle)]) == len(used)
    assert sorted(text.get_text() for text in tiles.texts) == sorted([*used, ABSENT, ABSENT])
    for axes, key in ((on_off, "on_off"), (ratio, "ratio")):
        widths = [bar.get_width() for bar in axes.patches]
        assert widths == [*(block[key] for block in found["blocks"]), found[key]["value"]]
        assert {x for x, _ in marks(axes, marker="|")} == {found[key]["random"]}


@pytest.mark.parametrize(("searches", "words"), [(2, "1 pair of 2 searches"), (4, "6 pairs of 4 searches")])
def test_the_number_of_pairs_stands_beside_the_agreement(searches: int, words: str) -> None:
    assert words in texts(drawn_stability(fake.stability(searches=searches)))


def test_one_search_agrees_with_none() -> None:
    figure = drawn_stability(fake.stability(searches=1))
    assert not figure.axes[1].patches
    assert len(marks(figure.axes[1], marker="|")) == len(fake.BLOCKS) + 1


# ---- where SE pays


def test_each_option_has_a_cell_the_chosen_an_outline_the_sure_a_dot() -> None:
    found = fake.where_se_pays()
    figure = drawn_gains(found)
    cells, *costs = figure.axes[:4]
    options = [option for block in found["blocks"] for option in block["options"]]
    sure = sum(option["low"] > 0 or option["high"] < 0 for option in options)
    assert 0 < sure < len(options)
    assert len(marks(cells, markersize=2.6)) == sure
    bold = [text for text in cells.texts if text.get_fontweight() == "bold"]
    assert len(bold) == sure
    outlines = [patch for patch in cells.patches if not patch.get_fill()]
    assert len(outlines) == sum(block["chosen"] is not None for block in found["blocks"])
    assert "unused" in [text.get_text() for text in cells.texts]
    for axes, metric in zip(costs, ("macs", "params", "latency_ms"), strict=True):
        factor = 1000 if metric == "latency_ms" else 1
        assert sorted(bar.get_height() for bar in axes.patches) == pytest.approx(
            sorted(factor * option[metric] for option in options)
        )


def test_a_block_that_cannot_be_without_se_is_judged_against_its_reference() -> None:
    found = fake.where_se_pays()
    block = found["blocks"][0]
    block |= {"reference": "r16", "chosen": "r16", "options": block["options"][1:]}
    cells = drawn_gains(found).axes[0]
    rows = [label.get_text() for label in cells.get_yticklabels()]
    assert next(text.get_position() for text in cells.texts if text.get_text() == "0") == (0, rows.index("r16"))
    assert not [text for text in cells.texts if text.get_position() == (0, rows.index("none"))]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stage2.block1", ("stage 2", "block 1")),
        ("stage2", ("stage 2", "")),
        ("stage2.block1.fused_mbconv", ("stage 2", "block 1 fused mbconv")),
        ("stage2.mbconv", ("stage 2", "mbconv")),
    ],
)
def test_places_in_words(name: str, words: tuple[str, str]) -> None:
    assert evidence_plots.block_words(name) == words


def test_gains_are_orange_losses_blue_and_the_strength_is_theirs() -> None:
    assert where_se_pays.gain_tone(0.0, 0.01) == "wash"
    assert where_se_pays.gain_tone(0.01, 0.01) == f"se-{RAMP_STEPS}"
    assert where_se_pays.gain_tone(-0.01, 0.01) == f"rank-{RAMP_STEPS}"
    steps = [int(where_se_pays.gain_tone(gain / 1000, 0.01).split("-")[1]) for gain in range(1, 11)]
    assert steps == sorted(set(steps))


def test_without_latency_there_is_no_panel_of_it_and_an_option_that_is_not_offered_has_no_cell() -> None:
    found = fake.where_se_pays()
    for block in found["blocks"]:
        for option in block["options"]:
            option["latency_ms"] = None
    found["blocks"][0]["options"] = [{**found["blocks"][0]["options"][0], "option": "eca", "low": None, "high": None}]
    figure = drawn_gains(found)
    assert [axes.get_title(loc="left") for axes in figure.axes[1:]] == ["MACs added", "Parameters added"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["r4", "r8", "r16", "eca", "none"]
    column = [patch for patch in figure.axes[0].patches if patch.get_width() == 0.96 and patch.get_x() == -0.48]
    assert len(column) == 2  # ECA, and none
    assert to_hex(column[0].get_facecolor()) != to_hex(column[1].get_facecolor())


# ---- latency


def test_latency_is_drawn_as_measured_and_as_an_error() -> None:
    found = fake.latency_check()
    figure = latency.latency_check(parse_record(LatencyPart, found, "latency_check.json"))
    networks = [network for one in found["sets"] for network in one["networks"]]
    assert marks(figure.axes[0]) == [(network["measured_ms"], network["predicted_ms"]) for network in networks]
    errors = [100 * (network["predicted_ms"] / network["measured_ms"] - 1) for network in networks]
    assert [y for _, y in marks(figure.axes[1])] == pytest.approx(errors)
    assert {"Best by the supernet", "Random", "± 5 %"} <= set(texts(figure))


@pytest.mark.parametrize(("lead", "tone"), [(0.02, "blue"), (0.0, "muted"), (-0.02, "red")])
def test_every_training_is_a_dot_on_one_axis_and_the_interval_begins_at_the_rival(lead: float, tone: str) -> None:
    found = fake.planned(lead)
    drawn = controls.trainings(parse_record(ControlsPart, found, "controls.json"))
    assert drawn is not None
    (axes,) = drawn.axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    kinds = [network for network in found["networks"] if network["kind"] in ("answer", "random")]
    assert sorted(x for line in dots for x in line.get_xdata()) == pytest.approx(
        sorted(100 * value for network in kinds for value in network["accuracies"].values())
    )
    one = found["comparisons"][0]
    (rival,) = {line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"}
    ((at, _),) = marks(axes, marker="D")
    assert at - rival == pytest.approx(100 * one["value"])
    (interval,) = (line for line in axes.lines if line.get_ydata()[0] == 1.8 and len(line.get_xdata()) == 2)
    assert list(interval.get_xdata()) == pytest.approx([rival + 100 * one["low"], rival + 100 * one["high"]])
    assert interval.get_color() == light(tone)
    rows = {label.get_text(): tick for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    for word in ("noise", "spread"):
        words = f"{word} ± {100 * found['regime'][word]['value']:.2f}"
        (bar,) = (line for line in axes.lines if line.get_ydata()[0] == rows[words])
        low, high = bar.get_xdata()
        assert high - low == pytest.approx(200 * found["regime"][word]["value"])


def test_without_random_networks_there_is_no_figure_of_trainings() -> None:
    found = fake.controls()
    found["comparisons"] = found["comparisons"][2:]
    assert controls.trainings(parse_record(ControlsPart, found, "controls.json")) is None
