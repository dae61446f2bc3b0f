"""One decision of a search space: a name and the options it may take."""

from __future__ import annotations

from dataclasses import dataclass

Option = int | float | str


@dataclass(frozen=True)
class Choice:
    """A named decision with at least two distinct options, in the order the space lists them."""

    name: str
    options: tuple[Option, ...]

    def __post_init__(self) -> None:
        if len(self.options) < 2 or len(set(self.options)) != len(self.options):
            raise ValueError(f"{self.name}: a choice must have two or more distinct options, but got {self.options}")

    def index(self, option: Option) -> int:
        """Position of `option`; ValueError when it is none of this choice's."""
        return self.options.index(option)


@dataclass(frozen=True)
class Axis:
    """The options one part of a block ranges over, and the choice that picks among them (None: there is but one)."""

    choice: str | None
    options: tuple[Option, ...]
