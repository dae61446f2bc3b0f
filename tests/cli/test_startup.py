"""What a command line waits for before anything is done: the imports, and no more of them than the help needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

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
COMMANDS = [["--help"], ["version"], ["search", "--help"], ["decode", "--help"], ["space", "show", "--help"]]


def imported(code: str, names: tuple[str, ...]) -> list[str]:
    """Which of these modules the code imports, in a process of its own."""
    code += f"\nprint(sorted(set({names!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return list(ast.literal_eval(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_does_nothing_yet_imports_nothing_heavy(words: list[str]) -> None:
    assert imported(RUN.format(words=["se-nas", *words]), HEAVY) == []


def test_the_package_alone_imports_nothing_but_itself() -> None:
    assert imported("import sys, se_nas", (*HEAVY, "typer", "rich", "se_nas.errors", "logging")) == []
