"""A sample of the bad inputs, by the same script that tries them all: `python -m tests.bad_inputs`."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.bad_inputs import attempts
from tests.bad_inputs.__main__ import SOURCES
from tests.bad_inputs.attempts import Attempt, Outcome

ROOT = Path(__file__).resolve().parents[2]


def test_there_are_thousands_of_inputs_of_every_kind_and_no_two_are_called_the_same() -> None:
    every = [attempt for source in SOURCES for attempt in source(random.Random(0))]
    counts = Counter(attempt.category for attempt in every)
    assert len(counts) == len(SOURCES)
    assert min(counts.values()) > 80
    assert len(every) > 1500


def test_a_sample_of_them_ends_in_plain_lines_or_does_no_harm() -> None:
    command = [sys.executable, "-m", "tests.bad_inputs", "--every", "2400"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["holds"], done.stderr
    assert done.returncode == 0
    assert figures["tried"] == figures["refused"] + figures["harmless"] >= 10


@pytest.mark.parametrize(
    ("words", "result"),
    [(("version",), "harmless"), (("serach",), "refused"), (("report", "none"), "refused")],
)
def test_what_a_command_comes_to_is_told(tmp_path: Path, words: tuple[str, ...], result: str) -> None:
    assert attempts.tried(Attempt("any", "any", words), tmp_path, tmp_path / "place", 60).result == result
    assert list(tmp_path.iterdir()) == []


def test_what_falls_short_is_told(tmp_path: Path) -> None:
    def fail() -> Outcome:
        raise ValueError("no plain line")

    raised = attempts.in_child(fail, 60)
    assert raised.result == "traceback"
    assert raised.words.endswith("ValueError: no plain line\n")
    assert attempts.in_child(lambda: os._exit(3), 60) == Outcome("traceback", "its process died")  # type: ignore[arg-type]
    hang = Outcome("hang", "it took over 0.2 seconds")
    assert attempts.in_child(lambda: Outcome("harmless", input() if os.read(os.pipe()[0], 1) else ""), 0.2) == hang
