"""Runs whose latency is that of another device: a program of the user's times it, and the certificate says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from se_nas.cost.budget import Budget
from se_nas.cost.latency.building import CALIBRATE_ON
from se_nas.cost.latency.choosing import spread_architectures
from se_nas.cost.latency.elsewhere.importing import import_latency_table
from se_nas.cost.latency.elsewhere.measurements_file import write_measurements
from se_nas.errors import ConfigError, DeviceError
from se_nas.records.files import write_json
from se_nas.records.record import write_record
from se_nas.runs.run_file import load_run, parse_run
from se_nas.runs.search import decode_again, run_search
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space
from tests.helpers.tiny_runs import RUN, cache_latency, changed, read_json, write_run

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
    tmp_path: Path, timer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CALIBRATE_ON, "networks", 8)
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


def imported(folder: Path, run_file: Path, ms: Callable[[SearchSpace, Architecture], float]) -> Path:
    """A table of the run's space, as its images change it."""
    space = replace(load_space(folder / "space.yaml"), classes=10)
    architectures = spread_architectures(space, 60, np.random.default_rng(0))
    path = write_measurements(folder / "timed.jsonl", [(a, ms(space, a)) for a in architectures])
    return write_record(folder / "phone.json", import_latency_table(space, path, "phone").record())


def by_blocks(space: SearchSpace, architecture: Architecture) -> float:
    return 1.0 + sum(0.1 * block.kernel + (0.4 if block.se else 0) for block in space.resolve(architecture).blocks)


IMPORTED = changed(changed(RUN, "latency", {"runtime": "imported", "file": "phone.json"}), "retrain", None)


def test_a_budget_on_somebody_elses_measurements_is_kept_with_its_interval_and_called_predicted(tmp_path: Path) -> None:
    run_file = write_run(tmp_path, changed(IMPORTED, "budgets", {"latency_ms": 3.0}))
    imported(tmp_path, run_file, by_blocks)
    search(run_file, lambda line: None)
    certificate = read_json(tmp_path / "out/certificate.json")
    (budget,) = certificate["budgets"]
    assert (budget["how"], budget["holds"]) == ("predicted", True)
    assert budget["value"] <= budget["ci95"][1] <= 3.0
    assert (
        budget["relative_error_std"] == read_json(tmp_path / "out/latency.json")["report"]["held_out"]["residual_std"]
    )
    assert certificate["latency_conditions"]["runtime"] == "imported"
    assert "measured" not in [cost["how"] for cost in certificate["costs"]]
    (tmp_path / "phone.json").unlink()  # the run has what it needs
    decode_again(tmp_path / "out", [Budget("latency_ms", 2.9)], tmp_path / "tighter")
    assert read_json(tmp_path / "tighter/certificate.json")["budgets"][0]["limit"] == 2.9


def test_a_table_that_predicts_no_better_than_macs_is_refused_as_a_budget(tmp_path: Path) -> None:
    run_file = write_run(tmp_path, changed(IMPORTED, "budgets", {"latency_ms": 3.0}))
    path = imported(tmp_path, run_file, by_blocks)
    table = read_json(path)
    table["report"]["macs"]["mape"] = table["report"]["held_out"]["mape"]
    write_json(path, table)
    with pytest.raises(ConfigError, match="must predict better than a line on MACs, but is no budget: "):
        search(run_file, lambda line: None)


def test_a_table_that_was_timed_is_no_imported_one_and_is_refused_before_the_search(tmp_path: Path) -> None:
    run_file = write_run(tmp_path, changed(IMPORTED, "budgets", {"latency_ms": 3.0}))
    cache_latency(tmp_path / "cache", tmp_path)
    (table,) = (tmp_path / "cache/latency").glob("*.json")
    table.rename(tmp_path / "phone.json")
    with pytest.raises(ConfigError, match="must be a table of `se-nas latency import`, but is one of runtime onnxrun"):
        search(run_file, lambda line: None)
    (tmp_path / "phone.json").write_text('{"picks": {}, "ms": 1}\n{"picks": {}, "ms": 2}\n')  # what it is made from
    with pytest.raises(ConfigError, match=r"must be JSON, .*; `se-nas latency import` makes a table of this space"):
        search(run_file, lambda line: None)
    assert not (tmp_path / "out/search").exists()


@pytest.mark.parametrize(
    ("latency", "message"),
    [
        ({"runtime": "imported"}, "file: must be a table of `se-nas latency import`"),
        ({"file": "phone.json"}, "file: must be left out where runtime is not imported"),
        ({"runtime": "imported", "file": "phone.json", "run": "x {onnx}"}, "run: must be left out"),
        ({"runtime": "imported", "file": "phone.json", "table": False}, "table: must not be off"),
        ({"runtime": "imported", "file": "phone.json", "threads": 4}, "threads: must be left out for runtime imported"),
        ({"runtime": "imported", "file": "phone.json", "dtype": "int8"}, "dtype: must be left out for runtime imp"),
    ],
)
def test_an_imported_table_and_its_file_go_together(latency: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_run(changed(RUN, "latency", latency), "run.yaml")
