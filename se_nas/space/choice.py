"""One decision of a search space: where it acts and the options it may take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

Option = int | float | str

#: What of SE is chosen, each by itself: the unit, then the fields of `SETemplate` of these names.
SE_FIELDS = ("position", "squeeze", "activation", "gate")
SE_PARTS = ("se", *(f"se_{name}" for name in SE_FIELDS))

_NAME = re.compile(r"stage(\d+)(?:\.block(\d+))?(?:\.([^.]+))?\.(\w+)")


@dataclass(frozen=True)
class Place:
    """What a choice decides on.

    Attributes:
        stage: number of the stage, from 1, or "stem" or "head"; None for what is chosen once for the whole network.
        block: number of the block in it, from 1; None for what is chosen once for the whole stage.
        part: "width", "depth", "block" (its kind), "kernel", "expansion", "activation", or one of SE_PARTS; of the
            head "hidden" too, and of the network "resolution" or "width_multiplier".
        op: the kind of block, by its name in the space, where the stage offers several; None for what all kinds have.
    """

    stage: int | str | None
    block: int | None
    part: str
    op: str | None = None

    @property
    def scope(self) -> str:
        """The stage, the block and the kind of block, as files name them: "stage2.block1.wide"; "" for the network."""
        block = [] if self.block is None else [f"block{self.block}"]
        op = [] if self.op is None else [self.op.replace(" ", "_")]
        stage = f"stage{self.stage}" if isinstance(self.stage, int) else self.stage
        return ".".join(filter(None, (stage, *block, *op)))

    @property
    def name(self) -> str:
        """The name of the choice in files: "stage2.block1.se"."""
        return f"{self.scope}.{self.part}" if self.scope else self.part

    @property
    def stage_words(self) -> str:
        """The stage in plain words: "stage 2", "stem", "network"."""
        return f"stage {self.stage}" if isinstance(self.stage, int) else self.stage or "network"

    @classmethod
    def named(cls, name: str) -> Place:
        """The place of a name that a file has, where the space is not at hand; the inverse of `name`, _ read as space.

        Raises:
            ValueError: no choice has such a name.
        """
        for place in _OUTSIDE:
            if place.name == name:
                return place
        found = _NAME.fullmatch(name)
        if found is None:
            raise ValueError(f"must be the name of a choice, such as stage2.block1.se, but got {name!r:.60}")
        stage, block, op, part = found.groups()
        return cls(int(stage), None if block is None else int(block), part, op and op.replace("_", " "))


#: Places of the choices that are of no stage.
_OUTSIDE = (
    Place(None, None, "resolution"),
    Place(None, None, "width_multiplier"),
    Place("stem", None, "width"),
    Place("head", None, "width"),
    Place("head", None, "hidden"),
)


@dataclass(frozen=True)
class Choice:
    """A named decision with at least two distinct options, in the order the space lists them."""

    place: Place
    options: tuple[Option, ...]

    def __post_init__(self) -> None:
        if len(self.options) < 2 or len(set(self.options)) != len(self.options):
            raise ValueError(f"{self.name}: a choice must have two or more distinct options, but got {self.options}")

    @cached_property
    def name(self) -> str:
        """Its name in files."""
        return self.place.name

    def index(self, option: Option) -> int:
        """Position of `option`; ValueError when it is none of this choice's."""
        return self.options.index(option)


@dataclass(frozen=True)
class Axis:
    """The options that one part of a block ranges over.

    Attributes:
        part: what of the block it is, such as "kernel".
        place: of the choice among the options; None where there is but one.
    """

    part: str
    place: Place | None
    options: tuple[Option, ...]

    @cached_property
    def choice(self) -> str | None:
        """Name of the choice."""
        return None if self.place is None else self.place.name

    def picked(self, picks: Mapping[str, Option]) -> Option:
        """Its option under these picks."""
        return self.options[0] if self.choice is None else picks[self.choice]
