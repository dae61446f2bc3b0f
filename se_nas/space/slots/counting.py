"""How many distinct sequences of blocks a stage has."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from se_nas.space.choice import Axis, Option
from se_nas.space.slots.slot import Slot


def sequences(slots: Sequence[Slot]) -> int:
    """Distinct block sequences of these slots.

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
    shared = [name for name, count in uses.items() if count > 1]
    combinations = [dict(zip(shared, c, strict=True)) for c in itertools.product(*(options[n] for n in shared))]
    states: dict[frozenset[int], int] = {frozenset(range(len(combinations))): 1}
    for slot in slots:
        producers: dict[tuple[object, ...], set[int]] = {}
        for number, fixed in enumerate(combinations):
            for key in _block_keys(slot, fixed):
                producers.setdefault(key, set()).add(number)
        grown: dict[frozenset[int], int] = {}
        for able, count in states.items():
            for by in producers.values():
                if both := able & by:
                    grown[both] = grown.get(both, 0) + count
        states = grown
    return sum(states.values())


def _block_keys(slot: Slot, fixed: Mapping[str, Option]) -> set[tuple[object, ...]]:
    def free(axis: Axis) -> tuple[Option, ...]:
        return axis.options if axis.choice is None or axis.choice not in fixed else (fixed[axis.choice],)

    keys: set[tuple[object, ...]] = set()
    for name in free(slot.op):
        op = slot.ops[slot.op.options.index(name)]
        for options in itertools.product(*(free(axis) for axis in op.axes)):
            parts = zip((axis.part for axis in op.axes), options, strict=True)
            keys.add((name, *op.block(**dict(parts)).distinct))
    return keys
