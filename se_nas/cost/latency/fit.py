"""How milliseconds of whole networks become those of blocks, and what predictions are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from se_nas.cost.counts import block_counts, head_counts, stem_counts
from se_nas.cost.table import FloatArray
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec


@dataclass(frozen=True)
class PredictionAccuracy:
    """How predictions meet measurements, over `n` networks.

    Attributes:
        mape: mean absolute error relative to the measured latency.
        within_5, within_10: shares of the networks predicted to 5 % and to 10 %.
        spearman: rank correlation (0 where either side is constant).
        residual_std: standard deviation of the signed relative error.
    """

    n: int
    mape: float
    within_5: float
    within_10: float
    spearman: float
    residual_std: float


def fit_relative(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """The (a, b) whose a + b * x has the least squared error relative to y.

    Args:
        x: (N,) predictors.
        y: (N,) measured values, > 0.
    """
    solution = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones(len(y)), rcond=None)[0]
    return float(solution[0]), float(solution[1])


def prediction_accuracy(predicted: FloatArray, measured: FloatArray) -> PredictionAccuracy:
    """Compare (N,) predictions with (N,) measurements, N at least 2."""
    error = predicted / measured - 1
    constant = np.ptp(predicted) == 0 or np.ptp(measured) == 0
    return PredictionAccuracy(
        n=len(error),
        mape=float(np.mean(np.abs(error))),
        within_5=float(np.mean(np.abs(error) <= 0.05)),
        within_10=float(np.mean(np.abs(error) <= 0.10)),
        spearman=0.0 if constant else float(spearmanr(predicted, measured).statistic),
        residual_std=float(np.std(error, ddof=1)),
    )


def pace_of_ends(space: SearchSpace, blocks: Sequence[BlockSpec], block_ms: FloatArray) -> float:
    """Milliseconds of a multiply-accumulate of stem and head before calibration: those of the blocks.

    Where neither the resolution nor a width of stem or head is a choice they are part of the constant, and this is 0.
    """
    ends = (space.side, *space.stem_widths, space.stage_widths[-1], *space.head_widths)
    if not any(size.varies for size in ends):
        return 0.0
    return float(block_ms.sum()) / max(1, sum(block_counts(block).macs for block in blocks))


def ends_macs(stem: Sequence[ConvSpec], head: HeadSpec) -> int:
    """Multiply-accumulates of a stem and a head."""
    return (stem_counts(stem) + head_counts(head)).macs


@dataclass(frozen=True)
class TermFit:
    """Milliseconds of stem and head, and of every block, that were fitted to whole networks.

    Attributes:
        features: how many of a block's counts its time is a line on.
        ridge: how hard blocks are held to that line, as a share of what the measurements say; None where a block has no
            term of its own.
    """

    intercept_ms: float
    block_ms: FloatArray
    features: int
    ridge: float | None


#: What the lines on a block's counts may be on, in the order of `_counts`: few networks bear few numbers.
_FEATURES = (1, 2, 4, 6)
_RIDGES = (None, 3.0, 1.0, 0.3, 0.1, 0.03)
_FOLDS = 5


def fit_terms(blocks: Sequence[BlockSpec], numbers: FloatArray, measured: FloatArray) -> TermFit:
    """Fit the times of blocks to those of whole networks.

    A block's time is a line on its counts (MACs, maps, SE) and a term of its own, which ridge regression holds near 0.
    How many counts, and how near, is what predicts best the networks that are left out in turn.

    Args:
        blocks: (T,) all that the networks are made of.
        numbers: (N, T) how often each is in each network.
        measured: (N,) milliseconds, > 0.
    """
    counts = _counts(blocks)
    folds = np.arange(len(measured)) % min(_FOLDS, len(measured))
    tried = {}
    for features in _FEATURES:
        for ridge in _RIDGES:
            errors: list[float] = []
            for fold in range(int(folds.max()) + 1):
                kept = folds != fold
                intercept, terms = _terms(counts[:, :features], numbers[kept], measured[kept], ridge)
                predicted = intercept + numbers[~kept] @ terms
                errors += list(np.abs(predicted / measured[~kept] - 1))
            tried[features, ridge] = float(np.mean(errors))
    features, ridge = min(tried, key=lambda one: tried[one])  # of equals the first, which has the fewest numbers
    intercept, terms = _terms(counts[:, :features], numbers, measured, ridge)
    return TermFit(intercept, terms, features, ridge)


def _counts(blocks: Sequence[BlockSpec]) -> FloatArray:
    """(T, 6) numbers on which a block's time depends, each of about 1."""
    rows = [
        (
            block_counts(block).macs,
            1.0,
            block.out_channels * block.out_resolution**2,
            block.se_channels * block.se_resolution**2,
            float(block.se is not None),
            block_counts(block).params,
        )
        for block in blocks
    ]
    counts = np.array(rows, dtype=np.float64)
    return np.asarray(counts / np.maximum(counts.mean(axis=0), 1e-12))


def _terms(
    counts: FloatArray, numbers: FloatArray, measured: FloatArray, ridge: float | None
) -> tuple[float, FloatArray]:
    """The intercept and the (T,) terms of the least squared relative error."""
    design = np.concatenate([np.ones((len(measured), 1)), numbers @ counts], axis=1)
    line = np.linalg.lstsq(design / measured[:, None], np.ones(len(measured)), rcond=None)[0]
    terms = counts @ line[1:]
    if ridge is not None:
        left = 1 - design @ line / measured
        size = np.maximum(np.abs(terms), np.abs(terms).mean() / 10)  # of a block's own term, beside its time
        own = numbers * size / measured[:, None]
        normal = own.T @ own
        held = ridge * max(float(np.mean(np.diag(normal))), 1e-12) * np.eye(len(terms))
        terms = terms + size * np.linalg.solve(normal + held, own.T @ left)
    return float(line[0]), np.asarray(terms)
