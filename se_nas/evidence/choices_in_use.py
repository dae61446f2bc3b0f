"""Which choices of a space an architecture makes use of, and where each stands."""

from __future__ import annotations

from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace, picked
from se_nas.space.templates import SlotOp


def choices_in_use(space: SearchSpace, architecture: Architecture) -> frozenset[str]:
    """Names of the choices that shape the network: of every depth, and of the blocks that depth and kind leave in use.

    Raises:
        ArchitectureError: the architecture is of another space.
    """
    depths = {slot.depth.choice for slot in space.slots}
    blocks = {axis.choice for op in _ops_in_use(space, architecture) for axis in op.axes}
    picks = architecture.as_dict()
    kinds = {slot.op.choice for slot in space.slots if slot.index < int(picked(slot.depth, picks))}
    return frozenset(name for name in depths | blocks | kinds if name is not None)


def se_places(space: SearchSpace) -> dict[str, str]:
    """Every choice of SE, in order of depth, and the name of the place that it decides on: "stage2.block1".

    A choice that a whole stage shares is called by the stage, one of several kinds of block by its kind too.
    """
    ops = (op for slot in space.slots for op in slot.ops)
    return {op.se.choice: op.se.choice.removesuffix(".se") for op in ops if op.se.choice is not None}


def se_ops_in_use(space: SearchSpace, architecture: Architecture) -> dict[str, SlotOp]:
    """For each choice of SE that an architecture makes use of, the first block that it decides on.

    Raises:
        ArchitectureError: the architecture is of another space.
    """
    found: dict[str, SlotOp] = {}
    for op in _ops_in_use(space, architecture):
        if op.se.choice is not None:
            found.setdefault(op.se.choice, op)
    return found


def _ops_in_use(space: SearchSpace, architecture: Architecture) -> list[SlotOp]:
    space.check(architecture)
    return [op for _, op in space.slots_in_use(architecture.as_dict())]
