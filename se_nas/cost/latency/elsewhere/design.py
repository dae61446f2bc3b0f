"""Which networks of a space to time so that their times tell every block's: D-optimal ones, not random ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from se_nas.cost.latency.choosing import block_numbers, distinct_blocks, spread_architectures
from se_nas.cost.table import FloatArray
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace

#: Networks that are looked at for each that is chosen.
_POOL = 20
#: What is known of every term before anything is timed, as a share of what one timing of its block tells. It makes
#: designs of fewer networks than there are terms comparable.
_KNOWN = 0.01


@dataclass(frozen=True)
class Design:
    """Networks to time.

    Attributes:
        efficiency: how many random networks tell as much as one of these, by the determinants of their information.
    """

    architectures: tuple[Architecture, ...]
    efficiency: float


def d_optimal(space: SearchSpace, count: int, seed: int = 0) -> Design:
    """Choose networks one by one, each the one whose time is least known from those before it.

    The information that they have of the blocks' times, X'X for the number X of each block in each network, then has a
    determinant near the greatest, so that the times have the least joint uncertainty.

    Args:
        count: how many; fewer where the space has fewer.
    """
    rng = np.random.default_rng(seed)
    pool = spread_architectures(space, count * _POOL, rng)
    blocks = distinct_blocks(space)
    numbers = block_numbers(blocks, [space.resolve(architecture) for architecture in pool])
    rows = np.concatenate([np.ones((len(pool), 1)), numbers], axis=1)
    chosen = _greedy(rows, min(count, len(pool)))
    random = [_information(rows[rng.permutation(len(pool))[: len(chosen)]]) for _ in range(5)]
    gain = np.exp((_information(rows[chosen]) - float(np.mean(random))) / rows.shape[1])
    return Design(tuple(pool[place] for place in chosen), float(gain))


def _greedy(rows: FloatArray, count: int) -> list[int]:
    unknown = np.eye(rows.shape[1]) / _KNOWN  # the inverse of what is known
    variance = np.einsum("nt,nt->n", rows, rows) / _KNOWN
    chosen: list[int] = []
    for _ in range(count):
        best = int(np.argmax(variance))
        chosen.append(best)
        along = unknown @ rows[best]
        shrink = 1 + variance[best]
        unknown -= np.outer(along, along) / shrink
        variance = variance - (rows @ along) ** 2 / shrink
        variance[chosen] = -np.inf
    return chosen


def _information(rows: FloatArray) -> float:
    """The logarithm of the determinant of what networks tell."""
    return float(np.linalg.slogdet(rows.T @ rows + _KNOWN * np.eye(rows.shape[1]))[1])
