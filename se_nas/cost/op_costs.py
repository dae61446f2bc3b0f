"""What the blocks cost that may stand at one place: an array over the options of their parts.

Counted metrics do not take every combination of kernel and SE, of which there may be thousands: what SE adds is the
same beside every kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from se_nas.cost.metrics import METRICS
from se_nas.space.block_plan import frame
from se_nas.space.choice import SE_PARTS
from se_nas.space.slots.slot import SlotOp
from se_nas.space.specs import BlockSpec

_Costs = NDArray[np.float64]
_Blocks = NDArray[np.object_]


def clocked_costs(op: SlotOp, block_cost: Callable[[BlockSpec], float]) -> _Costs:
    """Of the block of every combination of an op's options, whatever that depends on."""
    # SE ratios of one hidden width are one network, so they take one cost, also where a clock finds two
    known: dict[tuple[object, ...], float] = {}

    def cost(block: BlockSpec) -> float:
        key = block.distinct
        if key not in known:
            known[key] = float(block_cost(block))
        return known[key]

    return _each(cost, _blocks(op))


def counted_costs(op: SlotOp) -> dict[str, _Costs]:
    """The same of every metric that is counted."""
    shape = tuple(len(axis.options) for axis in op.axes)
    without_se = _each(lambda block: replace(block, se=None), _blocks(op, SE_PARTS), object)
    frames = _each(frame, without_se, object)
    kernel = [axis.part for axis in op.axes].index("kernel")
    alike = bool(np.all(frames == frames.take([0], axis=kernel)))  # kernels change nothing but themselves
    at_one_kernel = _blocks(op, ("kernel",)) if alike else None
    costs = {}
    for name, metric in METRICS.items():
        if metric.block is None:
            continue
        if at_one_kernel is not None and metric.attention is not None:
            found = _each(metric.block, without_se) + _each(metric.attention, at_one_kernel)
        elif at_one_kernel is not None and not metric.reads_kernel:
            found = _each(metric.block, at_one_kernel)
        else:
            found = _each(metric.block, _blocks(op))
        costs[name] = np.broadcast_to(found, shape)
    return costs


def _blocks(op: SlotOp, fixed: Collection[str] = ()) -> _Blocks:
    """The block of every combination of an op's options; of the fixed parts there is the first option alone."""
    parts = [axis.part for axis in op.axes]
    options = [axis.options[:1] if axis.part in fixed else axis.options for axis in op.axes]
    blocks = np.empty(tuple(map(len, options)), dtype=object)
    for index, picked in zip(np.ndindex(blocks.shape), itertools.product(*options), strict=True):
        blocks[index] = op.block(**dict(zip(parts, picked, strict=True)))
    return blocks


def _each(of: Callable[[BlockSpec], Any], blocks: _Blocks, dtype: type = float) -> NDArray[Any]:
    found: NDArray[Any] = np.empty(blocks.shape, dtype=dtype)
    for index, block in np.ndenumerate(blocks):
        found[index] = of(block)
    return found
