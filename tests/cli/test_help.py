"""What the help says: sentences that begin and end, an example for each command, at any width of a terminal."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from se_nas.cli.main import app
from se_nas.errors import counted


def entries(command: Any, path: str = "se-nas") -> Iterator[tuple[str, Any]]:
    """Every command, and every group of commands, with its name."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from entries(below, f"{path} {name}")


ENTRIES = list(entries(typer.main.get_command(app)))


@pytest.mark.parametrize(("path", "command"), ENTRIES, ids=[path for path, _ in ENTRIES])
def test_every_word_of_help_is_a_sentence(path: str, command: Any) -> None:
    said = {path: command.help, **{f"{path} {param.name}": param.help for param in command.params if param.help}}
    assert not [name for name, text in said.items() if not (text[0].isupper() and text.rstrip().endswith((".", "`")))]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("path", [path for path, _ in ENTRIES])
def test_no_paragraph_breaks_in_mid_sentence_and_an_example_ends_it(
    path: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        app([*path.split()[1:], "--help"], prog_name="se-nas")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    start = next(number for number, line in enumerate(lines) if line.startswith("Usage: ")) + 1
    above = "\n".join(itertools.takewhile(lambda line: not line.startswith("╭"), lines[start:]))
    for paragraph in above.split("\n\n"):
        for line, following in itertools.pairwise(paragraph.strip().splitlines()):
            assert len(line) + 1 + len(following.split()[0]) > columns - 10, f"broken in mid-sentence: {line}"
    # a heading that is too long would be cut
    assert not [line for line in lines if line.startswith("╭─ ") and not re.fullmatch(r"╭─ .* ─+╮", line)]
    assert any(re.match(r"(Example|Begin with): se-nas ", line) for line in lines)


def test_one_thing_is_not_spoken_of_as_several() -> None:
    assert [counted(number, "image") for number in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
    assert [counted(number, "entry is", "entries are") for number in (1, 2)] == ["1 entry is", "2 entries are"]
