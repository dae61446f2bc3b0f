"""A number of a network that may be a choice: the channels at one place of it, or the side of the maps there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from se_nas.space.choice import Axis, Option


@dataclass(frozen=True)
class Size:
    """A size, for each option of what decides on it.

    Attributes:
        axis: the options.
        values: for each of them.
    """

    axis: Axis
    values: tuple[int, ...]

    @property
    def varies(self) -> bool:
        """Whether it is not one number."""
        return len(set(self.values)) > 1

    def of(self, option: Option) -> int:
        """The size under an option."""
        return self.values[self.axis.options.index(option)]

    def picked(self, picks: Mapping[str, Option]) -> int:
        """The size under these picks."""
        return self.of(self.axis.picked(picks))

    def part(self, name: str) -> Axis:
        """Its options, as those of a part of a block."""
        return replace(self.axis, part=name)

    def tied_to(self, other: Self) -> bool:
        """Whether one choice decides on both."""
        return self.axis.choice is not None and self.axis.choice == other.axis.choice


@dataclass(frozen=True)
class Side(Size):
    """The side of the maps at one place, in pixels, for each resolution that the images may have."""

    @classmethod
    def fixed(cls, pixels: int) -> Self:
        """The side that is no choice."""
        return cls(Axis("resolution", None, (pixels,)), (pixels,))

    def after(self, stride: int) -> Side:
        """That of the maps behind a convolution of this stride."""
        return replace(self, values=tuple(-(-side // stride) for side in self.values))
