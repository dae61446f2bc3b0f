"""Runs whose latency is that of another device: a program of the user's times it, and the certificate says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from se_nas.errors import DeviceError
from se_nas.runs.run_file import load_run
from se_nas.runs.search import run_search
from tests.helpers.tiny_runs import RUN, changed, read_json, write_run

pytest.importorskip("onnx")


@pytest.fixture
def timer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device on which a network takes as many milliseconds as its file has kilobytes."""
    monkeypatch.setenv("SE_NAS_CACHE", str(tmp_path / "cache"))
    script = tmp_path / "timer"
    script.write_text('#!/bin/sh\necho "$(wc -c < "$1")e-3"\n')
    script.chmod(0o755)
    return script


def search(run_file: Path, say: Callable[[str], None]) -> None:
    run_search(run_file, load_run(run_file), run_file.parent / "out", resume=False, progress=False, say=say)


def test_a_search_under_a_budget_on_another_device_ends_with_what_that_device_measured(
    tmp_path: Path, timer: Path
) -> None:
    run = changed(RUN, "latency", {"runtime": "command", "device": "phone", "run": f"{timer} {{onnx}}"})
    run = changed(changed(run, "budgets", {"latency_ms": 1000.0}), "retrain", None)
    said: list[str] = []
    search(write_run(tmp_path, run), said.append)
    certificate = read_json(tmp_path / "out/certificate.json")
    conditions = certificate["latency_conditions"]
    assert (conditions["device"], conditions["runtime"], conditions["clock"]) == ("phone", "command", "the program's")
    assert conditions["program"] == f"{timer} {{onnx}}"
    (budget,) = certificate["budgets"]
    assert (budget["metric"], budget["how"], budget["holds"]) == ("latency_ms", "measured", True)
    assert read_json(tmp_path / "out/latency.json")["report"]["method"] == "networks"
    assert any("on phone: command" in line for line in said)
    assert "phone" in (tmp_path / "out/report.html").read_text()


def test_a_device_that_is_gone_ends_the_run_with_one_line(tmp_path: Path, timer: Path) -> None:
    timer.unlink()
    run = changed(RUN, "latency", {"runtime": "command", "run": f"{timer} {{onnx}}"})
    with pytest.raises(DeviceError, match=r"one that can be started, but .* cannot: No such file") as error:
        search(write_run(tmp_path, run), lambda line: None)
    assert len(str(error.value).splitlines()) == 1
