"""Estimates with 95 % intervals: differences of networks trained with the same seeds, rank correlations, regret."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, t

from se_nas.records.models.evidence import EstimateEntry

COVERAGE = 0.95
"""Two-sided coverage of every interval."""

FEWEST_NETWORKS = 8
"""A rank correlation over fewer networks gets no interval."""

_BLOCK = 256
"""Rows of an (n, n) matrix of signs held at a time."""

Array = npt.NDArray[np.float64]
E = TypeVar("E", bound=EstimateEntry)


@dataclass(frozen=True)
class Estimate:
    """A number estimated from `n` seeds, pairs or networks, with its 95 % interval.

    Attributes:
        value: the estimate, in the unit of what was measured; nan where it is undefined (nothing measured, or the rank
            correlation of a constant).
        low, high: ends of the interval, in the same unit; None where `n` is too small for one.
        n: how many independent units the interval rests on.
        method: how value and interval were computed, in words.
        p: two-sided p-value of "the true value is zero", by the same law as the interval; None without interval.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    method: str
    p: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and zero is not in it."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def entry(self) -> EstimateEntry:
        """As it stands in a file."""
        return self.entry_of(EstimateEntry)

    def entry_of(self, kind: type[E], **about: object) -> E:
        """The same with what it is about: finite numbers, or None."""
        return kind.model_validate(
            {
                **about,
                "value": self.value if math.isfinite(self.value) else None,
                "low": self.low,
                "high": self.high,
                "n": self.n,
                "method": self.method,
                "p": self.p,
                "excludes_zero": self.excludes_zero,
            }
        )


def paired_difference(ours: npt.ArrayLike, theirs: npt.ArrayLike, *, resolution: float = 0.0) -> Estimate:
    """The mean of ours - theirs over pairs, with Student's t interval of n - 1 degrees of freedom.

    Twins that agree in every pair differ by 0 with the interval [0, 0] and p = 1. One pair has no interval.

    Args:
        ours, theirs: (n,) accuracies, the i-th of both trained with the same seed.
        resolution: the step between two values that an accuracy can have, 1 / images. A few pairs may agree to the
            step by chance; the variance of their differences is thus taken to be at least that of two roundings to
            the step, resolution^2 / 6.

    Raises:
        ValueError: the shapes differ, or a value is not finite.
    """
    differences = _finite(ours, 1) - _finite(theirs, 1, like=np.shape(ours))
    method = "mean of paired differences, Student's t"
    n = len(differences)
    if n < 2:
        return Estimate(float(differences.mean()) if n else math.nan, None, None, n, method)
    least = resolution**2 / 6 if differences.any() else 0.0
    mean, variance = float(differences.mean()), max(float(differences.var(ddof=1)), least)
    low, high, p = student_interval(mean, math.sqrt(variance / n), n - 1)
    return Estimate(mean, low, high, n, method, p)


def crossed_difference(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> Estimate:
    """Ours less the mean of k networks drawn at random, where all were trained with the same n seeds.

    The differences follow a two-way random layout without replication, D[j, s] = mu + a_j + b_s + e_js: networks j
    are a sample of the space, seeds s a sample of trainings. The mean's variance, (n A + k B + E) / (k n) for the
    variances A of a, B of b and E of e, is estimated from the mean squares as (MS_a + MS_b - MS_e) / (k n), at least
    the larger of MS_a / (k n) and MS_b / (k n), with Satterthwaite's degrees of freedom (Searle, Casella and
    McCulloch, Variance Components, Wiley 1992, chapter 4 on the expected mean squares; Satterthwaite, Biometrics
    Bulletin 2, 1946, 110-114). Simulated for 4 to 10 networks, its 95 % are 93 to 99 from three seeds on, but 90 to
    92 with two seeds and 8 or more networks, where one degree of freedom must tell the spread of the seeds.

    Args:
        ours: (n,) accuracies, one for each seed.
        theirs: (k, n) accuracies, one row for each network; one row is `paired_difference`.

    Returns:
        An estimate whose n counts the seeds; one seed has no interval.

    Raises:
        ValueError: the shapes do not fit, or a value is not finite.
    """
    others = _finite(theirs, 2)
    k, n = others.shape
    differences = _finite(ours, 1, like=(n,)) - others
    if k == 1:
        return paired_difference(np.asarray(ours), others[0])
    method = f"mean over {k} networks x {n} seeds, two-way random effects, Satterthwaite's degrees of freedom"
    if k == 0 or n < 2:
        return Estimate(float(differences.mean()) if differences.size else math.nan, None, None, n, method)
    mean = float(differences.mean())
    networks, seeds = differences.mean(axis=1), differences.mean(axis=0)
    residuals = differences - networks[:, None] - seeds + mean
    ms_a = n * float(networks.var(ddof=1))
    ms_b = k * float(seeds.var(ddof=1))
    ms_e = float((residuals**2).sum()) / ((k - 1) * (n - 1))
    total, dof = crossed_variance(ms_a, ms_b, ms_e, k, n)
    low, high, p = student_interval(mean, math.sqrt(total / (k * n)), dof)
    return Estimate(mean, low, high, n, method, p)


def crossed_variance(ms_a: float, ms_b: float, ms_e: float, k: int, n: int) -> tuple[float, float]:
    """k n times the variance of the mean of a two-way layout, and its degrees of freedom."""
    total = ms_a + ms_b - ms_e
    if total <= max(ms_a, ms_b):
        return (ms_a, k - 1) if ms_a >= ms_b else (ms_b, n - 1)
    dof = total**2 / (ms_a**2 / (k - 1) + ms_b**2 / (n - 1) + ms_e**2 / ((k - 1) * (n - 1)))
    return total, max(dof, min(k, n) - 1)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted for their number (Holm, Scandinavian Journal of Statistics 6, 1979, 65-70).

    Rejecting where the adjusted value is at most 0.05 keeps the chance of any false rejection within 5 %.
    None (no test was made) stays None and does not count.
    """
    made = sorted((value, place) for place, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, place) in enumerate(made):
        largest = max(largest, min(1.0, (len(made) - rank) * value))
        adjusted[place] = largest
    return adjusted


def kendall(x: npt.ArrayLike, y: npt.ArrayLike) -> Estimate:
    """Kendall's tau-b of two (n,) scores of the same networks.

    The interval deletes each network in turn (jackknife) on Fisher's scale z = artanh(tau), with Student's t of n - 1
    degrees of freedom; there is none below FEWEST_NETWORKS networks, or where x or y is constant.

    Raises:
        ValueError: the shapes differ, or a value is not finite.
    """
    return _jackknife(lambda columns: _kendall_without_each(*columns), (x, y), "Kendall's tau-b", _KENDALL)


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> Estimate:
    """Spearman's rank correlation of two (n,) scores of the same networks, with the interval of `kendall`.

    Raises:
        ValueError: the shapes differ, or a value is not finite.
    """
    return _jackknife(lambda columns: _spearman_without_each(*columns), (x, y), "Spearman's rho", _SPEARMAN)


def partial_kendall(x: npt.ArrayLike, y: npt.ArrayLike, z: npt.ArrayLike) -> Estimate:
    """Kendall's tau of x and y with z held fixed, (t_xy - t_xz t_yz) / sqrt((1 - t_xz^2) (1 - t_yz^2)).

    (Kendall, Biometrika 32, 1942, 277-283.) The interval is that of `kendall`. The value is nan where z orders the
    networks exactly as x or y does.

    Raises:
        ValueError: the shapes differ, or a value is not finite.
    """

    def without_each(columns: list[Array]) -> tuple[float, Array]:
        a, b, c = columns
        (xy, xys), (xz, xzs), (yz, yzs) = (_kendall_without_each(*pair) for pair in ((a, b), (a, c), (b, c)))
        partials = _partial(np.append(xys, xy), np.append(xzs, xz), np.append(yzs, yz))
        return float(partials[-1]), partials[:-1]

    return _jackknife(without_each, (x, y, z), "partial Kendall's tau", _KENDALL)


def _partial(xy: Array, xz: Array, yz: Array) -> Array:
    left = (1 - xz**2) * (1 - yz**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(left > 1e-12, (xy - xz * yz) / np.sqrt(left), math.nan)


def kendall_gain(x: npt.ArrayLike, other: npt.ArrayLike, y: npt.ArrayLike) -> Estimate:
    """By how much x ranks like y better than `other` does, tau(x, y) - tau(other, y), on the same networks.

    The interval is that of `kendall`, but on the plain scale.

    Raises:
        ValueError: the shapes differ, or a value is not finite.
    """

    def without_each(columns: list[Array]) -> tuple[float, Array]:
        (ours, each_ours), (theirs, each_theirs) = (_kendall_without_each(column, columns[2]) for column in columns[:2])
        return ours - theirs, each_ours - each_theirs

    return _jackknife(without_each, (x, other, y), "difference of two Kendall's tau-b", None)


def seed_ceiling(accuracies: npt.ArrayLike) -> Estimate:
    """The agreement of two trainings on the order of the networks: the mean Kendall's tau over the pairs of seeds.

    Noise of the seeds is all that keeps this from 1. It is no bound: both trainings are noisy, so that a perfect score
    would agree with one training better than another training does, and better still with the mean of several.

    Args:
        accuracies: (n, s), one row for each network, one column for each seed; nan where a training is missing,
            which leaves the network out of that seed's pairs.

    Returns:
        An estimate whose n counts the networks with at least two trainings, with the interval of `kendall`.
        Its value is nan for fewer than two seeds.

    Raises:
        ValueError: `accuracies` has not two dimensions.
    """
    table = np.asarray(accuracies, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"accuracies must have two dimensions, networks x seeds, but got shape {table.shape}")
    table = table[np.isfinite(table).sum(axis=1) >= 2]

    def without_each(columns: list[Array]) -> tuple[float, Array]:
        values, without = [], []
        for first, second in combinations(columns, 2):
            both = np.isfinite(first) & np.isfinite(second)
            value, each = _kendall_without_each(first[both], second[both])
            values.append(value)
            without.append(np.full(len(table), value))
            without[-1][both] = each
        known = [place for place, value in enumerate(values) if math.isfinite(value)]
        if not known:
            return math.nan, np.full(len(table), math.nan)
        return float(np.mean([values[i] for i in known])), np.mean([without[i] for i in known], axis=0)

    return _interval(without_each(list(table.T)), len(table), "mean Kendall's tau-b of two seeds", _KENDALL)


def top_k_regret(scores: npt.ArrayLike, truth: npt.ArrayLike, k: int) -> float:
    """The best truth of all networks less the best truth among the k with the highest scores.

    Args:
        scores: (n,) higher is better; among equal scores the earlier network is taken first.
        truth: (n,) higher is better.
        k: 1 to n.

    Returns:
        At least 0, in the unit of `truth`.

    Raises:
        ValueError: the shapes differ, a value is not finite, or k is not within 1 to n.
    """
    values = _finite(truth, 1)
    order = np.argsort(-_finite(scores, 1, like=values.shape), kind="stable")
    return float(values.max() - values[order[: _within(k, len(values))]].max())


def random_top_k_regret(truth: npt.ArrayLike, k: int) -> float:
    """The exact mean of `top_k_regret` over all ways to draw k of the networks without replacement.

    Args:
        truth: (n,) higher is better.
        k: 1 to n.

    Raises:
        ValueError: a value is not finite, or k is not within 1 to n.
    """
    falling = np.sort(_finite(truth, 1))[::-1]
    n = len(falling)
    # the best of the k drawn is the i-th best of all with chance C(n - i, k - 1) / C(n, k), each from the one before
    places = np.arange(1, n)
    chances = _within(k, n) / n * np.cumprod(np.append(1.0, (n - k - places + 1) / (n - places)).clip(min=0.0))
    return float(falling[0] - chances @ falling)


def _within(k: int, n: int) -> int:
    if not 1 <= k <= n:
        raise ValueError(f"k must be within 1 to the number of networks, {n}, but got {k}")
    return k


def _finite(values: npt.ArrayLike, dimensions: int, like: tuple[int, ...] | None = None) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or (like is not None and array.shape != like):
        wanted = f"{dimensions} dimension(s)" if like is None else f"shape {like}"
        raise ValueError(f"values must have {wanted}, but got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite, but got nan or an infinity")
    return array


def student_interval(value: float, error: float, dof: float) -> tuple[float, float, float]:
    """Ends of Student's t interval, and p; without any spread the interval is the value alone."""
    half = float(t.ppf((1 + COVERAGE) / 2, dof)) * error
    p = float(2 * t.sf(abs(value) / error, dof)) if error > 0 else float(value == 0)
    return value - half, value + half, p


def _jackknife(
    without_each: Callable[[list[Array]], tuple[float, Array]],
    columns: Sequence[npt.ArrayLike],
    method: str,
    scale: _FisherScale | None,
) -> Estimate:
    checked = [_finite(column, 1, like=np.shape(columns[0])) for column in columns]
    return _interval(without_each(checked), len(checked[0]), method, scale)


@dataclass(frozen=True)
class _FisherScale:
    """What z = artanh(correlation) needs where the correlation of n networks is 1 or -1, and so z is infinite.

    Attributes:
        step: by how much the correlation falls when two neighbours in a perfect order trade places.
        variance: of z, for normal scores (Fieller, Hartley and Pearson, Biometrika 44, 1957, 470-481).
    """

    step: Callable[[int], float]
    variance: Callable[[int], float]

    def z(self, correlation: Array, n: int) -> Array:
        """(m,) z, taking a perfect correlation to be half a step short of that."""
        bound = 1 - self.step(n) / 2
        scaled: Array = np.arctanh(correlation.clip(-bound, bound))
        return scaled


_KENDALL = _FisherScale(step=lambda n: 4 / (n * (n - 1)), variance=lambda n: 0.437 / (n - 4))
_SPEARMAN = _FisherScale(step=lambda n: 12 / (n * (n**2 - 1)), variance=lambda n: 1.06 / (n - 3))


def _interval(statistic: tuple[float, Array], n: int, method: str, scale: _FisherScale | None) -> Estimate:
    """The interval of a statistic from its values with each of the n networks left out.

    With a `scale`, a correlation of 1 or -1 has no spread: the interval then ends there, and its other end is that
    of a correlation one step lower with the variance of normal scores.
    """
    value, without = statistic
    method = f"{method}, jackknife over networks" + ("" if scale is None else " on Fisher's z scale")
    if n < FEWEST_NETWORKS or not math.isfinite(value) or not np.isfinite(without).all():
        return Estimate(value, None, None, n, method)
    perfect = scale is not None and abs(value) > 1 - 1e-12
    each = without if scale is None else scale.z(without, n - 1)
    middle, error = value, math.sqrt((n - 1) / n * float(((each - each.mean()) ** 2).sum()))
    if scale is not None:
        middle = float(scale.z(np.array(value), n))
        if perfect:
            middle, error = math.copysign(math.atanh(1 - scale.step(n)), value), math.sqrt(scale.variance(n))
    low, high, p = student_interval(middle, error, n - 1)
    if scale is not None:
        low, high = math.tanh(low), math.tanh(high)
    if perfect:
        low, high = (low, 1.0) if value > 0 else (-1.0, high)
    return Estimate(value, low, high, n, method, p)


def _kendall_without_each(x: Array, y: Array) -> tuple[float, Array]:
    """Tau-b of all networks, and (n,) with each left out: its own pairs are subtracted from the counts of all."""
    n = len(x)
    agree, untied_x, untied_y = np.zeros(n), np.zeros(n), np.zeros(n)
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        signs_x, signs_y = _signs(x, rows), _signs(y, rows)
        agree[rows] = (signs_x * signs_y).sum(axis=1, dtype=np.int64)
        untied_x[rows] = np.count_nonzero(signs_x, axis=1)
        untied_y[rows] = np.count_nonzero(signs_y, axis=1)
    # every pair is counted in two rows
    value = _ratio(*(np.array(counts.sum() / 2) for counts in (agree, untied_x, untied_y)))
    without = _ratio(*(counts.sum() / 2 - counts for counts in (agree, untied_x, untied_y)))
    return float(value), without


def _spearman_without_each(x: Array, y: Array) -> tuple[float, Array]:
    """Spearman's rho of all networks, and (n,) with each left out.

    Leaving out network i takes (1 + sign(x_j - x_i)) / 2 from the rank of j. About their means the ranks are then
    a_j - sign(x_j - x_i) / 2 with a_j the ranks of all about theirs, and their products expand into sums over signs.
    """
    n = len(x)
    a, b = rankdata(x) - (n + 1) / 2, rankdata(y) - (n + 1) / 2
    moments = {name: np.zeros(n) for name in ("xy", "xx", "yy")}
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        signs = {"x": _signs(x, rows).astype(np.float64), "y": _signs(y, rows).astype(np.float64)}
        for name, moment in moments.items():
            first, second = signs[name[0]], signs[name[1]]
            ranks = {"x": a, "y": b}
            p, q = ranks[name[0]], ranks[name[1]]
            crossed = (first @ q + second @ p) / 2 - np.einsum("ij,ij->i", first, second) / 4
            moment[rows] = p @ q - (p * q)[rows] - crossed
    value = _ratio(np.array(a @ b), np.array(a @ a), np.array(b @ b))
    return float(value), _ratio(moments["xy"], moments["xx"], moments["yy"])


def _signs(values: Array, rows: slice) -> npt.NDArray[np.int8]:
    """(rows, n): 1 where the column's value is above the row's, -1 where below, 0 where equal."""
    return (values > values[rows, None]).view(np.int8) - (values < values[rows, None]).view(np.int8)


def _ratio(product: Array, first: Array, second: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((first > 0) & (second > 0), product / np.sqrt(first * second), math.nan)
