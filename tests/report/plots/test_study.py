from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from se_nas.cost.budget import Budget
from se_nas.report.plots import figure as plots_figure
from se_nas.report.plots import study as study_plots
from se_nas.report.theme.palette import light
from se_nas.search.black_box.evaluation import Evaluation
from se_nas.space.architecture import Architecture
from se_nas.space.yaml.file import load_space
from tests.report.fake_run import SPACES, fake_evaluations

#: What is tested here is how pages look: see `figures` of conftest.
RENDERED = True


BUDGETS = (Budget("macs", 400e3), Budget("params", 30e3))
LIMITS = {budget.metric: budget.limit for budget in BUDGETS}
OBJECTIVES = ("accuracy", "macs")


@pytest.fixture(scope="module")
def evaluations() -> list[Evaluation]:
    return fake_evaluations(load_space(SPACES / "mbconv_digits.yaml"), BUDGETS, 60)


def texts(figure: Any) -> list[str]:
    return re.findall(r"(?:<text[^>]*>|</svg>)([^<]+)</(?:text|span)>", plots_figure.figure_svg(figure, "x"))


def lines(axes: Axes, **properties: Any) -> list[Line2D]:
    """The lines of some panel with these properties, without those that show nothing."""
    return [
        line
        for line in axes.lines
        if len(line.get_xdata()) and all(getattr(line, f"get_{name}")() == value for name, value in properties.items())
    ]


def marks(axes: Axes) -> tuple[int, int]:
    """Dots and rings."""
    dots = [line for line in lines(axes, marker="o") if line.get_markersize() < 5]
    hollow = [line.get_markerfacecolor() == "none" for line in dots]
    sizes = [len(line.get_xdata()) for line in dots]
    return sum(n for n, ring in zip(sizes, hollow, strict=True) if not ring), sum(
        n for n, ring in zip(sizes, hollow, strict=True) if ring
    )


def test_the_front_is_feasible_in_falling_accuracy_and_holds_an_architecture_once(evaluations: list) -> None:
    twice = [*evaluations, *(replace(entry, number=entry.number + 100) for entry in evaluations)]
    front = study_plots.front_of(twice, OBJECTIVES)
    assert len({entry.architecture for entry in front}) == len(front)
    assert all(entry.number < 100 and entry.feasible for entry in front)
    pairs = [(entry.accuracy, entry.costs["macs"]) for entry in front]
    assert pairs == sorted(pairs, reverse=True)
    for entry in evaluations:
        if entry.feasible:
            assert any(accuracy >= entry.accuracy and macs <= entry.costs["macs"] for accuracy, macs in pairs)


def test_every_cost_has_a_panel_with_each_evaluation_the_front_and_its_budget(evaluations: list) -> None:
    chosen = study_plots.front_of(evaluations, OBJECTIVES)[0]
    figure = study_plots.pareto_fronts(evaluations, OBJECTIVES, LIMITS, chosen.architecture)
    feasible = sum(entry.feasible for entry in evaluations)
    assert 0 < feasible < 60
    for axes, metric in zip(figure.axes, LIMITS, strict=True):
        assert marks(axes) == (feasible, 60 - feasible)
        (front,) = lines(axes, drawstyle="steps-post")
        expected = study_plots.front_of(evaluations, ("accuracy", metric))
        assert list(front.get_ydata())[:-1] == [entry.accuracy for entry in reversed(expected)]
        assert front.get_xdata()[-1] == LIMITS[metric]
        (budget,) = lines(axes, linestyle="--")
        assert set(budget.get_xdata()) == {LIMITS[metric]}
        (mark,) = lines(axes, color=light("orange"))
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (chosen.costs[metric], chosen.accuracy)
        left, right = axes.get_xlim()
        assert left < min(e.costs[metric] for e in evaluations) <= max(e.costs[metric] for e in evaluations) < right
    words = {
        f"{title}; dashed: budget {limit}"
        for title, limit in (("MACs", "400 k MACs"), ("Parameters", "30 k parameters"))
    }
    assert {*words, "breaks a budget", "chosen network"} <= set(texts(figure))


def test_later_evaluations_are_stronger(evaluations: list) -> None:
    feasible = [replace(entry, excess={}) for entry in evaluations]
    axes = study_plots.pareto_fronts(feasible, OBJECTIVES, {}, None).axes[0]
    dots = [line for line in lines(axes, marker="o") if line.get_markersize() < 5]
    tone = {x: line.get_color() for line in dots for x in line.get_xdata()}
    weight = {entry.number: sum(bytes.fromhex(tone[entry.costs["macs"]][1:])) for entry in feasible}
    assert weight[0] > weight[30] > weight[59]


def test_a_budget_far_above_all_costs_is_told_but_does_not_press_them_into_a_corner(evaluations: list) -> None:
    loose = {"macs": LIMITS["macs"], "params": 50 * LIMITS["params"]}
    macs, params = study_plots.pareto_fronts(evaluations, OBJECTIVES, loose, None).axes
    assert macs.get_xlabel() == "MACs; dashed: budget 400 k MACs"
    assert params.get_xlabel() == "Parameters; budget 1.5 M parameters, beyond the panel"
    assert not lines(params, linestyle="--")
    costs = [entry.costs["params"] for entry in evaluations]
    left, right = params.get_xlim()
    assert max(costs) - min(costs) > 0.5 * (right - left)


def test_without_budgets_no_word_of_them(evaluations: list) -> None:
    free = [replace(entry, excess={}) for entry in evaluations]
    shares = study_plots.hypervolume_shares(free, OBJECTIVES, {})
    words = texts(study_plots.pareto_fronts(free, OBJECTIVES, {}, None)) + texts(study_plots.progress(free, shares))
    assert not [word for word in words if "budget" in word]
    assert "chosen network" not in words


def test_what_did_not_end_or_was_known_is_in_no_plot(evaluations: list) -> None:
    first = evaluations[0]
    more = [
        *evaluations,
        replace(first, number=60, same_as=0),
        replace(first, number=61, state="failed", accuracy=None),
        replace(first, number=62, state="pruned", accuracy=0.01),
        replace(first, number=63, state="running", accuracy=None),
        replace(first, number=64, accuracy=float("nan")),
    ]
    figure = study_plots.pareto_fronts(more, OBJECTIVES, LIMITS, None)
    assert sum(marks(figure.axes[0])) == 60
    accuracy = study_plots.progress(more, study_plots.hypervolume_shares(more, OBJECTIVES, LIMITS)).axes[0]
    assert sum(marks(accuracy)) == 60
    assert max(max(line.get_xdata()) for line in accuracy.lines) == 63  # failed, pruned and NaN took their turn


def test_progress_never_falls_and_ends_at_the_best(evaluations: list) -> None:
    shares = study_plots.hypervolume_shares(evaluations, OBJECTIVES, LIMITS)
    figure = study_plots.progress(evaluations, shares)
    best = max(entry.accuracy for entry in evaluations if entry.feasible)
    for axes, last in zip(figure.axes, (best, shares[-1]), strict=True):
        (steps,) = lines(axes, drawstyle="steps-post")
        values = np.array(steps.get_ydata())
        values = values[~np.isnan(values)]
        assert (np.diff(values) >= 0).all()
        assert values[-1] == last
    assert f"{100 * best:.2f}".rstrip("0") + " %" in texts(figure)


def point(number: int, accuracy: float, macs: float, over: float = -0.1) -> Evaluation:
    picks = (("stage1.depth", number),)
    return Evaluation(
        number, Architecture("0" * 16, picks), "complete", accuracy, {"macs": macs, "params": 5.0}, {"macs": over}
    )


def test_hypervolume_is_the_share_of_the_box_down_to_the_budget_or_the_worst_value() -> None:
    entries = [point(0, 0.5, 8.0), point(1, 0.9, 20.0, over=1.0), point(2, 0.7, 4.0), point(3, 0.6, 2.0)]
    limited = study_plots.hypervolume_shares(entries, OBJECTIVES, {"macs": 10.0})
    # box: accuracy 0.5 to 0.7, MACs 2 to 10
    assert limited == pytest.approx([0, 0, 6 / 8, 6 / 8 + 0.5 * 2 / 8])
    free = study_plots.hypervolume_shares(entries, OBJECTIVES, {})
    assert free == pytest.approx([0, 0, 16 / 18, 16 / 18 + 0.5 * 2 / 18])
    assert study_plots.hypervolume_shares(entries, ["accuracy"], {}) is None
    assert study_plots.hypervolume_shares(entries, ["accuracy", "params"], {}) is None
    assert study_plots.hypervolume_shares(entries[:2], OBJECTIVES, {"macs": 10.0}) is None
    assert study_plots.hypervolume_shares(entries[1:2], OBJECTIVES, {"macs": 10.0}) is None


@pytest.mark.parametrize("over", [-0.1, 0.5])
@pytest.mark.parametrize("objectives", [["accuracy"], ["accuracy", "macs", "params"]])
def test_one_evaluation_is_enough_feasible_or_not(over: float, objectives: list) -> None:
    entries = [point(0, 0.5, 8.0, over)]
    figure = study_plots.pareto_fronts(entries, objectives, {"macs": 7.0}, entries[0].architecture)
    assert marks(figure.axes[0]) == ((1, 0) if over < 0 else (0, 1))
    assert len(lines(figure.axes[0], drawstyle="steps-post")) == (over < 0)
    panels = study_plots.progress(entries, study_plots.hypervolume_shares(entries, objectives, {"macs": 7.0})).axes
    assert len(panels) == 1  # a hypervolume of one point says nothing
    best = [line.get_ydata()[-1] for line in lines(panels[0], drawstyle="steps-post")]
    assert best == ([0.5] if over < 0 else [])


def test_importance_ranks_names_and_sums_the_choices() -> None:
    shares = {f"stage{s}.block{b}.{part}": 0.01 for s in range(1, 4) for b in range(1, 5) for part in ("kernel", "se")}
    shares |= {"stage2.block1.se": 0.3, "stage1.mbconv_k3.expansion": 0.2, "stage4.depth": 0.1}
    figure = study_plots.importance(shares)
    left, right = figure.axes
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels[:3] == ["stage 2 · block 1 · SE", "stage 1 · mbconv k3 expansion", "stage 4 · depth"]
    assert [bar.get_width() for bar in left.patches[:3]] == [0.3, 0.2, 0.1]
    assert len(left.patches) == study_plots.SHOWN_CHOICES
    assert left.patches[0].get_facecolor() != left.patches[1].get_facecolor()
    kinds = zip(right.get_yticklabels(), right.patches, strict=True)
    sums = {label.get_text(): bar.get_width() for label, bar in kinds}
    assert sums == pytest.approx({"SE": 0.41, "expansion": 0.2, "kernel": 0.12, "depth": 0.1})
    assert "Each choice (6 more: 6.0 %)" in texts(figure)
    assert texts(study_plots.importance({"stage1.depth": 1.0})).count("100.0 %") == 2


def test_curves_run_over_epochs_from_one_and_those_ended_early_have_a_cross() -> None:
    entries = fake_evaluations(load_space(SPACES / "mbconv_digits.yaml"), BUDGETS, 9, epochs=5)
    chosen = entries[4]
    figure = study_plots.intermediate_accuracy(entries, chosen.architecture)
    (axes,) = figure.axes
    crosses = lines(axes, marker="x")
    assert [line.get_xdata()[0] for line in crosses] == [2, 2, 2]
    assert sorted(len(line.get_xdata()) for line in lines(axes, linestyle="-")) == [2] * 3 + [5] * 6
    (strong,) = lines(axes, color=light("orange"))
    assert list(strong.get_xdata()) == [1, 2, 3, 4, 5]
    assert strong.get_ydata()[-1] == chosen.curve[-1][1]
    assert {"ended early (3)", "complete (5)", "chosen network"} <= set(texts(figure))


def test_a_point_says_its_number_and_one_of_the_front_its_picks(evaluations: list) -> None:
    svg = plots_figure.figure_svg(study_plots.pareto_fronts(evaluations, OBJECTIVES, LIMITS, None), "x")
    said = [html.unescape(words) for words in re.findall(r"<title>([^<]*)</title>", svg)]
    front = study_plots.front_of(evaluations, OBJECTIVES)
    for entry in evaluations:
        mine = [words for words in said if words.startswith(f"number {entry.number}: {entry.accuracy:.2%}"[:-1])]
        assert len(mine) == (4 if entry in front else 2)  # in each panel, and once more in the ring of the front
        assert all(("; stage 1: depth" in words) == (entry in front) for words in mine)
    picks = front[0].architecture.as_dict()
    assert f"stage 1: depth {picks['stage1.depth']}; " in study_plots.picks_words(front[0].architecture)
    absent = [stage for stage in (1, 2, 3) if picks[f"stage{stage}.depth"] == 1]
    assert all(f"stage {stage} · block 2" not in study_plots.picks_words(front[0].architecture) for stage in absent)


def test_labels_of_panels_do_not_overlap(evaluations: list) -> None:
    figure = study_plots.pareto_fronts(evaluations, OBJECTIVES, LIMITS, evaluations[0].architecture)
    plots_figure.figure_png(figure)  # lays it out
    for axes in figure.axes:
        low, high = axes.get_ylim()
        shown = [label for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
        boxes = [text.get_window_extent() for text in (axes.xaxis.label, axes._left_title, *shown)]
        assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
