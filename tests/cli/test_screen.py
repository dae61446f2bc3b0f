"""What a terminal shows: no word and no path is broken at 80 or at 120 columns."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from se_nas.cli.screen import answer_table, fitted
from se_nas.records.models.certificate import SearchCertificate
from se_nas.records.models.run_result import RunResult
from se_nas.records.record import read_record
from se_nas.training.metrics import print_line
from tests.report.fake_run import make_fake_run

PATH = "/home/somebody/with/a/very/long/way/to/the/folder/of_a_run/" + "x" * 60 + "/certificate.json"
LINE = f"the certificate that was asked for is in {PATH}, and more is said behind it, in so many words"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(width: int, print_on: Any) -> str:
    stream = Terminal()
    print_on(Console(file=stream, width=width, force_terminal=True, color_system=None))
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_closing_table_breaks_no_word_and_fits(tmp_path: Path, width: int) -> None:
    run = make_fake_run(tmp_path, epochs=2)
    trained = read_record(RunResult, run / "result.json").retrain
    table = answer_table(read_record(SearchCertificate, run / "certificate.json"), trained)
    text = shown(width, lambda console: console.print(table))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    words = set(text.split())
    cells = [str(cell) for column in table.columns for cell in (column.header, *column.cells)]
    assert {word for cell in cells for word in cell.split()} == words
    assert {"macs", "params", "latency_ms", "accuracy", "93.42"} <= words


@pytest.mark.parametrize("width", [80, 120])
def test_a_line_is_broken_between_words_alone(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    of_training = shown(width, lambda console: print_line(console, LINE))
    for text in (fitted(LINE, Terminal()), of_training):
        lines = text.splitlines()
        assert text.split() == LINE.split()
        assert len(lines) > 1
        assert all(len(line.rstrip()) <= width or line.split() == [f"{PATH},"] for line in lines)
    assert fitted(LINE, io.StringIO()) == LINE


def test_a_line_into_a_file_stays_whole() -> None:
    stream = io.StringIO()
    print_line(Console(file=stream, width=80), LINE)
    assert stream.getvalue() == f"{LINE}\n"
