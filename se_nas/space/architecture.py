"""An architecture: one pick for every choice of a space."""

from __future__ import annotations

from dataclasses import dataclass

from se_nas.space.choice import Option


@dataclass(frozen=True)
class Architecture:
    """Total and canonical: built by `SearchSpace.architecture`, so that equal networks are equal and hash alike."""

    space_digest: str
    picks: tuple[tuple[str, Option], ...]

    def as_dict(self) -> dict[str, Option]:
        """The picks by choice name."""
        return dict(self.picks)

    def __getitem__(self, choice: str) -> Option:
        return self.as_dict()[choice]
