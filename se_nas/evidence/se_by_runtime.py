"""Whether runtimes agree on SE: its share of each block's time, and the order of its options, table by table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from se_nas.cost.latency.table import LatencyTable
from se_nas.errors import ConfigError
from se_nas.evidence.choices_in_use import se_places
from se_nas.space.choice import Option
from se_nas.space.slots.slot import SlotOp
from se_nas.space.specs import BlockSpec

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
    places: dict[_Blocks, list[str]] = {}
    named = se_places(first.space)
    for op in (op for slot in first.space.slots for op in slot.ops):
        choice, blocks = op.axis("se").choice, _Blocks.of(op)
        if choice is not None and blocks.with_and_without:
            held = places.setdefault(blocks, [])
            if named[choice] not in held:  # a stage may share one choice
                held.append(named[choice])
    return [
        SEInBlock(
            tuple(held),
            {name: blocks.share(table) for name, table in tables.items()},
            {name: blocks.option_ms(table) for name, table in tables.items()},
        )
        for blocks, held in places.items()
    ]


def share_ranks(blocks: Sequence[SEInBlock], one: str, other: str) -> float:
    """Spearman's correlation over blocks of SE's shares in two tables; 0 where all are equal, or there are too few."""
    shares = np.array([[block.shares[one], block.shares[other]] for block in blocks])
    if len(shares) < 3 or not np.ptp(shares, axis=0).all():
        return 0.0
    return float(spearmanr(shares).statistic)


@dataclass(frozen=True)
class _Blocks:
    """The blocks of a place: a row for each kernel, expansion and so on, with a block for each option of SE."""

    options: tuple[Option, ...]
    rows: tuple[tuple[BlockSpec, ...], ...]

    @classmethod
    def of(cls, op: SlotOp) -> _Blocks:
        options = op.axis("se").options
        others = [axis.part for axis in op.axes if axis.part != "se"]
        rows = (tuple(op.block(**rest, se=se) for se in options) for rest in op.combinations(*others))
        # at a position that is none in the block no row has SE
        return cls(options, tuple(row for row in rows if any(block.se is not None for block in row)))

    @property
    def with_and_without(self) -> bool:
        return bool(self.rows) and all(len({block.se is None for block in row}) == 2 for row in self.rows)

    def share(self, table: LatencyTable) -> float:
        with_se = without = 0.0
        for row in self.rows:
            bare = next(table.block_ms[block] for block in row if block.se is None)
            for block in row:
                if block.se is not None:
                    with_se += table.block_ms[block]
                    without += bare
        return 1 - without / with_se if with_se > 0 else 0.0

    def option_ms(self, table: LatencyTable) -> dict[Option, float]:
        ms = table.fit.factor * np.array([[table.block_ms[block] for block in row] for row in self.rows])
        return dict(zip(self.options, map(float, ms.mean(axis=0)), strict=True))
