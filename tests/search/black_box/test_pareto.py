from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from se_nas.search.black_box.evaluation import Evaluation
from se_nas.search.black_box.pareto import hypervolume, hypervolume_over, non_dominated, objective_points
from se_nas.space.architecture import Architecture

SIDE = 6


@st.composite
def grids(draw: st.DrawFn, least: int = 0) -> np.ndarray:
    """(N, M) whole numbers from 0 to SIDE, so that ties, duplicates and points on the reference are common."""
    dimensions = draw(st.integers(1, 4))
    rows = st.lists(st.integers(0, SIDE), min_size=dimensions, max_size=dimensions)
    return np.array(draw(st.lists(rows, min_size=least, max_size=12)), dtype=float).reshape(-1, dimensions)


def counted(points: np.ndarray) -> int:
    """Unit cells of the cube of side SIDE that some point dominates, one by one."""
    cells = itertools.product(range(SIDE), repeat=points.shape[1])
    return sum(any((point <= cell).all() for point in points) for cell in cells)


def slow_front(points: np.ndarray) -> list[bool]:
    return [not any((q <= p).all() and (q < p).any() for q in points) for p in points]


@settings(max_examples=150, deadline=None)
@given(grids())
def test_the_front_is_what_the_definition_says(points: np.ndarray) -> None:
    assert non_dominated(points).tolist() == slow_front(points)


def test_equal_points_stay_together_and_a_tie_in_one_objective_dominates() -> None:
    points = [[1, 2], [1, 2], [2, 2], [0, 3], [0, 4]]
    assert non_dominated(points).tolist() == [True, True, False, True, False]
    assert non_dominated(np.empty((0, 3))).tolist() == []


@settings(max_examples=60, deadline=None)
@given(grids())
def test_hypervolume_counts_the_cells_of_a_grid(points: np.ndarray) -> None:
    assert hypervolume(points, np.full(points.shape[1], SIDE)) == pytest.approx(counted(points))


@settings(max_examples=60, deadline=None)
@given(grids(least=1), st.randoms(use_true_random=False))
def test_hypervolume_over_is_that_of_every_start_never_falls_and_ends_alike_in_any_order(points, random) -> None:
    reference = np.full(points.shape[1], SIDE - 0.5)
    volumes = hypervolume_over(points, reference)
    assert volumes == pytest.approx([hypervolume(points[: n + 1], reference) for n in range(len(points))])
    assert (np.diff(volumes) >= 0).all()
    order = list(range(len(points)))
    random.shuffle(order)
    assert hypervolume_over(points[order], reference)[-1] == pytest.approx(volumes[-1])


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_real_fronts_agree_with_monte_carlo_and_with_optuna(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    on_sphere = np.abs(rng.normal(size=(60, dimensions)))
    points = 1 - on_sphere / np.linalg.norm(on_sphere, axis=1, keepdims=True)  # no point dominates another
    assert non_dominated(points).all()
    reference = np.full(dimensions, 1.1)
    volume = hypervolume(points, reference)
    darts = rng.uniform(0, 1.1, size=(20_000, dimensions))
    share = (points[None] <= darts[:, None]).all(axis=2).any(axis=1).mean()
    assert volume == pytest.approx(share * 1.1**dimensions, rel=0.03)
    assert hypervolume_over(points, reference)[-1] == pytest.approx(volume, rel=1e-9)
    theirs = pytest.importorskip("optuna._hypervolume")
    assert volume == pytest.approx(theirs.compute_hypervolume(points, reference), rel=1e-9)


def test_points_outside_the_reference_add_nothing() -> None:
    assert hypervolume([[1.0, 5.0], [3.0, 1.0]], [2.0, 4.0]) == 0
    assert hypervolume_over([[1.0, 5.0], [1.0, 3.0], [2.0, 0.0]], [2.0, 4.0]).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("points", "reference"), [([[1.0, 2.0]], [3.0]), ([1.0, 2.0], [3.0, 3.0]), ([[np.nan, 1.0]], [3.0, 3.0])]
)
def test_what_is_no_front_is_an_error(points: list, reference: list) -> None:
    with pytest.raises(ValueError, match="points must be"):
        hypervolume(points, reference)


def evaluation(accuracy: float | None, macs: float) -> Evaluation:
    state = "complete" if accuracy is not None else "failed"
    return Evaluation(3, Architecture("0" * 16, ()), state, accuracy, {"macs": macs, "params": 7.0}, {})


def test_points_negate_accuracy_and_keep_the_order_of_the_objectives() -> None:
    entries = [evaluation(0.75, 4e6), evaluation(0.5, 2e6)]
    assert objective_points(entries, ["accuracy", "macs"]).tolist() == [[-0.75, 4e6], [-0.5, 2e6]]
    assert objective_points(entries, ["params", "accuracy"]).tolist() == [[7, -0.75], [7, -0.5]]
    assert objective_points([], ["accuracy", "macs"]).shape == (0, 2)
    with pytest.raises(ValueError, match="number 3 is failed"):
        objective_points([evaluation(None, 1.0)], ["accuracy"])
