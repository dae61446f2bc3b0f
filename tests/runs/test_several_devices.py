"""Runs whose latency is budgeted on several devices at once, each a metric of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from se_nas.cost.budget import Budget, parse_budgets
from se_nas.cost.metrics import METRICS
from se_nas.errors import ConfigError
from se_nas.report.pages.compare.page import write_comparison
from se_nas.report.pages.compare.reading import read_runs
from se_nas.runs.prepare import open_setting
from se_nas.runs.run_file import load_run, parse_run
from se_nas.runs.search import decode_again, run_search
from se_nas.runs.shown import HIDDEN, shown
from se_nas.runs.worker import evaluate_one
from tests.helpers.tiny_runs import RUN, cache_latency, changed, read_json, write_run
from tests.runs.test_latency_devices import by_blocks, imported

pytest.importorskip("onnxruntime")

#: One that is timed here, one of somebody else's measurements, and one that a program times, the answer alone.
DEVICES: dict[str, Any] = {
    "server": {"device": "cpu"},
    "phone": {"runtime": "imported", "file": "phone.json"},
    "board-2": {"runtime": "command", "run": "./timer {onnx}", "table": False},
}
LIMITS = {"macs": "90k", "latency_ms.server": 1000.0, "latency_ms.phone": 3.0}
SEVERAL = {**RUN, "latency": DEVICES, "budgets": LIMITS, "retrain": None}


def search(run_file: Path, out: Path) -> None:
    run_search(run_file, load_run(run_file), out, resume=False, progress=False, say=lambda line: None)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run, in `out`; on the board a network takes as many milliseconds as its file has kilobytes."""
    home = tmp_path_factory.mktemp("devices")
    script = home / "timer"
    script.write_text('#!/bin/sh\necho "$(wc -c < "$1")e-3"\n')
    script.chmod(0o755)
    devices = changed(DEVICES, "board-2.run", f"{script} {{onnx}}")
    run_file = write_run(home, {**SEVERAL, "latency": devices})
    imported(home, run_file, by_blocks)
    cache_latency(home / "cache", home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_NAS_CACHE", str(home / "cache"))
        search(run_file, home / "out")
        yield home


def test_the_budgets_of_all_devices_are_kept_together_each_as_its_device_can_tell(done: Path) -> None:
    certificate = read_json(done / "out/certificate.json")
    kept = {budget["metric"]: (budget["how"], budget["holds"]) for budget in certificate["budgets"]}
    assert kept == {
        "macs": ("counted", True),
        "latency_ms.server": ("measured", True),
        "latency_ms.phone": ("predicted", True),
    }
    costs = [(cost["metric"], cost["how"]) for cost in certificate["costs"] if "latency" in cost["metric"]]
    assert costs == [
        ("latency_ms.server", "predicted"),
        ("latency_ms.server", "measured"),
        ("latency_ms.phone", "predicted"),
        ("latency_ms.board-2", "measured"),
    ]
    conditions = certificate["latency_conditions"]
    named = {metric: (found["device"].split()[0], found["runtime"]) for metric, found in conditions.items()}
    assert named == {
        "latency_ms.server": ("cpu", "onnxruntime"),
        "latency_ms.phone": ("phone", "imported"),
        "latency_ms.board-2": ("board-2", "command"),
    }
    (decode,) = read_json(done / "out/decodes.json")
    assert decode["measured_ms"].keys() == {"latency_ms.server", "latency_ms.board-2"}


def test_each_device_has_its_table_in_the_folder_and_its_part_of_the_page(done: Path) -> None:
    tables = {path.name for path in (done / "out").glob("latency*.json")}
    assert tables == {"latency.server.json", "latency.phone.json"}
    page = (done / "out/report.html").read_text()
    for words in (
        "Latency on server",
        "Latency on phone",
        "ms on server of at most 1e+03 ms (measured)",
        'ms on phone</b> <span class="quiet">of 3 ms, predicted',
        "Conditions of the latency on board-2",
        "latency.phone.json",
        "Where the devices disagree on SE",
    ):
        assert words in page
    assert {"latency_server.png", "latency_phone.png"} <= {path.name for path in (done / "out/plots").iterdir()}
    assert HIDDEN not in page
    assert "retries" not in page.split("The run file with every value")[0]  # as of a program, which the board alone has
    parts = [entry["part"] for entry in read_json(done / "out/result.json")["cost_ledger"]]
    assert parts[:2] == ["server: latency table", "phone: latency table"]


def test_a_finished_search_is_decoded_under_another_budget_of_one_device(done: Path, tmp_path: Path) -> None:
    decode_again(done / "out", [Budget("latency_ms.phone", 2.5), Budget("latency_ms.server", 900.0)], tmp_path / "more")
    budgets = read_json(tmp_path / "more/certificate.json")["budgets"]
    assert {budget["metric"]: budget["limit"] for budget in budgets} == {
        "latency_ms.phone": 2.5,
        "latency_ms.server": 900.0,
    }
    assert all(budget["holds"] for budget in budgets)
    with pytest.raises(
        ConfigError, match=r"latency_ms\.tablet: must be one of latency_ms\.server, latency_ms\.phone, "
    ):
        decode_again(done / "out", [Budget("latency_ms.tablet", 2.5)], tmp_path / "none")


def test_a_run_goes_on_with_the_tables_that_it_began_with(done: Path) -> None:
    (done / "phone.json").rename(done / "gone.json")
    try:
        setting = open_setting(done / "out")
    finally:
        (done / "gone.json").rename(done / "phone.json")
    assert list(setting.latencies) == ["latency_ms.server", "latency_ms.phone", "latency_ms.board-2"]
    assert {"latency_ms.server", "latency_ms.phone"} < setting.tables.keys()
    other = load_run(done / "run.yaml", {"latency.server.threads": 4})
    with pytest.raises(ConfigError, match=r"latency\.server\.threads: must be as in the run that --resume continues"):
        run_search(done / "run.yaml", other, done / "out", resume=True, progress=False, say=print)


def test_trials_elsewhere_are_told_the_costs_on_all_devices(done: Path, tmp_path: Path) -> None:
    run = {**SEVERAL, "latency": DEVICES | {"board-2": {"table": False}}}
    run |= {"search": {"strategy": "optuna", "evaluator": "table", "table": "known.jsonl", "max_evaluations": 3}}
    run_file = write_run(tmp_path, changed(run, "search.objectives", ["accuracy", "latency_ms.phone"]))
    shutil.copy(done / "phone.json", tmp_path)
    picks = read_json(done / "out/architecture.json")["picks"]
    (tmp_path / "known.jsonl").write_text(f'{{"picks": {json.dumps(picks)}, "accuracy": 0.5}}\n')
    search(run_file, tmp_path / "out")
    _, costs, excess = evaluate_one(tmp_path / "out", picks, lambda epoch, value: None)
    assert {"latency_ms.server", "latency_ms.phone"} < costs.keys()
    assert excess.keys() == LIMITS.keys()
    assert "Latency on phone (ms)" in (tmp_path / "out/report.html").read_text()


def test_runs_are_compared_by_each_device_where_they_were_timed_alike(done: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(done / "out", other)
    certificate = read_json(other / "certificate.json")
    certificate["latency_conditions"]["latency_ms.server"]["threads"] = 8
    (other / "certificate.json").write_text(json.dumps(certificate))
    page = write_comparison(tmp_path / "compared.html", read_runs([done / "out", other])).read_text()
    assert "Latency on server (ms)" in page
    assert "Other latency conditions" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latency": {"phone": {"runtme": "eager"}}}, r"latency\.phone\.runtme: unknown key; did you mean runtime\?"),
        (
            {"latency": {"phone": {"runtime": "egaer"}}},
            r"latency\.phone\.runtime: must be one of .* did you mean eager",
        ),
        (
            {"latency": {"phone": {}, "runtime": "eager"}},
            r"latency: must be the conditions of one device, or a mapping",
        ),
        ({"latency": {"ph one": {}}}, r"latency\.ph one.*must be at most 60 letters, digits, - and _"),
        ({"latency": {"runtime": {"phone": "eager"}}}, r"latency\.runtime: must be text"),
        ({"latency": []}, r"latency: must be a mapping"),
        ({"latency": {"phone": {"runtime": "command"}}}, r"latency\.phone: run: must be a command line"),
        (
            {"budgets": {"latency_ms.tablet": 3}},
            r"budgets\.latency_ms\.tablet: must be latency_ms\.server or latency_ms\.phone, the latency of a device",
        ),
        (
            {"budgets": {"latency_ms": 3}},
            r"budgets\.latency_ms: must be latency_ms\.server or latency_ms\.phone, .*got",
        ),
        (
            {"latency": {}, "budgets": {"latency_ms.phone": 3}},
            r"budgets\.latency_ms\.phone: must be latency_ms, the latency of the one device",
        ),
        (
            {"search": {"strategy": "optuna", "objectives": ["accuracy", "latency_ms.tablet"]}},
            r"search\.objectives: must be latency_ms\.server or latency_ms\.phone",
        ),
        (
            {"latency": {"phone": {"table": False}}, "budgets": {"latency_ms.phone": 3}},
            r"budgets\.latency_ms\.phone: latency_ms\.phone needs latency\.phone\.table, but it is off",
        ),
    ],
)
def test_what_a_run_file_says_of_devices_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    run = {**RUN, "latency": {"server": {}, "phone": {"runtime": "eager"}}, **change}
    with pytest.raises(ConfigError, match=message) as error:
        parse_run(run, "run.yaml")
    assert len(error.value.problems) == 1


def test_a_budget_on_the_command_line_may_be_of_a_device() -> None:
    changes = {"budgets.latency_ms.phone": 8.0, "latency.phone.threads": 2}
    run = parse_run(changed(RUN, "latency", {"phone": {}}), "run.yaml", changes)
    assert run.budgets["latency_ms.phone"] == 8.0
    assert run.latency_key("latency_ms.phone").threads == 2


def test_the_latency_of_every_device_is_a_metric_and_nothing_else_of_that_form_is_one() -> None:
    assert METRICS["latency_ms.phone"].title == "Latency on phone"
    assert str(*parse_budgets({"latency_ms.phone": 8}, "")) == "latency_ms.phone <= 8 ms"
    assert "latency_ms.phone" not in list(METRICS)
    for name in ("latency_ms.", "latency_ms.a.b", "macs.phone", "latency_ms.a b"):
        assert name not in METRICS
        with pytest.raises(ConfigError, match="a budget must be on one of macs, params"):
            parse_budgets({name: 1}, "")


def test_the_names_of_devices_are_shown_and_what_is_no_device_is_not() -> None:
    value = {"latency": {"phone": {"runtime": "eager", "pin": 1}}, "budgets": {"latency_ms.phone": 3, "token": "x"}}
    assert shown(value) == {
        "latency": {"phone": {"runtime": "eager", "pin": HIDDEN}},
        "budgets": {"latency_ms.phone": 3, "token": HIDDEN},
    }
