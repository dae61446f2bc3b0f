"""The greatest number of activations that are live at once while a network runs one image, torch-free.

The schedule is the order in which the network's operations stand in its code and in its exported graph. What is live,
and what writes over what it reads, `space.attention.schedule` says: a convolution's input and its output are there at
once, with its norm and its activation in place; a block's input stays until the sum that it is a part of; the small
maps of SE are counted; weights are not, nor what a convolution needs for itself. Blocks hand on one map and keep
nothing else, so that a network's peak is that of the worst of its blocks, its stem and its head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from se_nas.space.attention import ATTENTION
from se_nas.space.attention.kind import AttentionUnit
from se_nas.space.attention.schedule import Schedule
from se_nas.space.block_plan import block_plan
from se_nas.space.blocks.plan import BlockPlan, Branch, Layer
from se_nas.space.blocks.shape import BlockShape
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec
from se_nas.space.vocabulary import Position


def block_peak(spec: BlockSpec) -> int:
    """Of one block, given its input."""
    return _BlockSchedule(spec).peak()


def ends_peak(stem: Sequence[ConvSpec], head: HeadSpec) -> int:
    """Of the stem and the head."""
    return max(_stem_peak(stem), _head_peak(head))


def _stem_peak(convs: Sequence[ConvSpec]) -> int:
    schedule = Schedule(convs[0].in_channels * convs[0].resolution ** 2)
    x = 0
    for spec in convs:
        x = schedule.run(spec.out_channels * spec.conv_resolution**2, x)
        if spec.pool:
            x = schedule.run(spec.out_channels * spec.out_resolution**2, x)
    return schedule.peak(x)


def _head_peak(spec: HeadSpec) -> int:
    schedule = Schedule(spec.in_channels * spec.resolution**2)
    x = 0
    if spec.max_pool:
        x = schedule.run(spec.in_channels * spec.pooled_resolution**2, x)
    if spec.width:
        x = schedule.run(spec.width * spec.pooled_resolution**2, x)
    if not spec.flatten:
        x = schedule.run(spec.pooled, x)
    for _, outputs, _ in spec.linear_layers:
        x = schedule.run(outputs, x)
    return schedule.peak(x)


class _BlockSchedule:
    """`se_nas.layers.blocks.run_plan`, operation by operation.

    A norm and an activation behind a convolution write over its result, which nobody else reads: they are left out.
    """

    def __init__(self, spec: BlockSpec) -> None:
        self.spec, self.plan = spec, block_plan(spec)
        self.schedule = Schedule(spec.in_channels * spec.resolution**2)

    def peak(self) -> int:
        spec, plan = self.spec, self.plan
        inner, outer = spec.resolution**2, spec.out_resolution**2
        x = source = 0
        if plan.entry_channels:
            source = self.schedule.run(spec.in_channels * inner, x, elementwise=True)
        y = self._attend("pre", source)
        if plan.entry_pool:
            y = self.schedule.run(spec.in_channels * (-(-spec.resolution // 2)) ** 2, y)
        if plan.branches:
            parts = [self._branch(branch, y) for branch in plan.branches]
            y = self.schedule.run(spec.branch_channels * outer, *parts)
        if plan.whole is not None:
            y = self.schedule.then(*part_schedule(plan.whole), y)
        for layer in plan.body:
            y = self._layer(layer, y)
        y = self._attend("inside", y)
        if plan.last is not None:
            y = self._layer(plan.last, y)
        y = self._attend("standard", y)
        if plan.skip != "none":
            skip = self._attend("identity", self._skip(plan, x, source))
            y = self.schedule.run(spec.out_channels * outer, skip, y, elementwise=plan.skip != "pool")
        return self.schedule.peak(self._attend("post", y))

    def _layer(self, layer: Layer, x: int) -> int:
        numbers = layer.out_channels * layer.out_resolution**2
        parts = [self.schedule.run(part.out_channels * layer.out_resolution**2, x) for part in layer.parts]
        y = self.schedule.run(numbers, *parts) if layer.kernels else parts[0]
        return y if layer.shuffle == 1 else self.schedule.run(numbers, y)

    def _branch(self, branch: Branch, x: int) -> int:
        if branch.pool is not None:
            x = self.schedule.run(self.spec.in_channels * (-(-self.spec.resolution // branch.stride)) ** 2, x)
        for layer in branch.layers:
            x = self._layer(layer, x)
        return x

    def _skip(self, plan: BlockPlan, x: int, source: int) -> int:
        outer = self.spec.out_resolution**2
        if plan.shortcut is not None:
            if plan.shortcut_pool:
                source = self.schedule.run(self.spec.in_channels * outer, source)
            return self._layer(plan.shortcut, source)
        if plan.skip == "pool":
            return self.schedule.run(self.spec.in_channels * outer, x)
        if plan.skip == "pad":
            return self.schedule.run((self.spec.in_channels + plan.lacking) * outer, source)
        return x

    def _attend(self, position: Position, x: int) -> int:
        unit = self.spec.unit
        if unit is None or self.spec.se is None or self.spec.se.position != position:
            return x
        schedule = ATTENTION[unit.kind].schedule
        return self.schedule.then(*part_schedule(unit), x) if schedule is None else schedule(unit, self.schedule, x)


@cache
def part_schedule(part: AttentionUnit | BlockShape) -> tuple[Schedule, int]:
    """What a module of a user's own runs, and its output."""
    from se_nas.cost.running_counts import part_on_meta  # imports torch, which no other part needs
    from se_nas.cost.running_schedule import schedule_of

    return schedule_of(*part_on_meta(part))
