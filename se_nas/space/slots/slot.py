"""A place for a block: the kinds of block that it offers, with the choices that shape each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, cast

from se_nas.space.block_plan import block_plan
from se_nas.space.choice import SE_FIELDS, SE_PARTS, Axis, Option
from se_nas.space.slots.size import Side
from se_nas.space.slots.width import Width
from se_nas.space.specs import BlockSpec, SESpec, place_in
from se_nas.space.templates import OpTemplate, options_of, se_label
from se_nas.space.vocabulary import Activation, Position

#: Parts of a block that its stage and the one before decide on.
WIDTHS = ("before", "width")
#: Parts of a block that are decided outside of it.
GIVEN = (*WIDTHS, "resolution")
#: Parts that decide how many channels its convolutions have.
_SIZES = (*WIDTHS, "expansion")
#: Parts that make no difference to which options of SE build the same.
_NOT_OF_SE = (*SE_PARTS, "resolution", "kernel", "activation")


@dataclass(frozen=True, kw_only=True)
class SlotOp:
    """One kind of block at one place, with the choices that shape it.

    Attributes:
        before, width: channels of its input and of its output.
        side: of its input.
        axes: what its options are, part by part; a part that is no choice has one. "before" is among them unless what
            decides on the output's channels decides on the input's too.
    """

    template: OpTemplate
    before: Width
    width: Width
    stride: int
    side: Side
    channel_divisor: int
    axes: tuple[Axis, ...]

    @cached_property
    def _by_part(self) -> dict[str, Axis]:
        return {axis.part: axis for axis in self.axes}

    def axis(self, part: str) -> Axis:
        """The options of one part."""
        return self._by_part[part]

    def combinations(self, *parts: str) -> Iterator[dict[str, Option]]:
        """Every combination of the options of these parts, or of all; those of the last part change fastest."""
        names = parts or tuple(self._by_part)
        for options in itertools.product(*(self.axis(part).options for part in names)):
            yield dict(zip(names, options, strict=True))

    @cached_property
    def size_axes(self) -> tuple[Axis, ...]:
        """The parts that decide how many channels its convolutions have."""
        return tuple(axis for axis in self.axes if axis.part in _SIZES)

    @cached_property
    def sizes(self) -> tuple[dict[str, Option], ...]:
        """Every combination of those parts' options."""
        return tuple(self.combinations(*(axis.part for axis in self.size_axes)))

    def width_of(self, part: str) -> Width:
        """The channels of its input ("before") or of its output ("width")."""
        return self.before if part == "before" else self.width

    @property
    def largest(self) -> dict[str, Option]:
        """The greatest option of each part whose options are numbers."""
        numbered = (axis for axis in self.axes if not isinstance(axis.options[0], str))
        return {axis.part: max(axis.options) for axis in numbered}

    @cached_property
    def unnamed(self) -> SlotOp:
        """The same without the names of its choices: equal where the same blocks can stand."""
        return replace(self, axes=tuple(replace(axis, place=None) for axis in self.axes))

    def axes_in_use(self, picks: Mapping[str, Option]) -> Iterator[Axis]:
        """The parts that shape the block under these picks: of SE those that the picked unit reads."""
        for axis in self.axes:
            unit = self.se_spec(self.axis("se").picked(picks)) if axis.part in SE_PARTS[1:] else None
            if axis.part not in SE_PARTS[1:] or (unit is not None and unit.reads(axis.part.removeprefix("se_"))):
                yield axis

    def picked(self, picks: Mapping[str, Option]) -> dict[str, Option]:
        """The option of each part under these picks, of which only those are looked at that shape the block."""
        return {axis.part: axis.options[0] for axis in self.axes} | {
            axis.part: axis.picked(picks) for axis in self.axes_in_use(picks)
        }

    def se_classes(self, options: Mapping[str, Option]) -> tuple[int, ...]:
        """Which combinations of SE's options build the same: for each, the number of the first that does.

        Args:
            options: of the other parts.
        """
        return _se_classes(self.unnamed, tuple((p, o) for p, o in options.items() if p not in _NOT_OF_SE))

    def se_spec(self, label: Option) -> SESpec | None:
        """The SE unit that an option's name stands for, with the first of its other options."""
        return self._se_specs[str(label)]

    @cached_property
    def _se_specs(self) -> dict[str, SESpec | None]:
        return {se_label(option): self.template.se.spec(option) for option in self.template.se.options}

    def block(self, **options: Option) -> BlockSpec:
        """The concrete block for one option of each part: the first, where none is given.

        What makes no difference to its SE is the first option, too, so that what is built the same is equal.
        """
        if unknown := sorted(options.keys() - self._by_part.keys()):
            raise TypeError(f"{unknown[0]}: must be one of {', '.join(self._by_part)}")
        of = {part: axis.options[0] for part, axis in self._by_part.items()} | options
        before, width = self.before.of(of.get("before", of["width"])), self.width.of(of["width"])
        block = BlockSpec(
            kind=self.template.kind,
            in_channels=before,
            out_channels=width,
            stride=self.stride,
            resolution=self.side.of(of["resolution"]),
            kernel=int(of["kernel"]),
            expanded=self.template.expanded(before, width, of["expansion"], self.channel_divisor),
            activation=cast(Activation, of["activation"]),
            se=self.se_spec(of["se"]),
            form=self.template.form,
        )
        return block if block.se is None else replace(block, se=self._placed(block, block.se, of))

    def _placed(self, block: BlockSpec, unit: SESpec, of: Mapping[str, Option]) -> SESpec | None:
        """The unit with its other options, as far as it reads them; None where the position is no place for it."""
        read = {name: of[f"se_{name}"] for name in SE_FIELDS if unit.reads(name)}
        positions = self.axis("se_position").options
        if len(positions) > 1 or read["position"] == "identity":
            plan = block_plan(block)
            place = place_in(plan, cast(Position, read["position"]))
            if place is None:
                return None
            same = (p for p in positions if place_in(plan, cast(Position, p)) == place)
            read["position"] = next(same, read["position"])
        changed = {name: option for name, option in read.items() if getattr(unit, name) != option}
        return replace(unit, **cast(Any, changed)) if changed else unit


@dataclass(frozen=True)
class Slot:
    """A place in the network that holds one block, if the stage's depth reaches it.

    Attributes:
        stage, index: position, counted from 0.
        depth: the stage's depth axis; the slot is in use when the picked depth exceeds `index`.
        op: the axis of the block's kind, by op name.
        ops: one entry for each option of `op`.
    """

    stage: int
    index: int
    depth: Axis
    op: Axis
    ops: tuple[SlotOp, ...]


def op_at(template: OpTemplate, before: Width, width: Width, stride: int, side: Side, channel_divisor: int) -> SlotOp:
    """The op at one place, with every option and no choice but those made outside of it."""
    return SlotOp(
        template=template,
        before=before,
        width=width,
        stride=stride,
        side=side,
        channel_divisor=channel_divisor,
        axes=(
            *(() if before.tied_to(width) else (before.part("before"),)),
            width.part("width"),
            side.axis,
            Axis("kernel", None, template.kernels),
            Axis("expansion", None, template.expansions),
            Axis("activation", None, options_of(template.activation)),
            Axis("se", None, tuple(map(se_label, template.se.options))),
            *(Axis(f"se_{name}", None, options_of(getattr(template.se, name))) for name in SE_FIELDS),
        ),
    )


@lru_cache(maxsize=1024)
def _se_classes(op: SlotOp, others: tuple[tuple[str, Option], ...]) -> tuple[int, ...]:
    first: dict[object, int] = {}
    units = (op.block(**dict(others), **se).se_built for se in op.combinations(*SE_PARTS))
    return tuple(first.setdefault(unit, number) for number, unit in enumerate(units))
