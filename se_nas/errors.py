"""Errors that a user can cause: the command line prints each on one line and exits with code 2."""

from __future__ import annotations

import difflib
import reprlib
import signal
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

#: Characters of a value that a message shows, and of a line of it whatever it shows.
MOST_SHOWN, MOST_IN_LINE = 200, 2000
#: Problems of one file that are told.
MOST_PROBLEMS = 20


def wrapped(line: str, width: int) -> str:
    """A line broken between words alone; a word that is wider stays whole."""
    if len(line) <= width:
        return line
    return textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def cut(text: str, most: int = MOST_IN_LINE) -> str:
    """A text, its middle left out where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most // 2 - 4]} [...] {text[4 - most // 2 :]}"


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 20
        self.maxstring = self.maxlong = self.maxother = MOST_SHOWN

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write out more digits than 4,300
        return super().repr_int(x, level) if x.bit_length() < 4000 else f"a number of {x.bit_length():,} bits"

    def repr_dict(self, x: dict[object, object], level: int) -> str:  # in its own order, which the library's is not
        if level <= 0 and x:
            return "{...}"
        items = list(zip(x.items(), range(self.maxdict), strict=False))
        words = [f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}" for (key, value), _ in items]
        return "{" + ", ".join(words + ["..."] * (len(x) > len(items))) + "}"


_SHORT = _Short()


def short(value: object) -> str:
    """What a message shows of a value that somebody gave: as Python writes it, but of at most `MOST_SHOWN` characters.

    What is longer is not written out first: a file of a megabyte may hold a value that takes gigabytes to write.
    """
    return cut(_SHORT.repr(value), MOST_SHOWN)


def in_line(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def counted(count: int, thing: str, things: str | None = None) -> str:
    """A number of things in words: "1 image", "2,000 images"; a plural without an s is given as `things`."""
    return f"{count:,} {thing if count == 1 else things or f'{thing}s'}"


def format_seconds(seconds: float) -> str:
    """A duration: 42 s, 3 min 20 s, 5 h 07 min."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def install(extra: str) -> str:
    """The command that installs what an optional part of the package needs."""
    return f"pip install 'se-nas[{extra}]'"


class SeNasError(Exception):
    """Base of every error that says what must hold, what was got and where; no line of it is endless."""

    def __str__(self) -> str:
        return "\n".join(cut(line) for line in super().__str__().split("\n"))


class ConfigError(SeNasError):
    """One or more faults in a YAML or JSON file, all reported at once.

    Args:
        source: the file (or other origin) the faults are in.
        problems: one line per fault, each starting with its path in the file; the message has the first of them.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        told = list(self.problems[:MOST_PROBLEMS])
        if (more := len(self.problems) - len(told)) > 0:
            told.append(f"and {more:,} more")
        super().__init__("\n".join(f"{source}: {problem}" for problem in told))


class ArchitectureError(SeNasError):
    """An architecture that is not in the space, or a file that holds none this version can read."""


class ModelError(SeNasError):
    """A model of somebody else's of which no space can be made; the message names the module that stands in the way."""


class InfeasibleBudgetError(SeNasError):
    """No architecture of the space keeps the budgets; the message names the least reachable cost."""


class DataError(SeNasError):
    """A data set that is missing, incomplete or not in the layout it must have."""


class CheckpointError(SeNasError):
    """A checkpoint that is truncated, foreign, or of another run."""


class TrainingError(SeNasError):
    """Training that cannot go on, such as a loss that stays non-finite after every rollback."""


class OutputError(SeNasError):
    """A place that results cannot be written to."""


class DeviceError(SeNasError):
    """A device that was asked for and is not there."""


class StorageError(SeNasError):
    """A study's database that cannot be reached, or that holds another study."""


class LaunchError(SeNasError):
    """An NNI experiment that cannot be started, reached or stopped as asked."""


class ExportError(SeNasError):
    """A network that cannot be handed on in the form that was asked for, or that differs from itself in that form."""


class TrainingInterrupted(KeyboardInterrupt):
    """The run was asked to stop (SIGINT or SIGTERM), has saved its state and can be resumed."""

    def __init__(self, name: str, signal_number: int, checkpoint: Path) -> None:
        self.signal_number = signal_number
        signal_name = signal.Signals(signal_number).name
        super().__init__(f"{name}: stopped by {signal_name}; resume from {checkpoint}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" with the one of `known` that `word` resembles most; "" where it resembles none."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
