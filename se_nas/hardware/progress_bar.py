"""A progress bar on standard error, for whoever sits at a terminal; a file or a pipe gets none of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    track,
)

T = TypeVar("T")
_LINES = 20  # in place of a bar, where there is no terminal


class Counting(Protocol):
    """Is told how many are done, of how many, and what else there is to say."""

    def __call__(self, done: int, total: int, state: str = "") -> None: ...  # noqa: D102


def tracked(items: Iterable[T], words: str, count: int, *, wanted: bool = True) -> Iterable[T]:
    """The items, under a bar that goes away at their end.

    Args:
        count: how many they are.
        wanted: false where somebody asked for quiet, or another process speaks.
    """
    console = Console(stderr=True)
    shown = wanted and console.is_terminal and count > 0
    return track(items, words, count, console=console, transient=True, disable=not shown)


@contextmanager
def counted_up(words: str, *, wanted: bool = True, lines: bool = False) -> Iterator[Counting]:
    """A bar that goes away at its end, of what is told to the function that it gives.

    Args:
        wanted: false where somebody asked for quiet.
        lines: the bar stays, and where nobody sits at a terminal there are lines now and then.
    """
    console = Console(stderr=True)
    shown = wanted and console.is_terminal
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *(TimeElapsedColumn(), TextColumn("gone,"), TimeRemainingColumn(), TextColumn("left")),
        TextColumn("{task.fields[state]}"),
    )
    told = -1
    with Progress(*columns, console=console, transient=not lines, disable=not shown) as progress:
        task = progress.add_task(words, total=None, state="")

        def count(done: int, total: int, state: str = "") -> None:
            nonlocal told
            progress.update(task, completed=done, total=total, state=state)
            apart = max(1, total // _LINES)
            if lines and wanted and not shown and done // apart > told // apart:
                told = done
                console.print(f"{words}: {done}/{total} {state}".rstrip(), highlight=False)

        yield count
