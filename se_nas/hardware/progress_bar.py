"""A progress bar on standard error, for whoever sits at a terminal; a file or a pipe gets none of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def tracked(items: Iterable[T], words: str, count: int, *, wanted: bool = True) -> Iterable[T]:
    """The items, under a bar that goes away at their end.

    Args:
        count: how many they are.
        wanted: false where somebody asked for quiet, or another process speaks.
    """
    console = Console(stderr=True)
    shown = wanted and console.is_terminal and count > 0
    return track(items, words, count, console=console, transient=True, disable=not shown)
