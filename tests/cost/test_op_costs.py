"""What is counted of every combination is what its block has, though few combinations are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given

from se_nas.cost.metrics import METRICS, Metric
from se_nas.cost.op_costs import counted_costs
from se_nas.cost.table import count_tables
from se_nas.space.blocks import BLOCKS, register_block
from se_nas.space.blocks.plan import BlockPlan
from se_nas.space.blocks.shape import BlockShape
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.slot import SlotOp
from se_nas.space.specs import BlockSpec
from se_nas.space.yaml.file import parse_space
from tests.helpers.own_kinds import GHOST, added
from tests.helpers.strategies import spaces

POSITIONS = ("inside", "pre", "post", "identity")


@pytest.fixture(autouse=True)
def _own_kinds() -> Iterator[None]:
    with added():
        yield


def space_of(kind: str, positions: Sequence[str] = POSITIONS) -> SearchSpace:
    se = {"options": ["none", 2, 8, "eca", "cbam/2"], "divisor": 1, "position": list(positions)}
    stage = {"width": 8, "stride": 1, "blocks": [{"kind": kind, "kernel": [3, 5, 7], "expansion": [2, 3], "se": se}]}
    return parse_space({"name": "one", "resolution": 6, "stem": {"width": 8}, "stages": [stage]}, "one")


def check(op: SlotOp) -> None:
    """Every combination by itself."""
    for name, values in counted_costs(op).items():
        block_cost = METRICS[name].block
        assert block_cost is not None
        assert values.shape == tuple(len(axis.options) for axis in op.axes)
        for index, options in zip(np.ndindex(values.shape), op.combinations(), strict=True):
            assert values[index] == block_cost(op.block(**options)), (name, options)


@given(spaces())
def test_every_count_of_every_combination_is_that_of_its_block(space: SearchSpace) -> None:
    for op in {op.unnamed for slot in space.slots for op in slot.ops}:
        check(op)


@pytest.mark.parametrize(
    ("kind", "positions"), [("mbconv", POSITIONS), ("fused_mbconv", POSITIONS), (GHOST.name, ("inside", "pre"))]
)
def test_so_it_is_where_every_part_is_a_choice(kind: str, positions: Sequence[str]) -> None:
    check(space_of(kind, positions).slots[0].ops[0])


def test_so_it_is_where_a_larger_kernel_is_another_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of one's own: wider in the middle from a kernel of 5 on, and without its shortcut at 7."""
    inverted = BLOCKS["mbconv"].plan

    def plan(shape: BlockShape) -> BlockPlan:
        assert inverted is not None
        wider = replace(shape, expanded=shape.expanded * (2 if shape.kernel > 3 else 1))
        found = inverted(wider)
        return replace(found, skip="none") if shape.kernel == 7 else found

    register_block(replace(BLOCKS["mbconv"], name="odd", plan=plan))
    try:
        op = space_of("odd").slots[0].ops[0]
        peaks = counted_costs(op)["peak_activation_bytes"]
        assert not np.all(peaks == peaks.take([0], axis=[axis.part for axis in op.axes].index("kernel")))
        check(op)
    finally:
        del BLOCKS["odd"]


def test_a_metric_that_says_nothing_of_its_parts_is_asked_of_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(block: BlockSpec) -> float:
        return block.kernel * (1 + block.se_hidden)

    monkeypatch.setitem(METRICS, "odd", Metric(title="Odd", unit="odd", block=odd))
    check(space_of("mbconv").slots[0].ops[0])


def test_no_metric_of_ours_is_asked_of_every_combination_of_kernel_and_se(monkeypatch: pytest.MonkeyPatch) -> None:
    space, asked = space_of("mbconv"), dict.fromkeys(METRICS, 0)

    def counting(name: str, of: Callable[[BlockSpec], float], block: BlockSpec) -> float:
        asked[name] += 1
        return of(block)

    for name, metric in METRICS.items():
        if metric.block is not None:
            monkeypatch.setitem(METRICS, name, replace(metric, block=partial(counting, name, metric.block)))
    kernels, expansions, of_se = 3, 2, 5 * len(POSITIONS)
    for name in count_tables(space):
        assert 0 < asked[name] <= expansions * max(kernels, of_se)
