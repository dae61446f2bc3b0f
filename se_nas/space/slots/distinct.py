"""Options that build one thing are one option."""

from __future__ import annotations

from functools import lru_cache

from se_nas.space.block_plan import built
from se_nas.space.choice import SE_PARTS, Option
from se_nas.space.slots.slot import SlotOp


def distinct_kernels(place: SlotOp) -> tuple[Option, ...]:
    """Kernels of an op; the first alone where no convolution of it has one, as in a module of 1x1 branches."""
    kernels = place.axis("kernel").options
    if built(place.block(kernel=kernels[0])) == built(place.block(kernel=kernels[-1])):
        return kernels[:1]
    return kernels


def distinct_activations(place: SlotOp) -> tuple[Option, ...]:
    """Activations of an op; the first alone where nothing in it has one."""
    activations = place.axis("activation").options
    if built(place.block(activation=activations[0])) == built(place.block(activation=activations[-1])):
        return activations[:1]
    return activations


@lru_cache(maxsize=1024)
def distinct_se(places: tuple[SlotOp, ...]) -> dict[str, tuple[Option, ...]]:
    """Options of each part of SE, without those that build nothing at all these places that others do not build."""
    rows = [
        (se, tuple(op.block(**sizes, **se).se_built for op in places for sizes in op.sizes))
        for se in places[0].combinations(*SE_PARTS)
    ]
    kept = {part: places[0].axis(part).options for part in SE_PARTS}
    for part in (*SE_PARTS[1:], "se"):  # "none" stays where a position builds no unit either
        for option in reversed(kept[part]):
            mine, others = ({units for se, units in rows if (se[part] == option) is own} for own in (True, False))
            if mine <= others:
                kept[part] = tuple(other for other in kept[part] if other != option)
                rows = [(se, units) for se, units in rows if se[part] != option]
    return kept
