"""What a command line waits for before anything is done: the imports, and no more of them than the help needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Modules that take long to import, each of which only a command that runs may need (typer itself takes pydantic).
HEAVY = (
    *("matplotlib", "mkdocs", "networkx", "nni", "numpy", "onnx", "onnxruntime", "optuna", "pandas", "PIL"),
    *("scipy", "sklearn", "sqlalchemy", "sympy", "tensorboard", "thop", "timm", "torch", "torchvision", "yaml"),
)

RUN = """
import contextlib, sys
from se_nas.cli.main import main
sys.argv = {words!r}
with contextlib.suppress(SystemExit):
    main()
"""
#: The help of every command, one after the other in one process: the first that imports something heavy is named.
EVERY_HELP = """
import contextlib, io, sys, typer
from se_nas.cli.main import app

def paths(command, path=()):
    yield path
    for name, below in getattr(command, "commands", {{}}).items():
        yield from paths(below, (*path, name))

asked = 0
for path in paths(typer.main.get_command(app)):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
        app([*path, "--help"], prog_name="se-nas")
    assert "Usage: se-nas" in out.getvalue()
    asked += 1
    if heavy := sorted({names!r} & set(sys.modules)):
        print(["se-nas", *path, heavy])
        break
else:
    print([asked])
"""


def imported(code: str, names: tuple[str, ...]) -> list[str]:
    """Which of these modules the code imports, in a process of its own."""
    return list(last_line(code + f"\nprint(sorted(set({names!r}) & set(sys.modules)))"))


def last_line(code: str) -> Any:
    """The value that the code prints last, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("words", [["--help"], ["version"]], ids=" ".join)
def test_what_does_nothing_yet_imports_nothing_heavy(words: list[str]) -> None:
    assert imported(RUN.format(words=["se-nas", *words]), HEAVY) == []


def test_no_help_imports_anything_heavy() -> None:
    (asked,) = last_line(EVERY_HELP.format(names=set(HEAVY)))
    assert asked > 20


def test_the_package_alone_imports_nothing_but_itself() -> None:
    assert imported("import sys, se_nas", (*HEAVY, "typer", "rich", "se_nas.errors", "logging")) == []
