"""Which blocks and which networks of a space are timed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from se_nas.cost.table import FloatArray
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Choice
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec, NetworkSpec


def distinct_blocks(space: SearchSpace) -> tuple[BlockSpec, ...]:
    """Every block that some network of the space has, once, in order of first appearance."""
    return tuple(
        dict.fromkeys(op.block(**options) for slot in space.slots for op in slot.ops for options in op.combinations())
    )


def spread_architectures(space: SearchSpace, count: int, rng: np.random.Generator) -> list[Architecture]:
    """Distinct architectures, spread over the space's sizes; fewer than `count` where no more turn up in 50 draws each.

    Uniform picks make almost every network of middling size. So each draw first tilts the numbers (depth, kernel,
    expansion) towards the small or the large, and apart from that the named options (SE) towards the first or the last.
    """
    found: dict[Architecture, None] = {}
    for _ in range(50 * count):
        if len(found) == count:
            break
        of_numbers, of_names = rng.uniform(-2.0, 2.0, size=2)
        found.setdefault(
            space.architecture(
                {
                    c.name: c.options[rng.choice(len(c.options), p=_tilted(c, of_names if _named(c) else of_numbers))]
                    for c in space.choices
                }
            )
        )
    return list(found)


def _named(choice: Choice) -> bool:
    return isinstance(choice.options[0], str)


def _tilted(choice: Choice, tilt: float) -> FloatArray:
    ranks = np.arange(len(choice.options)) if _named(choice) else np.argsort(np.argsort(choice.options))
    weights = np.exp(tilt * ranks)
    return np.asarray(weights / weights.sum())


def block_numbers(blocks: Sequence[BlockSpec], networks: Sequence[NetworkSpec]) -> FloatArray:
    """(N, T) how often each of the blocks is in each of the networks."""
    place = {block: i for i, block in enumerate(blocks)}
    numbers = np.zeros((len(networks), len(blocks)))
    for i, network in enumerate(networks):
        for block in network.blocks:
            numbers[i, place[block]] += 1
    return numbers
