"""Command lines as they are shown to users, and as users run them."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable

import pytest
import typer

from se_nas.cli import main as cli
from se_nas.cli.latency import TableByDefault

#: Runs a command: the exit code, the lines on standard error, and standard output.
Run = Callable[..., tuple[int, list[str], str]]
# words of pydantic, click and Python that mean nothing to a user
JARGON = re.compile(r"Traceback|pydantic|Input should|validation error|dictionary|instance of|_\w+Model|errno", re.I)


def call(*words: object) -> int:
    """Run one command in this process; returns the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["se-nas", *map(str, words)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
    return int(exit.value.code or 0)


def assert_refused(result: tuple[int, list[str], str], *expected: str) -> None:
    """Exit code 2 and exactly one line for each expected beginning, in plain words."""
    code, errors, out = result
    assert code == 2
    assert len(errors) == len(expected), errors
    for line, start in zip(errors, expected, strict=True):
        assert line.startswith(f"error: {start}"), line
        assert not JARGON.search(line), line
        assert len(line) < 300
    assert "Traceback" not in out


def parse(line: str) -> None:
    """Raise typer's usage error where the command line does not know the command or one of its options."""
    words = shlex.split(line)[1:]
    command = typer.main.get_command(cli.app)
    while True:
        subcommands = getattr(command, "commands", None)
        if subcommands is None or not words or words[0].startswith("-"):
            break
        if isinstance(command, TableByDefault) and words[0] not in subcommands:
            words = ["table", *words]
        assert words[0] in subcommands, f"{line}: no command {words[0]!r}"
        command, words = subcommands[words[0]], words[1:]
    with contextlib.suppress(typer.Exit):  # how --help ends
        command.make_context("se-nas", words).close()
