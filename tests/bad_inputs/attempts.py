"""One bad input, tried: a command in a process of its own, which ends in plain lines, does no harm, or falls short."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from se_nas.cli import main as cli
from se_nas.cli import space as space_commands
from se_nas.errors import MOST_IN_LINE
from se_nas.report.plots import figure
from se_nas.runs import search

#: What an input may come to. Plain is exit code 2 and lines that begin with "error:", none of them long.
Result = Literal["refused", "harmless", "traceback", "hang"]
#: Bytes of address space that a command may take: what would fill the machine ends as a traceback instead.
MEMORY = 48 << 30


class Begun(BaseException):
    """All of a run was checked, and its search would begin."""


@dataclass(frozen=True)
class Attempt:
    """A bad input and the command that is given it.

    Attributes:
        name: which input it is, for who reads what fell short.
        words: of the command line; `{place}` is the attempt's own folder.
        base: what the folder begins as, the name of a folder of `Made`; None for an empty one.
        write: puts the bad input into the folder.
        environment: variables of the command.
        search: whether a search that begins is to go on to its end; else its beginning shows the input harmless.
    """

    category: str
    name: str
    words: tuple[str, ...]
    base: str | None = None
    write: Callable[[Path], object] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    search: bool = False


@dataclass(frozen=True)
class Outcome:
    """What an attempt came to, and the words that tell why."""

    result: Result
    words: str


def tried(attempt: Attempt, bases: Path, place: Path, limit: float) -> Outcome:
    """Try it in `place`, which is made and removed, for at most `limit` seconds."""
    if attempt.base is None:
        place.mkdir(parents=True)
    else:
        shutil.copytree(bases / attempt.base, place)
    try:
        if attempt.write is not None:
            attempt.write(place)
        return in_child(lambda: _run(attempt, place), limit)
    finally:
        _remove(place)


def in_child(work: Callable[[], Outcome], limit: float) -> Outcome:
    """The outcome of work in a forked process, which imports nothing anew; a hang where it takes too long."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(reading)
        try:
            outcome = work()
        except BaseException:
            outcome = Outcome("traceback", traceback.format_exc())
        os.write(writing, json.dumps([outcome.result, outcome.words[-4000:]]).encode())
        os._exit(0)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], limit)
    said = os.read(reading, 1 << 16) if ready else b""
    os.close(reading)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # its own group: what it started ends with it
    os.waitpid(child, 0)
    if not ready:
        return Outcome("hang", f"it took over {limit:g} seconds")
    if not said:
        return Outcome("traceback", "its process died")
    result, words = json.loads(said)
    return Outcome(result, words)


def _run(attempt: Attempt, place: Path) -> Outcome:
    errors = place.with_name(f"{place.name}.err")
    redirected(errors)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ.update(attempt.environment)
    os.chdir(place)
    _without_what_takes_long(attempt)
    sys.argv = ["se-nas", *(word.format(place=place) for word in attempt.words)]
    code: object = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    except Begun:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    said = errors.read_text(errors="replace")
    lines = [line for line in said.splitlines() if line]
    if "Traceback" in said or code not in (0, 2) or any(len(line) > MOST_IN_LINE for line in lines):
        return Outcome("traceback", f"exit code {code}\n{said}")
    if code == 2 and not any(line.startswith("error: ") for line in lines):
        return Outcome("traceback", f"exit code 2 without a word\n{said}")
    return Outcome("refused" if code == 2 else "harmless", said)


def redirected(errors: Path) -> None:
    """Read nothing, write standard output nowhere and standard error into a file, in this process."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(errors, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, errors="backslashreplace") for stream in (1, 2))
    for handler in logging.root.handlers:
        logging.root.removeHandler(handler)  # which write where standard error was


def _without_what_takes_long(attempt: Attempt) -> None:
    """Figures are drawn and not rendered, no network is timed, and a search does not begin."""
    figure.figure_png = lambda drawn: b""  # type: ignore[assignment]
    figure.figure_svg = lambda drawn, name: ""  # type: ignore[assignment]
    space_commands._measured_span = lambda space, tables: ""
    if not attempt.search:
        made = search.make_setting

        def begin(*words: Any, **more: Any) -> Any:
            made(*words, **more)
            raise Begun

        search.make_setting = begin  # type: ignore[attr-defined]


def _remove(place: Path) -> None:
    for folder, _, _ in os.walk(place):
        os.chmod(folder, 0o700)
    shutil.rmtree(place, ignore_errors=True)
    place.with_name(f"{place.name}.err").unlink(missing_ok=True)
