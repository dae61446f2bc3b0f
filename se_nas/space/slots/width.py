"""The channels at one place of a network, which may be a choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from se_nas.space.channels import round_channels
from se_nas.space.choice import Axis, Option
from se_nas.space.templates import options_of


def multiplied_channels(
    width: int | tuple[int, ...], multipliers: tuple[float, ...], channel_divisor: int
) -> tuple[int, ...]:
    """The channels of a width, or of each of several, times each multiplier; 0, which is no convolution, stays."""
    return tuple(
        round_channels(one * by, channel_divisor) if by != 1 and one else one
        for one in options_of(width)
        for by in multipliers
    )


@dataclass(frozen=True)
class Width:
    """Channels, for each option of what decides on them.

    Attributes:
        axis: the options: numbers of channels, or multipliers where one is chosen for the whole network.
        channels: for each of them.
    """

    axis: Axis
    channels: tuple[int, ...]

    @classmethod
    def fixed(cls, channels: int) -> Width:
        """The width that is no choice."""
        return cls(Axis("width", None, (channels,)), (channels,))

    @property
    def varies(self) -> bool:
        """Whether it is not one number of channels."""
        return len(set(self.channels)) > 1

    def of(self, option: Option) -> int:
        """The channels of an option."""
        return self.channels[self.axis.options.index(option)]

    def picked(self, picks: Mapping[str, Option]) -> int:
        """The channels under these picks."""
        return self.of(self.axis.picked(picks))

    def part(self, name: str) -> Axis:
        """Its options, as those of a part of a block."""
        return replace(self.axis, part=name)

    def tied_to(self, other: Width) -> bool:
        """Whether one choice decides on both."""
        return self.axis.choice is not None and self.axis.choice == other.axis.choice
