"""Command lines as they are shown to users."""

from __future__ import annotations

import contextlib
import shlex

import typer

from se_nas.cli.main import app


def parse(line: str) -> None:
    """Raise typer's usage error where the command line does not know the command or one of its options."""
    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    while True:
        subcommands = getattr(command, "commands", None)
        if subcommands is None or not words or words[0].startswith("-"):
            break
        assert words[0] in subcommands, f"{line}: no command {words[0]!r}"
        command, words = subcommands[words[0]], words[1:]
    with contextlib.suppress(typer.Exit):  # how --help ends
        command.make_context("se-nas", words).close()
