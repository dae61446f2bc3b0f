"""What no test run would show: formatting, lint, types, and the floors that imports must respect."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports", "--no-cache"],
    ],
    ids=lambda command: " ".join(command),
)
def test_passes(command: list[str]) -> None:
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run([str(tool), *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_file_and_a_folder_of_the_package_are_small_enough_to_be_known() -> None:
    """At most 450 lines, and at most 15 files: beyond that a file is two ideas, and a folder two rooms."""
    files = sorted((ROOT / "se_nas").rglob("*.py"))
    assert len(files) > 100
    lines = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}
    assert {name: count for name, count in lines.items() if count > 450} == {}
    folders = Counter(str(file.parent.relative_to(ROOT)) for file in files)
    assert {name: count for name, count in folders.items() if count > 15} == {}
