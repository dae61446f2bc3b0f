"""Whether runtimes agree on SE: its share of each block's time, and the order of its options, table by table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from se_nas.cost.latency.table import LatencyTable
from se_nas.errors import ConfigError
from se_nas.evidence.choices_in_use import se_places
from se_nas.space.choice import Option
from se_nas.space.specs import BlockSpec
from se_nas.space.templates import SlotOp

CLEAR = 0.02
"""Share of a block's time by which one option must be slower than another for their order to count; noise is below."""


@dataclass(frozen=True)
class SEInBlock:
    """What SE takes of a block's time, by the name of the table.

    Attributes:
        places: what the choice decides on, "stage2.block3"; several where their blocks are the same.
        shares: of the time of blocks with SE, what the same blocks without it do not take, over all kernels, expansions
            and options of SE.
        option_ms: of each option of SE the block's milliseconds, the mean over kernels and expansions.
    """

    places: tuple[str, ...]
    shares: Mapping[str, float]
    option_ms: Mapping[str, Mapping[Option, float]]

    @property
    def spread(self) -> float:
        """How far the shares are apart."""
        return max(self.shares.values()) - min(self.shares.values())

    @property
    def swapped(self) -> list[tuple[Option, Option]]:
        """Pairs of options of which the first is clearly slower in one table and clearly faster in another."""
        found = []
        for pair in itertools.combinations(next(iter(self.option_ms.values())), 2):
            leads = [(ms[pair[0]] - ms[pair[1]]) / max(ms.values()) for ms in self.option_ms.values()]
            if max(leads) >= CLEAR and min(leads) <= -CLEAR:
                found.append(pair)
        return found


def se_by_runtime(tables: Mapping[str, LatencyTable]) -> list[SEInBlock]:
    """What SE takes in each block that can be with SE and without, in order of depth.

    Args:
        tables: by what each is called; at least one, all of one space.

    Raises:
        ConfigError: they are of several spaces.
    """
    first, *others = tables.values()
    if any(table.space.digest != first.space.digest for table in others):
        names = ", ".join(dict.fromkeys(table.space.name for table in tables.values()))
        raise ConfigError("latency tables", [f"must be of one space to be compared, but are of {names}"])
    places: dict[tuple[tuple[BlockSpec, ...], ...], list[str]] = {}
    options: dict[tuple[tuple[BlockSpec, ...], ...], tuple[Option, ...]] = {}
    named = se_places(first.space)
    for op in (op for slot in first.space.slots for op in slot.ops):
        rows = _rows(op)
        if op.se.choice is None or not rows:
            continue
        options[rows] = op.se.options
        held = places.setdefault(rows, [])
        if named[op.se.choice] not in held:  # a stage may share one choice
            held.append(named[op.se.choice])
    return [
        SEInBlock(
            tuple(held),
            {name: _share(rows, table) for name, table in tables.items()},
            {name: _option_ms(rows, options[rows], table) for name, table in tables.items()},
        )
        for rows, held in places.items()
    ]


def share_ranks(blocks: list[SEInBlock], one: str, other: str) -> float:
    """Spearman's correlation over blocks of SE's shares in two tables; 0 where all are equal, or there are too few."""
    shares = np.array([[block.shares[one], block.shares[other]] for block in blocks])
    if len(shares) < 3 or not np.ptp(shares, axis=0).all():
        return 0.0
    return float(spearmanr(shares).statistic)


def _rows(op: SlotOp) -> tuple[tuple[BlockSpec, ...], ...]:
    """For each kernel and expansion the blocks of all options of SE; none where all are with it, or all without."""
    rows = tuple(
        tuple(op.block(kernel, expansion, se) for se in op.se.options)
        for kernel in op.kernel.options
        for expansion in op.expansion.options
    )
    return rows if len({block.se is None for block in rows[0]}) == 2 else ()


def _share(rows: tuple[tuple[BlockSpec, ...], ...], table: LatencyTable) -> float:
    with_se = without = 0.0
    for row in rows:
        bare = next(table.block_ms[block] for block in row if block.se is None)
        for block in row:
            if block.se is not None:
                with_se += table.block_ms[block]
                without += bare
    return 1 - without / with_se if with_se > 0 else 0.0


def _option_ms(
    rows: tuple[tuple[BlockSpec, ...], ...], options: tuple[Option, ...], table: LatencyTable
) -> dict[Option, float]:
    ms = table.fit.factor * np.array([[table.block_ms[block] for block in row] for row in rows])
    return dict(zip(options, map(float, ms.mean(axis=0)), strict=True))
