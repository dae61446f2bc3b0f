"""What a page offers its reader: commands for the very folder that it lies in, and links to the files there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from se_nas.report.pages.rows import Rows


@dataclass(frozen=True)
class Command:
    """A command and what it does."""

    words: str
    command: Markup


@dataclass(frozen=True)
class Next:
    """The commands of a page, and the files beside it: names relative to the folder, and what each is."""

    commands: Sequence[Command]
    files: Rows


def command_line(folder: Path, verb: str, inner: str = "", more: str = "") -> Markup:
    """A command on a folder, or on `inner` of it; markup, since a page loses the folders of all other text."""
    return Markup(escape(" ".join(filter(None, ("se-nas", verb, shlex.quote(f"{named(folder)}{inner}"), more)))))


def named(folder: Path) -> str:
    """The folder as a shell finds it: from the working folder where it lies below that, else whole."""
    whole = folder.resolve()
    try:
        below = whole.relative_to(Path.cwd())
    except ValueError:
        return str(whole)
    return str(below)


def files_in(folder: Path, known: Mapping[str, str]) -> Rows:
    """Those of some files that are there, and the plots, which are written with the page."""
    return [(name, words) for name, words in known.items() if (folder / name).exists() or name == "plots"]
