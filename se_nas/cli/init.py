"""The command that copies what is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from se_nas.cli.screen import say
from se_nas.records.shipped import copy_shipped, run_files, spaces


def init(folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the copies.")]) -> None:
    """Copy the shipped run files and search spaces into a folder, where you can edit them.

    You need no copy to use them as they are: every command that takes such a file takes its name too.
    """
    copy_shipped(folder)
    say(f"copied: {len(run_files())} run files, {len(spaces())} search spaces and published networks")
    say(f"begin with: se-nas search {folder / 'runs' / 'digits.yaml'}")
