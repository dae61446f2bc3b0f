"""The times of blocks that were not timed, from those of a part that was.

A space of many kernels, expansions and widths has thousands of distinct blocks, whose times are much alike: they follow
from a dozen sizes. The logarithm of a block's time is learnt from the blocks that were timed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from se_nas.cost.counts import block_counts
from se_nas.cost.table import FloatArray
from se_nas.space.specs import BlockSpec

if TYPE_CHECKING:
    from sklearn.gaussian_process.kernels import Kernel  # takes a second to import, which tables alone need

#: Fewer tell too little of the others: of 417 blocks 20 missed the rest by 8 to 23 %, 41 by 3 to 7 %.
LEAST_BLOCKS = 32
_FOLDS = 5
#: Blocks from which it is learnt how alike blocks are; from all of them it would take minutes.
_ALIKE = 300


@dataclass(frozen=True)
class BlockPrediction:
    """How many blocks were timed, and what the prediction of the others is worth.

    Attributes:
        timed, predicted: how many blocks.
        mape: mean absolute relative error on timed blocks that were left out in turn.
    """

    timed: int
    predicted: int
    mape: float


def chosen_blocks(blocks: Sequence[BlockSpec], count: int) -> list[int]:
    """Places of the blocks to time: half of them drawn by chance, and to these in turn the one farthest from all.

    Those far from others hold the model at the ends of the space; those drawn by chance are as the blocks are that are
    not timed, so that the error on them is theirs.
    """
    rows, chosen = _features(blocks), _drawn(len(blocks), count)
    distance = np.full(len(blocks), np.inf)
    for place in chosen:
        distance = np.minimum(distance, np.linalg.norm(rows - rows[place], axis=1))
    while len(chosen) < min(count, len(blocks)):
        distance[chosen] = -1.0  # two blocks may have the same features
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(rows - rows[chosen[-1]], axis=1))
    return sorted(chosen)


def predict_blocks(
    blocks: Sequence[BlockSpec], timed: Sequence[int], timed_ms: FloatArray
) -> tuple[FloatArray, BlockPrediction]:
    """The (T,) milliseconds of all blocks: of those at the places `chosen_blocks` their own, of the others the model's.

    Args:
        timed: the places of the blocks that were timed.
        timed_ms: their milliseconds, at least 0.
    """
    rows, at = _features(blocks), np.asarray(timed)
    # a time of 0 is one below the noise: it has no logarithm
    log_ms = np.log(np.maximum(timed_ms, np.min(timed_ms[timed_ms > 0], initial=1.0) / 2))
    drawn = np.isin(at, _drawn(len(blocks), len(at)))
    folds = np.random.default_rng(1).permutation(len(at)) % _FOLDS
    kernel = _kernel(rows[at[:_ALIKE]], log_ms[:_ALIKE])
    errors: list[float] = []
    for fold in range(_FOLDS):
        left, kept = drawn & (folds == fold), folds != fold
        if left.any():
            predicted = _predicted(kernel, rows[at[kept]], log_ms[kept], rows[at[left]])
            errors += list(np.abs(np.exp(predicted - log_ms[left]) - 1))
    found = np.exp(_predicted(kernel, rows[at], log_ms, rows))
    found[at] = timed_ms
    return found, BlockPrediction(len(at), len(blocks) - len(at), float(np.mean(errors)))


def _drawn(blocks: int, count: int) -> list[int]:
    return [int(place) for place in np.random.default_rng(0).permutation(blocks)[: (count + 1) // 2]]


def _features(blocks: Sequence[BlockSpec]) -> FloatArray:
    """(T, F) logarithms of sizes, and which variants a block has; each column of mean 0 and deviation 1."""
    sizes = [
        (
            block_counts(block).macs,
            block_counts(block).params,
            block.in_channels,
            block.out_channels,
            block.expanded,
            block.resolution,
            block.kernel,
            block.stride,
            block.expanded * block.out_resolution**2,
            block.se_channels * block.se_resolution**2,
            block.se_hidden,
        )
        for block in blocks
    ]
    variants = [set(_variants(block)) for block in blocks]
    names = sorted(set().union(*variants), key=repr)
    columns = [[float(name in has) for name in names] for has in variants]
    rows = np.concatenate([np.log1p(np.array(sizes, dtype=np.float64)), np.array(columns)], axis=1)
    rows = rows[:, np.ptp(rows, axis=0) > 0]
    return np.asarray((rows - rows.mean(axis=0)) / rows.std(axis=0))


def _variants(block: BlockSpec) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = [("kind", block.kind), ("activation", block.activation)]
    found += [("form", words) for words in block.form.words()]
    if block.se_built is not None:
        kind, _, *rest = block.se_built  # the size is a feature
        found += [("unit", kind), *((f"unit {place}", value) for place, value in enumerate(rest))]
    return found


def _kernel(rows: FloatArray, values: FloatArray) -> Kernel:
    """How alike blocks are: a line on the features, and smooth differences from it.

    Of 417 and of 1,176 blocks with 5 to 50 % timed, such a Gaussian process missed the others by less than ridge
    regression on products of two features did, and by two thirds of what boosted trees did.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

    scale = math.sqrt(max(1, rows.shape[1]))
    kernel = DotProduct() + ConstantKernel(0.1) * RBF(scale, (scale / 10, scale * 10)) + WhiteKernel(1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound that was reached does no harm
        return GaussianProcessRegressor(kernel, normalize_y=True).fit(rows, values).kernel_


def _predicted(kernel: Kernel, rows: FloatArray, values: FloatArray, others: FloatArray) -> FloatArray:
    from sklearn.gaussian_process import GaussianProcessRegressor

    fitted = GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True).fit(rows, values)
    return np.asarray(fitted.predict(others))
