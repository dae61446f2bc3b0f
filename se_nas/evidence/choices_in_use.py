"""Which choices of a space an architecture makes use of, and where each stands."""

from __future__ import annotations

from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.slot import SlotOp


def choices_in_use(space: SearchSpace, architecture: Architecture) -> frozenset[str]:
    """Names of the choices that shape the network: of every width and depth, and of the blocks that are in use.

    Raises:
        ArchitectureError: the architecture is of another space.
    """
    space.check(architecture)
    picks = architecture.as_dict()
    sizes = {width.axis.choice for width in space.widths} | {slot.depth.choice for slot in space.slots}
    used = list(space.slots_in_use(picks))
    blocks = {axis.choice for slot, op in used for axis in (slot.op, *op.axes_in_use(picks))}
    return frozenset(name for name in sizes | blocks if name is not None)


def se_places(space: SearchSpace) -> dict[str, str]:
    """Every choice of SE, in order of depth, and the name of the place that it decides on: "stage2.block1".

    A choice that a whole stage shares is called by the stage, one of several kinds of block by its kind too.
    """
    return {choice.name: choice.place.scope for choice in space.choices if choice.place.part == "se"}


def se_ops_in_use(space: SearchSpace, architecture: Architecture) -> dict[str, SlotOp]:
    """For each choice of SE that an architecture makes use of, the first block that it decides on and that can have SE.

    Raises:
        ArchitectureError: the architecture is of another space.
    """
    space.check(architecture)
    found: dict[str, SlotOp] = {}
    picks = architecture.as_dict()
    for _, op in space.slots_in_use(picks):
        axis = op.axis("se")
        options = [{**op.picked(picks), "se": option} for option in axis.options]
        if axis.choice is not None and any(op.block(**each).se is not None for each in options):
            found.setdefault(axis.choice, op)
    return found
