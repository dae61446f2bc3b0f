"""Which architecture of a space a network is that comes from elsewhere: found block by block."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from se_nas.space.architecture import Architecture
from se_nas.space.choice import Axis, Option
from se_nas.space.points.given import Given, kernels_aside
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.slot import SlotOp
from se_nas.space.specs import BlockSpec, NetworkSpec

Picks = dict[str, Option]


@dataclass(frozen=True)
class Found:
    """An architecture that the network can be.

    Attributes:
        unclear: a choice whose pick what is known of the network does not tell; None where all are told.
    """

    architecture: Architecture
    unclear: str | None


def points(space: SearchSpace, given: Given, most: int = 2) -> list[Found]:
    """The first few architectures of a space that a network can be, each of the smallest kernels that hold its own."""
    search = _Search(space, given)
    found: dict[object, Found] = {}
    for picks, unclear in search.walk():
        total = {choice.name: choice.options[0] for choice in space.choices} | picks
        point = Found(space.architecture(total), unclear)
        found.setdefault(_without_kernels(space.resolve(point.architecture)), point)
        if len(found) == most:
            break
    return list(found.values())


def _without_kernels(spec: NetworkSpec) -> object:
    return spec.stem_convs, tuple(map(kernels_aside, spec.blocks)), spec.head


class _Search:
    """Depth first, over what fits so far."""

    def __init__(self, space: SearchSpace, given: Given) -> None:
        self.space, self.given = space, given
        uses = Counter(
            axis.choice
            for slot in space.slots
            for axes in [{axis.choice: axis for op in slot.ops for axis in op.axes}]
            for axis in axes.values()
        )
        #: Choices that more than one block reads, so that a pick in one block is one in others.
        self.shared = {choice for choice, times in uses.items() if times > 1}
        self.shared |= {width.axis.choice for width in space.widths}

    def walk(self) -> Iterator[tuple[Picks, str | None]]:
        """The picks of each architecture that fits, and what of them is not told."""
        for picks in _combinations([width.axis for width in self.space.stem_widths], self._side()):
            at = self.given.after_stem(self.space.stem_of(picks))
            if at is not None:
                yield from self._from_slot(0, at, picks, None)

    def _side(self) -> Picks:
        """The network's own resolution where the space has it, the largest where it is a choice otherwise."""
        axis, own = self.space.side.axis, self.given.resolution
        if axis.choice is None:
            return {}
        return {axis.choice: own if own in axis.options else max(self.space.resolutions)}

    def _from_slot(self, number: int, at: int, picks: Picks, unclear: str | None) -> Iterator[tuple[Picks, str | None]]:
        slots = self.space.slots
        if number == len(slots):
            for more in _combinations([width.axis for width in self.space.head_widths], picks):
                if self.given.ends_with(self.space.head_of(more), at):
                    yield more, unclear
            return
        slot = slots[number]
        for known in _combinations([slot.depth], picks):
            if slot.index >= int(slot.depth.picked(known)):
                yield from self._from_slot(number + 1, at, known, unclear)
                continue
            for with_kind in _combinations([slot.op], known):
                op = slot.ops[slot.op.options.index(slot.op.picked(with_kind))]
                for behind, more, open_choice in self._blocks(op, at, with_kind):
                    yield from self._from_slot(number + 1, behind, more, unclear or open_choice)

    def _blocks(self, op: SlotOp, at: int, picks: Picks) -> Iterator[tuple[int, Picks, str | None]]:
        """What fits of one block: the position behind it, the picks, and one that is not told."""
        kept: dict[object, tuple[int, Picks, BlockSpec, str | None]] = {}
        for more in sorted(_combinations(op.axes, picks), key=lambda found: float(op.axis("kernel").picked(found))):
            block = op.block(**op.picked(more))
            behind = self.given.after_block(block, at)
            if behind is None:
                continue
            key = (behind, block.out_channels, *(more.get(name) for name in self.shared if name is not None))
            if key not in kept:
                kept[key] = (behind, more, block, None)
            elif kept[key][3] is None and kernels_aside(kept[key][2]) != kernels_aside(block):
                first = kept[key]
                other = next(name for name, option in more.items() if first[1].get(name) != option)
                kept[key] = (*first[:3], other)
        for behind, more, _, open_choice in kept.values():
            yield behind, more, open_choice


def _combinations(axes: Sequence[Axis], picks: Mapping[str, Option]) -> Iterator[Picks]:
    """The picks with one option of each of these axes that is a choice and not picked yet."""
    left = {axis.choice: axis.options for axis in axes if axis.choice is not None and axis.choice not in picks}
    for options in itertools.product(*left.values()):
        yield {**picks, **dict(zip(left, options, strict=True))}
