"""How many distinct networks there are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod

from se_nas.space.choice import Axis, Option
from se_nas.space.slots.size import Side
from se_nas.space.slots.slot import Slot, SlotOp
from se_nas.space.slots.width import Width

#: The slots of a stage, and its depths.
_Stage = tuple[Sequence[Slot], Sequence[int]]


def networks(side: Side, stem: Sequence[Width], stages: Sequence[_Stage], head: Sequence[Width]) -> int:
    """Distinct networks: two differ if the resolution, a width or a block does."""
    of_resolution = ({} if (name := side.axis.choice) is None else {name: option} for option in side.axis.options)
    return sum(_networks(stem, stages, head, fixed) for fixed in of_resolution)


def _networks(
    stem: Sequence[Width], stages: Sequence[_Stage], head: Sequence[Width], resolution: Mapping[str, Option]
) -> int:
    """Those of one resolution; widths tie each stage to the one before it alone, so they are counted stage by stage."""
    *inner, before = stem
    free = prod(len(width.axis.options) for width in inner if not width.tied_to(before))
    ways = dict.fromkeys(before.axis.options, free)
    for slots, depths in stages:
        width = slots[0].ops[0].width
        grown = dict.fromkeys(width.axis.options, 0)
        for option, number in ways.items():
            for wide in (option,) if before.tied_to(width) else width.axis.options:
                both = ((before.axis.choice, option), (width.axis.choice, wide))
                fixed = {name: picked for name, picked in both if name is not None}
                grown[wide] += number * _sequences(slots, depths, {**resolution, **fixed})
        ways, before = grown, width
    return sum(ways.values()) * prod(len(width.axis.options) for width in head if not width.tied_to(before))


def _sequences(slots: Sequence[Slot], depths: Sequence[int], given: Mapping[str, Option]) -> int:
    """Distinct block sequences of as many of the first slots as the depths say, where this is picked.

    Choices made once per stage tie slots together, so the count walks the slots and keeps, for every partial
    sequence, which shared picks could have produced it.
    """
    uses: dict[str, int] = {}
    options: dict[str, tuple[Option, ...]] = {}
    for slot in slots:
        for name in {a.choice for a in (slot.op, *(x for op in slot.ops for x in op.axes)) if a.choice}:
            uses[name] = uses.get(name, 0) + 1
        for axis in (slot.op, *(x for op in slot.ops for x in op.axes)):
            if axis.choice:
                options[axis.choice] = axis.options
    shared = [name for name, count in uses.items() if count > 1 and name not in given]
    combinations = [dict(zip(shared, c, strict=True)) for c in itertools.product(*(options[n] for n in shared))]
    states: dict[frozenset[int], int] = {frozenset(range(len(combinations))): 1}
    found = 0
    for depth, slot in enumerate(slots, 1):
        producers: dict[tuple[object, ...], set[int]] = {}
        for number, fixed in enumerate(combinations):
            for key in _block_keys(slot, {**given, **fixed}):
                producers.setdefault(key, set()).add(number)
        grown: dict[frozenset[int], int] = {}
        for able, count in states.items():
            for by in producers.values():
                if both := able & by:
                    grown[both] = grown.get(both, 0) + count
        states = grown
        found += sum(states.values()) if depth in depths else 0
    return found


def _block_keys(slot: Slot, fixed: Mapping[str, Option]) -> set[tuple[object, ...]]:
    def free(axis: Axis) -> tuple[Option, ...]:
        return axis.options if axis.choice is None or axis.choice not in fixed else (fixed[axis.choice],)

    keys: set[tuple[object, ...]] = set()
    for name in free(slot.op):
        op = slot.ops[slot.op.options.index(name)]
        keys |= _op_keys(op.unnamed, tuple(map(free, op.axes)))
    return keys


@lru_cache(maxsize=256)
def _op_keys(op: SlotOp, options: tuple[tuple[Option, ...], ...]) -> set[tuple[object, ...]]:
    """What an op may be with these options of each part; most blocks of a stage are alike."""
    parts = [axis.part for axis in op.axes]
    blocks = (op.block(**dict(zip(parts, picked, strict=True))) for picked in itertools.product(*options))
    return {(op.template.name, *block.distinct) for block in blocks}
