"""A run whose search a rule ended: certified, retrained and reported like any other, and resumed with more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from se_nas.errors import ConfigError
from se_nas.runs.run_file import load_run
from se_nas.runs.search import run_search
from tests.helpers.tiny_runs import RUN, changed, read_json, write_run

NO_TABLE = changed(changed(RUN, "latency", {"device": "cpu", "table": False}), "retrain.epochs", 1)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    write_run(tmp_path, changed(NO_TABLE, "search.max_seconds", 1e-9))
    return tmp_path


def go(folder: Path, said: list[str], **changes: Any) -> Path:
    run_file = folder / "run.yaml"
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    resume = (folder / "out").exists()
    run_search(run_file, load_run(run_file, dotted), folder / "out", resume=resume, progress=False, say=said.append)
    return folder / "out"


def test_a_stopped_run_is_whole_and_goes_on_with_more_time(home: Path) -> None:
    said: list[str] = []
    out = go(home, said)
    words = "max_seconds = 1e-09 after 1 of 3 epochs"
    assert f"the search was ended by search.{words}; --resume with another limit goes on with it" in said
    first = read_json(out / "result.json")
    assert [part["done"] for part in first["search"]["stopped"]] == [1]
    assert first["retrain"]["test_accuracy"] >= 0
    assert all(entry["holds"] for entry in read_json(out / "certificate.json")["budgets"])
    assert words in (out / "report.html").read_text()

    go(home, said)  # the same again: the answer stands
    assert not (out / "stopped_after_1_epochs").exists()
    assert read_json(out / "result.json")["search"]["stopped"] == first["search"]["stopped"]

    said.clear()
    go(home, said, search__max_seconds=3600)
    assert "search.max_seconds: 3600.0 instead of 1e-09" in said
    assert any(line.startswith(f"the search has gone on since {words}; its answer of then is in") for line in said)
    last = read_json(out / "result.json")
    assert "stopped" not in last["search"]
    assert len(read_json(out / "search" / "history.json")) == 3
    assert read_json(out / "stopped_after_1_epochs" / "result.json") == first
    assert (out / "stopped_after_1_epochs" / "retrain" / "network.pt").exists()
    assert words not in (out / "report.html").read_text()


def test_of_a_stopped_run_nothing_but_the_rules_may_change(home: Path) -> None:
    go(home, [], retrain=None)
    with pytest.raises(ConfigError, match=r"search\.epochs: must be as in the run that --resume continues, 2"):
        go(home, [], retrain=None, search__epochs=9, search__max_seconds=9)


SUPERNET = {
    "strategy": "optuna",
    "sampler": "random",
    "max_evaluations": 4,
    "supernet": {"epochs": 3, "batch_size": 20, "calibration_images": 48},
    "max_seconds": 1e-9,
}


def test_a_supernet_that_time_ended_stays_as_its_evaluations_knew_it(tmp_path: Path) -> None:
    write_run(tmp_path, changed(changed(NO_TABLE, "search", SUPERNET), "retrain", None))
    said: list[str] = []
    out = go(tmp_path, said)
    cut = "the search was ended by search.max_seconds = 1e-09 after 1 of"
    assert f"{cut} 3 epochs of the supernet; its weights stay as they are" in said
    assert f"{cut} 4 evaluations; --resume with another limit goes on with it" in said
    stopped = read_json(out / "result.json")["search"]["stopped"]
    assert [(part["done"], part["planned"], part["unit"]) for part in stopped] == [
        (1, 3, "epochs of the supernet"),
        (1, 4, "evaluations"),
    ]
    weights = (out / "search" / "supernet.pt").read_bytes()
    go(tmp_path, [], search__max_seconds=3600)
    result = read_json(out / "result.json")
    assert [part["unit"] for part in result["search"]["stopped"]] == ["epochs of the supernet"]
    assert result["search"]["evaluations"] == 4
    assert (out / "search" / "supernet.pt").read_bytes() == weights
    assert len(read_json(out / "search" / "history.json")) == 1


@pytest.mark.parametrize(("rule", "value"), [("max_seconds", 0.0), ("patience", 0), ("max_seconds", float("inf"))])
def test_a_rule_that_no_search_can_keep_is_refused(tmp_path: Path, rule: str, value: float) -> None:
    run_file = write_run(tmp_path, changed(NO_TABLE, f"search.{rule}", value))
    with pytest.raises(ConfigError, match=rf"search\.{rule}: "):
        load_run(run_file)
