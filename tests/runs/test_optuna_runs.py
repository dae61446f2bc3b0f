"""Whole Optuna-driven runs with every evaluator: their files and answers, and the same again from their own folder."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from se_nas.cost.budget import Budget
from se_nas.cost.counts import network_counts
from se_nas.cost.latency.table import LatencyTable
from se_nas.cost.metrics import LATENCY
from se_nas.cost.table import count_tables
from se_nas.errors import ConfigError, InfeasibleBudgetError
from se_nas.report.pages.run_reading import read_run
from se_nas.runs import search as whole
from se_nas.runs.prepare import open_setting
from se_nas.runs.run_file import load_run
from se_nas.runs.run_folder import RunFolder
from se_nas.runs.search import decode_again, pick_from_front, run_search
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.budgets.baselines import baseline
from se_nas.search.result import EVALUATIONS
from se_nas.space.architecture_file import load_architecture
from se_nas.space.yaml.file import load_space
from tests.helpers.command_lines import call
from tests.helpers.tiny_runs import RUN, SEARCHED, cache_latency, changed, contents, read_json, write_run
from tests.search.known_worth import worth, write_table

SUPERNET = {"epochs": 2, "batch_size": 20, "calibration_images": 48}
STAND_ALONE = {"epochs": 5, "batch_size": 40, "learning_rate": 0.05}
SEARCHES: dict[str, dict[str, Any]] = {
    "supernet": {
        "strategy": "optuna",
        "objectives": ["accuracy", "macs"],
        "max_evaluations": 8,
        "population": 4,
        "enqueue": ["no_se", "se_r2"],
        "supernet": SUPERNET,
    },
    "stand_alone": {
        "strategy": "optuna",
        "max_evaluations": 7,
        "population": 4,
        "evaluator": "stand_alone",
        "pruner": "successive_halving",
        "stand_alone": STAND_ALONE,
    },
    "table": {
        "strategy": "optuna",
        "sampler": "tpe",
        "max_evaluations": 12,
        "evaluator": "table",
        "table": "known.jsonl",
        "enqueue": ["no_se"],
    },
}
PROMISED = SEARCHED | {
    "search/evaluations.json",
    "search/importance.json",
    "search/study.journal",
    "search/study.json",
}


def as_run(search: Any, **values: Any) -> dict[str, Any]:
    """The tiny run with another search and without retraining."""
    return {**RUN, "search": search, "retrain": None, **values}


def do_run(folder: Path, run: dict[str, Any], out: str = "out", **more: Any) -> list[str]:
    """A whole run of `folder`/run.yaml; returns what it said."""
    said: list[str] = []
    run_file = write_run(folder, run)
    write_table(folder / "known.jsonl", load_space(folder / "space.yaml"))
    run_search(run_file, load_run(run_file), folder / out, resume=False, progress=False, say=said.append, **more)
    return said


@dataclass(frozen=True)
class Done:
    """A finished run and what it said."""

    folder: Path
    said: list[str]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return evaluations(self.folder)


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """All that the run found, but for what a clock measured."""
    rows = read_json(folder / "search" / EVALUATIONS)["evaluations"]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for runs, with a latency cache that already holds the tiny space."""
    home = tmp_path_factory.mktemp("optuna_runs")
    write_run(home / "files")
    cache_latency(home / "cache", home / "files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_NAS_CACHE", str(home / "cache"))
        yield home


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than these searches."""
    monkeypatch.setattr(whole, "write_report", lambda *_: None)


@pytest.fixture(scope="module")
def runs(home: Path) -> dict[str, Done]:
    """A finished run of each evaluator."""
    return {name: Done(home / name / "out", do_run(home / name, as_run(search))) for name, search in SEARCHES.items()}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_run_leaves_every_promised_file(runs: dict[str, Done], name: str) -> None:
    there = set(contents(runs[name].folder))
    assert there >= PROMISED
    assert ("search/supernet.pt" in there) == ("search/history.json" in there) == (name == "supernet")
    assert ("search/table.jsonl" in there) == (name == "table")
    assert not [file for file in there if file.endswith((".tmp", ".fresh", ".lock"))]
    assert not [file for file in there if file.startswith("search/stand_alone/")]


@pytest.mark.parametrize("name", SEARCHES)
def test_the_answer_is_the_best_of_the_evaluations_within_the_budgets(runs: dict[str, Done], name: str) -> None:
    run = RunFolder(runs[name].folder)
    file, result = load_architecture(run / "architecture.json"), read_json(run / "result.json")
    counts = network_counts(file.network)
    assert {b["metric"]: b["value"] for b in read_json(run / "certificate.json")["budgets"]} == {
        "macs": counts.macs,
        "params": counts.params,
    }
    assert all(b["holds"] and b["value"] <= b["limit"] for b in read_json(run / "certificate.json")["budgets"])
    allowed = [row for row in runs[name].rows if row["feasible"] and row["state"] == "complete"]
    best = max(row["accuracy"] for row in allowed)
    equals = [row for row in allowed if row["accuracy"] == best]
    cheapest = min(equals, key=lambda row: (*row["costs"].values(), row["number"]))
    assert cheapest["picks"] == file.architecture.as_dict()
    assert result["search"]["validation_accuracy"] == best
    search = result["search"]
    assert (search["strategy"], search["evaluator"]) == ("optuna", name)
    assert search["evaluations"] == search["distinct"] == SEARCHES[name]["max_evaluations"] == len(runs[name].rows)
    assert search["pruned"] == sum(row["state"] == "pruned" for row in runs[name].rows)
    assert (search["pruned"] > 0) == (name == "stand_alone")
    assert search["failed"] == search["infeasible"] == 0
    assert search["sampler"] == {"supernet": "nsga2", "stand_alone": "evolution", "table": "tpe"}[name]


def test_what_was_enqueued_was_evaluated_first(runs: dict[str, Done]) -> None:
    space = RunFolder(runs["supernet"].folder).space
    budgets = [Budget("macs", 90e3), Budget("params", 3e3)]
    for row, word in zip(runs["supernet"].rows, ("no_se", "se_r2"), strict=False):
        assert row["picks"] == baseline(word, space, count_tables(space), budgets).as_dict()


def test_accuracies_are_those_of_the_evaluator(runs: dict[str, Done]) -> None:
    space = RunFolder(runs["table"].folder).space
    for row in runs["table"].rows:
        assert row["accuracy"] == pytest.approx(worth(space.architecture(row["picks"])))
    for row in runs["stand_alone"].rows:
        assert row["accuracy"] == row["curve"][-1][1]
        assert [epoch for epoch, _ in row["curve"]] == list(range(len(row["curve"])))
        assert (len(row["curve"]) == STAND_ALONE["epochs"]) == (row["state"] == "complete")
    for name, words in (
        ("table", "in the table of known"),
        ("stand_alone", "after a short"),
        ("supernet", "with the super"),
    ):
        assert any(words in line for line in runs[name].said)


def test_the_report_has_the_sections_of_a_study(runs: dict[str, Done]) -> None:
    pages = {name: (done.folder / "report.html").read_text() for name, done in runs.items()}
    sections = {name: re.findall("<h2>(.*?)</h2>", page) for name, page in pages.items()}
    for name, titles in sections.items():
        assert {"Progress of the search", "The architecture"} <= set(titles)
        assert ("Which choices mattered" in titles) == bool(read_json(runs[name].folder / "search/importance.json"))
        assert ("Training each architecture" in titles) == (name == "stand_alone")
        assert "How each block chose its SE" not in titles
        assert pages[name].count("<svg") >= 3
        assert "NaN" not in pages[name]
    assert "Which choices mattered" in sections["table"]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_finished_run_resumed_changes_nothing(runs: dict[str, Done], name: str, tmp_path: Path) -> None:
    shutil.copytree(runs[name].folder.parent, tmp_path / "copy")
    folder, run_file = tmp_path / "copy/out", tmp_path / "copy/run.yaml"
    before = contents(folder)
    run_search(run_file, load_run(run_file), folder, resume=True, progress=False, say=lambda line: None)
    after = contents(folder)
    assert set(after) - set(before) <= {n for n in after if "tensorboard" in n}
    assert {n for n in before if before[n] != after.get(n)} <= {"report.html", "result.json"} | {
        n for n in before if "tensorboard" in n
    }
    assert read_json(folder / "result.json") == json.loads(before["result.json"])


@pytest.mark.usefixtures("without_report")
@pytest.mark.parametrize("name", SEARCHES)
def test_a_run_folder_is_complete_enough_to_repeat_the_search(
    runs: dict[str, Done], name: str, tmp_path: Path, home: Path
) -> None:
    shutil.copytree(runs[name].folder, tmp_path / "alone")  # nothing that the run file named is beside it
    run_file = tmp_path / "alone/config.yaml"
    run_search(run_file, load_run(run_file), tmp_path / "new", resume=False, progress=False, say=lambda line: None)
    assert evaluations(tmp_path / "new") == runs[name].rows
    assert contents(tmp_path / "new/search/enqueued") == contents(runs[name].folder / "search/enqueued")


def test_another_budget_is_answered_from_the_evaluations(runs: dict[str, Done], tmp_path: Path) -> None:
    before = contents(runs["table"].folder)
    rows = [row for row in runs["table"].rows if row["state"] == "complete"]
    limit = sorted(row["costs"]["macs"] for row in rows)[len(rows) // 2]
    found = decode_again(runs["table"].folder, [Budget("macs", limit)], tmp_path / "out")
    best = max((row for row in rows if row["costs"]["macs"] <= limit), key=lambda row: row["accuracy"])
    assert found.architecture.as_dict() == best["picks"]
    assert network_counts(found.network).macs <= limit
    with pytest.raises(InfeasibleBudgetError, match="an evaluated architecture must keep macs <= 10 MACs, but none"):
        decode_again(runs["table"].folder, [Budget("macs", 10.0)], tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert contents(runs["table"].folder) == before


def test_an_architecture_of_the_front_is_taken_by_its_number(runs: dict[str, Done], tmp_path: Path) -> None:
    folder = runs["table"].folder
    before = contents(folder)
    study = read_run(folder, "").study
    assert study is not None
    for entry in study.front[:2]:
        found = pick_from_front(folder, entry.number, tmp_path / f"{entry.number}")
        assert found.architecture == entry.architecture
        written = load_architecture(tmp_path / f"{entry.number}" / "architecture.json")
        assert written.architecture.as_dict() == runs["table"].rows[entry.number]["picks"]
        certificate = read_json(tmp_path / f"{entry.number}" / "certificate.json")
        assert [budget["metric"] for budget in certificate["budgets"]] == list(study.limits)
        assert all(budget["holds"] for budget in certificate["budgets"])
    beaten = next(row["number"] for row in runs["table"].rows if row["number"] not in [e.number for e in study.front])
    for number in (beaten, 10**6):
        with pytest.raises(ConfigError, match=rf"--pick: .* of the front \([\d, .]+; of 0 to \d+\), but got {number}"):
            pick_from_front(folder, number, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert contents(folder) == before


@pytest.mark.usefixtures("without_report")
def test_the_answers_of_other_searches_are_enqueued_by_file_and_by_folder(
    runs: dict[str, Done], home: Path, tmp_path: Path
) -> None:
    differentiable = changed(RUN, "retrain", None)
    do_run(tmp_path / "differentiable", changed(differentiable, "search.epochs", 1))
    answers = [tmp_path / "differentiable/out", runs["supernet"].folder]
    words = [str(answers[0] / "architecture.json"), str(answers[1]), "se_r4"]
    search = {**SEARCHES["table"], "enqueue": words, "max_evaluations": 5}
    do_run(tmp_path / "run", as_run(search))
    rows = evaluations(tmp_path / "run/out")
    wanted = [load_architecture(a / "architecture.json").architecture.as_dict() for a in answers]
    picks = [row["picks"] for row in rows]
    assert picks[: len(set(map(json.dumps, wanted)))] == list({json.dumps(w): w for w in wanted}.values())
    assert load_run(tmp_path / "run/out/config.yaml").search.enqueue == (  # type: ignore[union-attr]
        "search/enqueued/0.json",
        "search/enqueued/1.json",
        "se_r4",
    )
    shutil.rmtree(answers[0])
    run_file = tmp_path / "run/out/config.yaml"
    run_search(run_file, load_run(run_file), tmp_path / "new", resume=False, progress=False, say=lambda line: None)
    assert evaluations(tmp_path / "new") == rows

    # the run itself is resumed by its own run file, though what that names is gone
    (tmp_path / "run/known.jsonl").unlink()
    run_file, out = tmp_path / "run/run.yaml", tmp_path / "run/out"
    (out / "result.json").unlink()
    run_search(run_file, load_run(run_file), out, resume=True, progress=False, say=lambda line: None)
    assert evaluations(out) == rows
    assert (out / "result.json").exists()


@pytest.mark.usefixtures("without_report")
def test_a_file_enqueued_twice_counts_once_and_no_other_file_may_take_its_place(
    runs: dict[str, Done], tmp_path: Path
) -> None:
    files = {name: runs[name].folder / "architecture.json" for name in ("table", "supernet")}
    first, folder = tmp_path / "first.json", tmp_path / "folder"
    first.write_bytes(files["table"].read_bytes())
    folder.mkdir()
    (folder / "architecture.json").write_bytes(first.read_bytes())
    words = [str(first), str(first), str(folder)]
    do_run(tmp_path, as_run({**SEARCHES["table"], "enqueue": words, "max_evaluations": 3}))
    run_file, out = tmp_path / "run.yaml", tmp_path / "out"

    def resume(changes: dict[str, Any] | None = None) -> None:
        config = load_run(run_file, changes)
        run_search(run_file, config, out, resume=True, progress=False, say=lambda line: None)

    resume()
    assert open_setting(out).config.search.enqueue == (  # type: ignore[union-attr]
        "search/enqueued/0.json",
        "search/enqueued/1.json",
    )
    before = contents(out)
    first.write_bytes(files["supernet"].read_bytes())
    with pytest.raises(ConfigError, match=r"search.enqueue: .*first.json: must be the file of the run that --resume"):
        resume()
    first.unlink()
    resume()
    table = tmp_path / "known.jsonl"
    table.write_text(table.read_text() + "\n")
    with pytest.raises(ConfigError, match=r"search.table: .*known.jsonl: must be the file of the run that --resume"):
        resume()
    table.unlink()
    resume()
    assert {n for n, content in contents(out).items() if before.get(n) != content} <= {"report.html", "result.json"}


def test_a_process_may_join_a_run_on_another_device(runs: dict[str, Done], tmp_path: Path) -> None:
    shutil.copytree(runs["table"].folder, tmp_path / "run")
    file = tmp_path / "run/config.yaml"
    file.write_text(file.read_text().replace("device: cpu", "device: cuda"))  # the latency's too
    before = contents(tmp_path / "run")
    setting = open_setting(tmp_path / "run", device="cpu")
    assert (setting.device.type, setting.config.device, setting.config.latency.device) == ("cpu", "cuda", "cuda")
    latency = setting.latencies[LATENCY]
    assert isinstance(latency, LatencyTable)
    assert latency.record().plain() == read_json(tmp_path / "run/latency.json")
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql+psycopg9://me@host/x", "must be a URL such as postgresql+psycopg://user@host/name"),
        ("mysql+nothing_of_that_name://me@host/x", "must be a URL such as"),
        ("sqlite:////nowhere/at/all/study.db", "must be reachable, but got: unable to open database file"),
    ],
)
def test_a_storage_that_cannot_be_had_is_told_before_anything_is_timed_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, told: str
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("this must not be reached")

    monkeypatch.setattr("se_nas.runs.prepare.build_latency_table", refuse)
    monkeypatch.setenv("SE_NAS_STORAGE", url)
    run_file = write_run(tmp_path, changed(RUN, "search", {"strategy": "optuna", "max_evaluations": 3}))
    assert call("search", run_file, "--out", tmp_path / "out", "--quiet") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "out").exists()


def test_a_differentiable_search_takes_no_storage(tmp_path: Path) -> None:
    run_file = write_run(tmp_path)
    config = load_run(run_file)
    with pytest.raises(
        ConfigError,
        match=r"--storage \(or SE_NAS_STORAGE\): must be of a search that workers share, such as optuna, but",
    ):
        run_search(
            run_file, config, tmp_path / "out", resume=False, progress=False, say=print, storage="sqlite:///x.db"
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("without_report")
def test_a_run_without_a_latency_table_measures_the_answer_alone(home: Path, tmp_path: Path) -> None:
    said = do_run(tmp_path, as_run(SEARCHES["table"], latency={"device": "cpu", "table": False}))
    out = tmp_path / "out"
    assert not (out / "latency.json").exists()
    certificate = read_json(out / "certificate.json")
    assert [(c["metric"], c["how"]) for c in certificate["costs"]] == [
        ("macs", "counted"),
        ("params", "counted"),
        ("weight_bytes", "counted"),
        ("peak_activation_bytes", "counted"),
        ("latency_ms", "measured"),
    ]
    assert set(evaluations(out)[0]["costs"]) == {"macs", "params", "weight_bytes", "peak_activation_bytes"}
    assert [entry["part"] for entry in read_json(out / "result.json")["cost_ledger"]] == ["evaluations"]
    assert not [line for line in said if "latency table" in line]
    with pytest.raises(ConfigError, match="latency_ms: needs a cost table, but the run has only those of macs, params"):
        decode_again(out, [Budget("macs", 90e3), Budget("latency_ms", 1e3)], tmp_path / "decoded")
    assert not (tmp_path / "decoded").exists()
    decode_again(out, [Budget("macs", 80e3)], tmp_path / "decoded")
    (kept,) = read_json(tmp_path / "decoded/certificate.json")["budgets"]
    assert kept["value"] <= kept["limit"] == 80e3
    before = contents(out)
    again = load_run(tmp_path / "run.yaml")
    run_search(tmp_path / "run.yaml", again, out, resume=True, progress=False, say=lambda line: None)
    assert {name for name, content in contents(out).items() if before.get(name) != content} <= {
        "report.html",
        "result.json",
    }


def test_an_optuna_search_can_be_named_by_one_word(tmp_path: Path) -> None:
    run_file = write_run(tmp_path, {**RUN, "search": "optuna"})
    assert load_run(run_file).search == OptunaConfig()
    wanted = OptunaConfig(max_evaluations=3, supernet={"epochs": 2})  # type: ignore[arg-type]
    assert load_run(run_file, {"search.max_evaluations": 3, "search.supernet.epochs": 2}).search == wanted
    with pytest.raises(ConfigError, match=r"search.strategy: must be one of differentiable, optuna"):
        load_run(write_run(tmp_path, {**RUN, "search": "grid"}))
