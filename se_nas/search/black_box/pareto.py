"""Pareto fronts and the hypervolume they dominate, exactly; every objective is minimised.

Hypervolume: Zitzler and Thiele, https://doi.org/10.1109/4235.797969; a point's own share of it by its limit set: While
et al., https://doi.org/10.1109/TEVC.2010.2077298.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from se_nas.search.black_box.evaluation import Evaluation

Points: TypeAlias = NDArray[np.float64]


def objective_points(evaluations: Sequence[Evaluation], objectives: Sequence[str]) -> Points:
    """The (N, M) points of evaluations, all to be minimised: a cost as it is, what was measured
    as its worth, negated.

    Raises:
        ValueError: an evaluation has no accuracy where that is an objective.
    """

    def value(entry: Evaluation, objective: str) -> float:
        if objective in entry.costs:
            return entry.costs[objective]
        if entry.accuracy is None:
            raise ValueError(f"every evaluation must have an accuracy, but number {entry.number} is {entry.state}")
        return -entry.accuracy

    rows = [[value(entry, objective) for objective in objectives] for entry in evaluations]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(objectives))


def front_objectives(objectives: Sequence[str], budgeted: Sequence[str]) -> list[str]:
    """What the front of a search is in: its objectives; of one for accuracy alone also the metrics with budgets."""
    return list(objectives) if len(objectives) > 1 else list(dict.fromkeys([*objectives, *budgeted]))


def front_of(evaluations: Sequence[Evaluation], objectives: Sequence[str]) -> list[Evaluation]:
    """The complete, feasible evaluations that no other one dominates, each architecture once, by falling accuracy."""
    first = {entry.architecture: entry for entry in reversed(evaluations) if entry.complete and entry.feasible}
    entries = sorted(first.values(), key=lambda entry: (-float(entry.accuracy or 0.0), entry.number))
    mask = non_dominated(objective_points(entries, objectives))
    return [entry for entry, stays in zip(entries, mask, strict=True) if stays]


def front_in(evaluations: Sequence[Evaluation], objectives: Sequence[str], budgeted: Sequence[str]) -> list[Evaluation]:
    """The front of a search, as its page shows it and as one of it is taken."""
    return front_of(evaluations, front_objectives(objectives, budgeted))


def since_unbeaten(points: Sequence[Sequence[float] | None]) -> int:
    """How many of some points, in the order of their finding, came after the last that no point before it dominates or
    equals; None is a point of no worth."""
    front: list[Sequence[float]] = []
    last = -1
    for index, point in enumerate(points):
        if point is None or any(all(a <= b for a, b in zip(other, point, strict=True)) for other in front):
            continue
        front = [other for other in front if not all(b <= a for a, b in zip(other, point, strict=True))]
        front.append(point)
        last = index
    return len(points) - 1 - last


def _checked(points: ArrayLike) -> Points:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or np.isnan(array).any():
        raise ValueError(f"points must be (N, M) numbers, but got shape {array.shape} or a NaN")
    return array


def _dominates(some: Points, point: Points) -> NDArray[np.bool_]:
    """Which of (N, M) points are nowhere worse than an (M,) point, and somewhere better."""
    return np.asarray(np.logical_and((some <= point).all(axis=1), (some < point).any(axis=1)))


def non_dominated(points: ArrayLike) -> NDArray[np.bool_]:
    """Which of (N, M) points no other point dominates, as an (N,) mask; equal points stay or go together.

    Raises:
        ValueError: the points are not (N, M), or one is NaN.
    """
    array = _checked(points)
    mask = np.zeros(len(array), dtype=bool)
    front, size = np.empty_like(array), 0
    for index in np.lexsort(array.T[::-1]):  # only earlier ones can dominate
        if not _dominates(front[:size], array[index]).any():
            front[size] = array[index]
            size += 1
            mask[index] = True
    return mask


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """The volume that (N, M) points dominate up to the (M,) reference, exactly, for any M of at least 1.

    A point that is not better than the reference in every objective adds nothing.

    Raises:
        ValueError: the shapes do not fit, or a number is NaN.
    """
    array, corner = _with_corner(points, reference)
    inside = array[(array < corner).all(axis=1)]
    return _volume(inside[non_dominated(inside)], corner)


def _with_corner(points: ArrayLike, reference: ArrayLike) -> tuple[Points, Points]:
    array = _checked(points)
    corner: Points = _checked(np.atleast_2d(np.asarray(reference, dtype=np.float64)))[0]
    if corner.shape != array.shape[1:] or not len(corner):
        raise ValueError(f"points must be (N, {len(corner)}) as the reference has it, but got shape {array.shape}")
    return array, corner


def _volume(front: Points, corner: Points) -> float:
    """Hypervolume of points inside the corner that do not dominate each other."""
    if not len(front):
        return 0.0
    if front.shape[1] == 1:
        return float(corner[0] - front[:, 0].min())
    if front.shape[1] == 2:
        falling = front[np.lexsort(front.T[::-1])]
        widths = np.diff(falling[:, 0], append=corner[0])
        return float(widths @ (corner[1] - falling[:, 1]))
    # slice along the last objective: between two neighbouring values the cross-section is a front of one dimension less
    rising = front[np.argsort(front[:, -1], kind="stable")]
    depths = np.diff(rising[:, -1], append=corner[-1])
    section = np.empty((0, front.shape[1] - 1))
    area = total = 0.0
    for point, depth in zip(rising[:, :-1], depths, strict=True):
        if not (section <= point).all(axis=1).any():
            section = np.concatenate([section[~(point <= section).all(axis=1)], point[None]])
            area = _volume(section, corner[:-1])
        total += area * float(depth)
    return total


def hypervolume_over(points: ArrayLike, reference: ArrayLike) -> Points:
    """The hypervolume of the first 1, 2, ... N of (N, M) points, as (N,) numbers that never fall.

    Raises:
        ValueError: the shapes do not fit, or a number is NaN.
    """
    array, corner = _with_corner(points, reference)
    volumes = np.zeros(len(array))
    front = np.empty((0, len(corner)))
    total = 0.0
    for index, point in enumerate(array):
        if (point < corner).all() and not (front <= point).all(axis=1).any():
            shared = np.maximum(front, point)  # what the front already covers of this point's box
            own = float(np.prod(corner - point)) - _volume(shared[non_dominated(shared)], corner)
            total += max(own, 0.0)  # rounding must not let it fall
            front = np.concatenate([front[~(point <= front).all(axis=1)], point[None]])
        volumes[index] = total
    return volumes
