"""Lines for people, which long work gives to whoever called it."""

from __future__ import annotations

from collections.abc import Callable

#: Takes a line.
Say = Callable[[str], None]


def silent(line: str) -> None:
    """Drop it: of ranks that do not speak, and where a program reads what it wants to know from what is returned."""
