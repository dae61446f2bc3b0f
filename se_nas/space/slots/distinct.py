"""Options that build one thing are one option."""

from __future__ import annotations

from collections.abc import Sequence

from se_nas.space.block_plan import built
from se_nas.space.choice import Option
from se_nas.space.slots.slot import SlotOp


def distinct_kernels(place: SlotOp) -> tuple[Option, ...]:
    """Kernels of an op; the first alone where no convolution of it has one, as in a module of 1x1 branches."""
    kernels = place.axis("kernel").options
    if built(place.block(kernel=kernels[0])) == built(place.block(kernel=kernels[-1])):
        return kernels[:1]
    return kernels


def distinct_se(places: Sequence[SlotOp]) -> tuple[str, ...]:
    """Names of the SE options of an op, without those that build what another builds at all these places."""
    seen: dict[tuple[object, ...], str] = {}
    for label in map(str, places[0].axis("se").options):
        units = (op.block(**sizes, se=label).se_built for op in places for sizes in op.sizes)
        seen.setdefault(tuple(units), label)
    return tuple(seen.values())
