"""Command lines with words that no command takes, and environment variables that are none."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import typer

from se_nas.cli import main as cli
from tests.bad_inputs.attempts import Attempt
from tests.bad_inputs.texts import SEARCH, SHOW

#: Words that stand in place of an option's value, or of an argument.
VALUES = (
    "",
    "x",
    "-1",
    "1e999",
    "nan",
    "9" * 400,
    "../none",
    "/dev/null",
    "a" * 5000,
    "\udcff",
    "é",
    "=",
    "x=",
    "[",
    "none.json",
)
#: Of what is not there: no command that starts or ends processes is given something that is.
ARGUMENTS = {"launch": ("none.yaml",), "resume": ("none",), "view": ("none",), "stop": ("none",)}
#: Good arguments of the others, in the base that they are of.
GOOD: dict[str, tuple[str, tuple[str, ...]]] = {
    "search": ("tabular_files", SEARCH[1:]),
    "decode": ("tabular", ("out", "--budget", "macs=80k")),
    "report": ("tabular", ("out",)),
    "compare": ("tabular", ("out", "out")),
    "evaluate": ("differentiable", ("out/retrain", "--quiet")),
    "export": ("network", ("architecture.json", "--weights", "network.pt", "--to", "plain")),
    "space show": ("tabular_files", ("space.yaml",)),
    "space table": ("tabular_files", ()),
    "init": ("tabular_files", ("new",)),
    "version": ("tabular_files", ()),
}
#: Options that would start something long where their value is good after all.
_LONG = ("--jobs",)
VARIABLES: dict[str, tuple[str, ...]] = {
    "RANK": ("x", "-1", "", "9" * 400, "1e3", "é", "0x1", " 0", "7"),
    "WORLD_SIZE": ("x", "-1", "", "0", "9" * 400, "é"),
    "LOCAL_RANK": ("x", "-1", "", "9" * 400),
    "SLURM_STEP_NUM_TASKS": ("x", "-1", "", "2", "9" * 400),
    "OMPI_COMM_WORLD_SIZE": ("x", "-1", "2"),
    "PMI_SIZE": ("x", "-1", "2"),
    "SE_NAS_CACHE": ("", "/dev/null", "/proc/none", "x" * 5000, "/dev/full", "run.yaml", "é", "~none/x"),
    "SE_NAS_STORAGE": (
        "",
        "x",
        "sqlite://",
        "sqlite:////dev/null",
        "sqlite:///.",
        "mysql://",
        "http://x",
        "postgresql://me:pw@127.0.0.1:1/x",
        "a:b:c",
        "é",
        "x" * 5000,
        "sqlite:///no/such/folder/x.db",
        "redis://x",
    ),
    "HOME": ("", "/dev/null", "none", "/proc"),
    "XDG_CACHE_HOME": ("", "/dev/null", "/proc"),
    "TMPDIR": ("/dev/null", "none"),
    "COLUMNS": ("x", "-1", "0", "9" * 30),
    "LINES": ("x", "-1"),
    "TERM": ("", "x", "dumb"),
    "NO_COLOR": ("x",),
    "MALLOC_ARENA_MAX": ("x",),
    "GLIBC_TUNABLES": ("x",),
    "LC_ALL": ("C", "none", "x" * 300),
}


def command_lines(rng: random.Random) -> Iterator[Attempt]:
    """Every option of every command with every value that is none, and commands that there are not."""
    category = "command lines"
    yield from (
        Attempt(category, f"{words!r:.80}", words)
        for words in (
            *((word,) for word in ("", "x", "--x", "-", "--", "-1", "serach", "é", "\udcff", "a" * 5000)),
            *(("--help", "x"), ("space", "x"), ("data", "shard"), ("version", "x")),
        )
    )
    for name, command in _commands():
        base, good = GOOD.get(name, (None, ARGUMENTS.get(name, ("none",))))
        words = tuple(name.split())
        for value in VALUES:
            yield Attempt(category, f"{name} {value!r:.60}", (*words, value), base)
        yield Attempt(category, f"{name}: no words", words, base)
        yield Attempt(category, f"{name}: too many words", (*words, *good, "one", "more", "word"), base)
        yield Attempt(category, f"{name}: an unknown option", (*words, *good, "--unknown"), base)
        for option in _options(command):
            if option in _LONG:
                continue
            for value in rng.sample(VALUES, 4):
                yield Attempt(category, f"{name} {option} {value!r:.60}", (*words, *good, option, value), base)
            yield Attempt(category, f"{name} {option}: no value", (*words, *good, option), base)


def _commands() -> Iterator[tuple[str, Any]]:
    found: Any = typer.main.get_command(cli.app)
    for name, command in found.commands.items():
        for below, inner in getattr(command, "commands", {"": command}).items():
            yield f"{name} {below}".strip(), inner


def _options(command: Any) -> list[str]:
    """Those that take a value."""
    options = [p for p in command.params if p.param_type_name == "option" and not p.is_flag]
    return [option.opts[0] for option in options if option.opts[0].startswith("--")]


def environments(rng: random.Random) -> Iterator[Attempt]:
    """Each variable that se_nas, or what it stands on, reads at its start."""
    commands = (
        (SHOW, "tabular_files"),
        (SEARCH, "tabular_files"),
        (("worker", "out"), "tabular"),
        (("version",), None),
        (("space", "--help"), None),
    )
    for name, values in VARIABLES.items():
        for value in values:
            for command, base in commands:
                yield Attempt("environment", f"{name}={value!r:.40}: {command[0]}", command, base, None, {name: value})
