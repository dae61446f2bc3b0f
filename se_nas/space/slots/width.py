"""The channels at one place of a network, which may be a choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from se_nas.space.channels import round_channels
from se_nas.space.choice import Axis
from se_nas.space.slots.size import Size
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
class Width(Size):
    """Channels, for each option of what decides on them: numbers of channels, or multipliers where one is chosen for
    the whole network."""

    @classmethod
    def fixed(cls, channels: int) -> Self:
        """The width that is no choice."""
        return cls(Axis("width", None, (channels,)), (channels,))

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each option."""
        return self.values
