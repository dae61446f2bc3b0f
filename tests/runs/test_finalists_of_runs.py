"""A run whose answer is chosen among finalists, by its command, its page and its restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from se_nas.errors import TrainingError
from se_nas.search.black_box.evaluation import OnEpoch
from se_nas.search.black_box.evaluators.stand_alone import StandAloneEvaluator
from se_nas.space.architecture import Architecture
from tests.helpers.command_lines import Run
from tests.helpers.tiny_runs import RUN, cache_latency, changed, read_json, write_run

FINALISTS = {**changed(RUN, "search.epochs", 1), "finalists": {"count": 4, "epochs": [1, 2]}}


@pytest.fixture
def run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_run(tmp_path, FINALISTS)
    cache_latency(tmp_path / "cache", tmp_path)
    monkeypatch.setenv("SE_NAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "run.yaml"


@pytest.fixture
def first_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate, calls = StandAloneEvaluator.evaluate, []

    def diverging(self: StandAloneEvaluator, architecture: Architecture, on_epoch: OnEpoch) -> float:
        calls.append(architecture)
        if len(calls) == 1:
            raise TrainingError("evaluation: the loss must stay finite")
        return evaluate(self, architecture, on_epoch)

    monkeypatch.setattr(StandAloneEvaluator, "evaluate", diverging)


def test_a_run_answers_with_the_best_finalist_counts_its_time_and_shows_them(
    run_file: Path, se_nas: Run, first_diverges: None
) -> None:
    restarted = ("--set", "search.restarts=2")
    code, _, said = se_nas("search", run_file, "--out", "out", *restarted)
    assert code == 0
    file = read_json(Path("out/finalists/finalists.json"))
    best, *others = file["finalists"]
    assert [len(one["accuracies"]) for one in file["finalists"]] == [2, 2, 1, 0]
    assert best["accuracies"][1] >= others[0]["accuracies"][1]
    assert read_json(Path("out/architecture.json"))["picks"] == best["picks"]
    result = read_json(Path("out/result.json"))
    spent = {entry["part"]: entry["seconds"] for entry in result["cost_ledger"]}
    assert spent["finalists"] == pytest.approx(sum(one["seconds"] for one in file["finalists"]))
    assert result["search"]["seconds"] == pytest.approx(spent["search"] + spent["search 2"] + spent["finalists"])
    assert f"finalists: the best of 4 has {best['accuracies'][1]:.2%} on the validation images" in said
    assert "finalists: one is out: evaluation: the loss must stay finite" in said
    page = Path("out/report.html").read_text()
    assert "The finalists" in page
    assert "2 for 2 epochs" in page
    assert "1 could not be trained to the end, and is out." in page
    assert ">failed</td>" in page
    code, errors, _ = se_nas("search", run_file, "--out", "out", *restarted, "--resume", "--set", "finalists.count=5")
    assert (code, ["finalists.count: must be as in the run" in line for line in errors]) == (2, [True])


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (("retrain=null",), "finalists.recipe: must be given where `retrain` is null"),
        (("finalists.count=1",), "finalists.count: "),
        (
            ("finalists.epochs=[3, 2]",),
            "finalists.epochs: must be one number or more, each greater than the one before",
        ),
        (("finalists.recipe={epochs: 0}",), "finalists.recipe"),
        (("retrain.cuda_graphs=true",), "retrain: cuda_graphs: must be auto or false on cpu"),
        (("finalists.recipe={cuda_graphs: true}",), "finalists.recipe: cuda_graphs: must be auto or false on cpu"),
    ],
)
def test_finalists_that_cannot_be_are_refused_before_anything(
    run_file: Path, se_nas: Run, wrong: tuple[str, ...], fault: str
) -> None:
    settings: list[Any] = [word for setting in wrong for word in ("--set", setting)]
    code, errors, _ = se_nas("search", run_file, "--out", "out", *settings)
    assert code == 2
    assert any(fault in line for line in errors)
    assert not Path("out").exists()
