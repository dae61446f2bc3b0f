"""A search space: stages of blocks whose width, number, kind and parts are choices; what a pick gives."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from se_nas.errors import ArchitectureError
from se_nas.space.architecture import Architecture
from se_nas.space.choice import SE_PARTS, Axis, Choice, Option, Place
from se_nas.space.slots.counting import networks
from se_nas.space.slots.distinct import distinct_activations, distinct_kernels, distinct_se
from se_nas.space.slots.size import Side, Size
from se_nas.space.slots.slot import GIVEN, Slot, SlotOp, op_at
from se_nas.space.slots.width import Width, multiplied_channels
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec, NetworkSpec
from se_nas.space.templates import HeadTemplate, OpTemplate, Scaling, StageTemplate, StemTemplate, options_of


@dataclass(frozen=True)
class SearchSpace:
    """A set of networks that share their frame: stem, stages and head.

    Attributes:
        resolution: side of the square input images, pixels; several are one choice.
        channels: channels of the input images.
        channel_divisor: expanded channels are rounded to a multiple of it (1: plain rounding).
        width_multiplier: what all widths, those of stem, stages and head convolution, are multiplied by; several
            numbers are one choice.
        scaling: how its networks are built for other data sets; no part of the space's identity (`digest`).
    """

    name: str
    stages: tuple[StageTemplate, ...]
    stem: StemTemplate
    head: HeadTemplate
    resolution: int | tuple[int, ...]
    channels: int = 3
    classes: int = 10
    channel_divisor: int = 8
    scaling: tuple[Scaling, ...] = field(default=(), metadata={"identity": False})
    width_multiplier: tuple[float, ...] = field(default=(1.0,), metadata={"since": 4})

    # ---- sizes

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The sides that the images may have."""
        return options_of(self.resolution)

    @cached_property
    def side(self) -> Side:
        """That of the images."""
        return Side(_axis("resolution", Place(None, None, "resolution"), self.resolutions), self.resolutions)

    @cached_property
    def stem_widths(self) -> tuple[Width, ...]:
        """Those of the stem's convolutions."""
        return tuple(self._width("stem", conv.width) for conv in self.stem.convs)

    @cached_property
    def stage_widths(self) -> tuple[Width, ...]:
        """Those of the stages."""
        return tuple(self._width(number, stage.width) for number, stage in enumerate(self.stages, 1))

    @cached_property
    def head_widths(self) -> tuple[Width, Width]:
        """Those of the head's convolution and of its hidden layers; 0 where there are none."""
        hidden = options_of(self.head.hidden)  # by no multiplier
        axis = _axis("width", Place("head", None, "hidden"), hidden)
        return self._width("head", self.head.width), Width(axis, hidden)

    @property
    def widths(self) -> tuple[Width, ...]:
        """All of them, in order of depth."""
        return (*self.stem_widths, *self.stage_widths, *self.head_widths)

    def _width(self, stage: int | str, width: int | tuple[int, ...]) -> Width:
        channels = multiplied_channels(width, self.width_multiplier, self.channel_divisor)
        if len(self.width_multiplier) > 1:
            return Width(_axis("width", Place(None, None, "width_multiplier"), self.width_multiplier), channels)
        return Width(_axis("width", Place(stage, None, "width"), channels), channels)

    # ---- structure

    @property
    def stem_convs(self) -> tuple[ConvSpec, ...]:
        """The concrete convolutions of the stem, at its largest."""
        return self.stem_at(max(self.resolutions))

    def stem_at(self, resolution: int) -> tuple[ConvSpec, ...]:
        """The same for images of this resolution."""
        return self._stem(tuple(max(width.channels) for width in self.stem_widths), resolution)

    def stem_of(self, picks: Mapping[str, Option]) -> tuple[ConvSpec, ...]:
        """The concrete convolutions of the stem under these picks."""
        return self._stem(tuple(width.picked(picks) for width in self.stem_widths), self.side.picked(picks))

    def _stem(self, widths: tuple[int, ...], side: int) -> tuple[ConvSpec, ...]:
        convs: list[ConvSpec] = []
        channels = self.channels
        for part, width in zip(self.stem.convs, widths, strict=True):
            convs.append(
                ConvSpec(
                    in_channels=channels,
                    out_channels=width,
                    kernel=part.kernel,
                    stride=part.stride,
                    activation=part.activation,
                    resolution=side,
                    pool=part.pool,
                    bias=part.bias,
                    norm=part.norm,
                )
            )
            channels, side = width, convs[-1].out_resolution
        return tuple(convs)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Every place for a block, in order of depth."""
        slots: list[Slot] = []
        before = self.stem_widths[-1]
        side = replace(self.side, values=tuple(self.stem_at(each)[-1].out_resolution for each in self.resolutions))
        for s, (stage, width) in enumerate(zip(self.stages, self.stage_widths, strict=True)):
            number = s + 1
            depth = _axis("depth", Place(number, None, "depth"), stage.depths)
            geometry = []
            for index in range(max(stage.depths)):
                first = index == 0
                stride = stage.stride if first else 1
                geometry.append((before if first else width, stride, side))
                side = side.after(stride)
            for index in range(len(geometry)):
                kind = Place(number, None if "block" in stage.share else index + 1, "block")
                ops = tuple(self._op_at(number, op, index, geometry) for op in stage.ops)
                slots.append(Slot(s, index, depth, _axis("block", kind, tuple(op.name for op in stage.ops)), ops))
            before = width
        return tuple(slots)

    def _op_at(self, number: int, op: OpTemplate, index: int, geometry: Sequence[tuple[Width, int, Side]]) -> SlotOp:
        """A kind of block at one place of stage `number`, with its choices.

        Args:
            geometry: input channels, stride and side of the input of every block of the stage.
        """
        stage, width = self.stages[number - 1], self.stage_widths[number - 1]

        def at(before: Width, stride: int, side: Side) -> SlotOp:
            return op_at(op, before, width, stride, side, self.channel_divisor)

        def placed(axis: Axis) -> Axis:
            if axis.part in GIVEN:
                return axis
            shared = ("se" if axis.part in SE_PARTS else axis.part) in stage.share
            place = Place(number, None if shared else index + 1, axis.part, op.name if len(stage.ops) > 1 else None)
            return _axis(axis.part, place, options.get(axis.part, axis.options))

        here = at(*geometry[index])
        # most blocks of a stage are alike
        places = tuple(at(*place) for place in dict.fromkeys(geometry)) if "se" in stage.share else (here,)
        options = {"kernel": distinct_kernels(here), "activation": distinct_activations(here), **distinct_se(places)}
        return replace(here, axes=tuple(map(placed, here.axes)))

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """Every choice, in order of depth; a part with one option is no choice."""
        found: dict[str, Choice] = {}
        axes = [self.side.axis, *(width.axis for width in self.stem_widths)]
        for slot in self.slots:
            axes += (slot.ops[0].width.axis, slot.depth, slot.op, *(axis for op in slot.ops for axis in op.axes))
        for axis in (*axes, *(width.axis for width in self.head_widths)):
            if axis.place is not None:
                found.setdefault(axis.place.name, Choice(axis.place, axis.options))
        return tuple(found.values())

    @cached_property
    def choice_by_name(self) -> dict[str, Choice]:
        """The choices by their names."""
        return {choice.name: choice for choice in self.choices}

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change whenever any property of the space's networks does.

        A property that came after the first release (`since` in its field's metadata) counts only away from its
        default, so that older spaces keep their digests; `scaling` never counts (`identity` in its metadata).
        """
        return hashlib.sha256(json.dumps(_digested(self), sort_keys=True).encode()).hexdigest()[:16]

    # ---- picks to networks

    def slots_in_use(self, picks: Mapping[str, Option]) -> Iterator[tuple[Slot, SlotOp]]:
        """The places that the picked depths reach, each with the kind of block that is picked there."""
        for slot in self.slots:
            if slot.index < int(slot.depth.picked(picks)):
                yield slot, slot.ops[slot.op.options.index(slot.op.picked(picks))]

    def resolve(self, architecture: Architecture) -> NetworkSpec:
        """The concrete network of an architecture.

        Raises:
            ArchitectureError: the architecture is of another space.
        """
        self.check(architecture)
        picks = architecture.as_dict()
        blocks = tuple(op.block(**op.picked(picks)) for _, op in self.slots_in_use(picks))
        return self.network_of(blocks, self.stem_of(picks), self.head_of(picks))

    def network_of(self, blocks: tuple[BlockSpec, ...], stem: tuple[ConvSpec, ...], head: HeadSpec) -> NetworkSpec:
        """The network of these blocks between a stem and a head."""
        first, *more = stem
        return NetworkSpec(
            resolution=first.resolution,
            in_channels=self.channels,
            stem=first,
            blocks=blocks,
            head=head,
            stem_more=tuple(more),
        )

    @property
    def head_spec(self) -> HeadSpec:
        """The concrete head, at its largest."""
        return self._head(*(max(size.values) for size in self._head_sizes))

    def head_of(self, picks: Mapping[str, Option]) -> HeadSpec:
        """The concrete head under these picks."""
        return self._head(*(size.picked(picks) for size in self._head_sizes))

    @property
    def _head_sizes(self) -> tuple[Size, ...]:
        """The sizes that the head has: of its input, the side and the channels, and its own."""
        last = self.slots[-1].ops[0]
        return (last.side.after(last.stride), self.stage_widths[-1], *self.head_widths)

    def _head(self, resolution: int, before: int, width: int, hidden: int) -> HeadSpec:
        head = self.head
        return HeadSpec(
            in_channels=before,
            width=width,
            hidden=hidden,
            activation=head.activation,
            dropout=head.dropout,
            classes=self.classes,
            resolution=resolution,
            norm=head.norm,
            max_pool=head.max_pool,
            flatten=head.flatten,
            hidden_layers=head.hidden_layers,
            hidden_bias=head.hidden_bias,
            classifier_bias=head.classifier_bias,
        )

    def architecture(self, picks: Mapping[str, Option]) -> Architecture:
        """The canonical architecture of these picks, one for each choice of the space.

        Choices that the picked depths or block kinds leave without effect take their first option, and SE takes the
        first options that build the same, so that equal networks are equal architectures.

        Raises:
            ArchitectureError: a choice is missing, unknown, or picks what is no option of it.
        """
        problems = [f"'{name}' is no choice of the space" for name in picks if name not in self.choice_by_name]
        for choice in self.choices:
            if choice.name not in picks:
                problems.append(f"'{choice.name}' must be picked")
            elif picks[choice.name] not in choice.options:
                options = ", ".join(map(str, choice.options))
                problems.append(f"'{choice.name}' must be one of {options}, but got {picks[choice.name]!r}")
        if problems:
            raise ArchitectureError(f"space {self.name}: " + "; ".join(problems))
        return self._canonical(dict(picks))

    def _canonical(self, picks: dict[str, Option]) -> Architecture:
        total = {choice.name: choice.options[0] for choice in self.choices}
        for size in (self.side, *self.widths):
            if size.axis.choice is not None:
                total[size.axis.choice] = picks[size.axis.choice]
        of_se: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
        for slot, op in self.slots_in_use(picks):
            for axis in (slot.op, *op.axes):
                if axis.choice is not None:
                    total[axis.choice] = picks[axis.choice]
            if names := tuple(axis.choice for axis in op.axes if axis.part in SE_PARTS and axis.choice is not None):
                of_se.setdefault(names, []).append(op.se_classes(op.picked(picks)))
        for slot in self.slots:
            if slot.depth.choice is not None:
                total[slot.depth.choice] = picks[slot.depth.choice]
        for names, rows in of_se.items():
            choices = [self.choice_by_name[name] for name in names]
            shape = tuple(len(choice.options) for choice in choices)
            picked = np.ravel_multi_index([choice.index(picks[choice.name]) for choice in choices], shape)
            columns = list(zip(*rows, strict=True))
            first = np.unravel_index(columns.index(columns[picked]), shape)
            total |= {choice.name: choice.options[int(i)] for choice, i in zip(choices, first, strict=True)}
        return Architecture(self.digest, tuple(total.items()))

    def check(self, architecture: Architecture) -> None:
        """Raise ArchitectureError unless the architecture is of this space."""
        if architecture.space_digest != self.digest:
            raise ArchitectureError(
                f"space {self.name}: the architecture must be of this space (digest {self.digest}), "
                f"but it is of the one with digest {architecture.space_digest}"
            )

    # ---- drawing and walking

    def sample(self, rng: np.random.Generator) -> Architecture:
        """An architecture with every choice uniform over its options (uniform over picks, not over networks)."""
        return self._canonical({c.name: c.options[int(rng.integers(len(c.options)))] for c in self.choices})

    def neighbours(self, architecture: Architecture) -> tuple[Architecture, ...]:
        """Every other network that one changed pick can give."""
        self.check(architecture)
        picks = architecture.as_dict()
        found: dict[Architecture, None] = {}
        for choice in self.choices:
            for option in choice.options:
                if option != picks[choice.name]:
                    found.setdefault(self._canonical({**picks, choice.name: option}))
        found.pop(architecture, None)
        return tuple(found)

    def enumerate(self) -> Iterator[Architecture]:
        """Every distinct architecture once; for tiny spaces."""
        seen: set[Architecture] = set()
        for options in itertools.product(*(choice.options for choice in self.choices)):
            architecture = self._canonical(dict(zip((c.name for c in self.choices), options, strict=True)))
            if architecture not in seen:
                seen.add(architecture)
                yield architecture

    @cached_property
    def size(self) -> int:
        """Exact number of distinct networks (sequences of blocks; what of SE builds the same counts once)."""
        stages = [
            ([slot for slot in self.slots if slot.stage == s], stage.depths) for s, stage in enumerate(self.stages)
        ]
        return networks(self.side, self.stem_widths, stages, self.head_widths)


def _axis(part: str, place: Place, options: tuple[Option, ...]) -> Axis:
    """A part with one option is no choice."""
    return Axis(part, place if len(options) > 1 else None, options)


def _digested(value: Any) -> Any:
    """A template as JSON-able data, for the digest."""
    if is_dataclass(value):
        shown = {f.name: getattr(value, f.name) for f in fields(value)}
        late = {f.name for f in fields(value) if "since" in f.metadata and shown[f.name] == f.default}
        late |= {f.name for f in fields(value) if not f.metadata.get("identity", True)}
        return {name: _digested(part) for name, part in shown.items() if name not in late}
    return [_digested(part) for part in value] if isinstance(value, tuple) else value
