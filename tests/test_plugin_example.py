"""examples/plugin.py adds one of everything, and a run that uses it all goes from its search to its export."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from se_nas.cli import main as cli
from se_nas.runs.run_folder import RunFolder
from tests.helpers.plugins import no_plugins
from tests.helpers.tiny_runs import read_json

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
Run = Callable[..., str]


def command(*words: object) -> None:
    """As a process of its own: nothing of a plugin is there before it."""
    with no_plugins(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["se-nas", *map(str, words)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        assert not exit.value.code, words


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the example, whose own files are gone since."""
    home = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLES, home / "examples")
    command("search", home / "examples" / "plugin_run.yaml", "--out", home / "run", "--quiet")
    shutil.rmtree(home / "examples")
    return home / "run"


def numbers(run: Path) -> dict[str, Any]:
    result = read_json(run / "result.json")
    kept = ("evaluations", "front", "validation_accuracy", "sampler", "objectives")
    return {"test": result["retrain"]["test_accuracy"], **{name: result["search"][name] for name in kept}}


def test_the_plugin_has_at_most_sixty_lines() -> None:
    assert len((EXAMPLES / "plugin.py").read_text().splitlines()) <= 60


def test_a_search_uses_all_that_the_plugin_adds(run: Path) -> None:
    found = numbers(run)
    assert (found["sampler"], found["objectives"]) == ("chance", ["miss", "wide"])
    params = next(c["value"] for c in read_json(run / "certificate.json")["costs"] if c["metric"] == "params")
    assert found["validation_accuracy"] == abs(params - 2000)  # its own evaluator, in its own unit
    evaluations = read_json(run / "search" / "evaluations.json")
    assert all(row["accuracy"] == abs(row["costs"]["params"] - 2000) for row in evaluations["evaluations"])
    kept = [row["accuracy"] for row in evaluations["evaluations"] if row["feasible"]]
    assert found["validation_accuracy"] == min(kept)  # less is better
    assert read_json(run / "result.json")["data"]["name"] == "negative"
    assert (run / "retrain" / "retrain.csv").read_text().count("\n") == 2
    (budget,) = [b for b in read_json(run / "certificate.json")["budgets"] if b["metric"] == "wide"]
    assert (budget["unit"], budget["how"], budget["holds"]) == ("channels", "counted", True)
    page = (run / "report.html").read_text()
    assert "Width (channels)" in page
    assert "24 channels" in page
    choices = read_json(run / "choices.json")
    assert {option for options in choices.values() for option in options} >= {"dot k3", "scaling"}


def test_the_folder_alone_is_resumed_with_the_same_numbers(run: Path) -> None:
    before = numbers(run)
    (run / "result.json").unlink()
    command("search", run / "config.yaml", "--out", run, "--resume", "--quiet")
    assert numbers(run) == before


def test_other_budgets_are_answered_in_the_metric_of_the_plugin(run: Path) -> None:
    command("decode", run, "--budget", "wide=24", "--out", run / "decoded")
    (budget,) = read_json(run / "decoded" / "certificate.json")["budgets"]
    assert budget["metric"] == "wide"
    assert budget["value"] <= 24


def test_its_answer_is_trained_on_the_data_of_the_plugin_and_exported(run: Path, tmp_path: Path) -> None:
    architecture = shutil.copytree(run, tmp_path / "run") / "architecture.json"
    short = ("--set", "epochs=1", "--set", "batch_size=20", "--quiet")
    command("retrain", architecture, "--data", "negative", *short, "--out", tmp_path / "trained")
    assert read_json(tmp_path / "trained" / "result.json")["data"] == "negative"
    command("export", tmp_path / "trained", "--to", "torch_export", "--out", tmp_path / "exported")
    assert (tmp_path / "exported" / "export.json").exists()


def test_the_page_has_the_objective_by_its_own_name_and_the_metric_by_its_title(run: Path) -> None:
    command("report", run)
    page = html.unescape((run / "report.html").read_text())
    front = page[page.index("The Pareto front") :]
    assert '<th class="n">miss</th><th class="n">Width (channels)</th>' in front
    assert "proposed by a plugin's chance" in front
    value = numbers(run)["validation_accuracy"]
    assert f"<dt>miss, as the search judges it</dt><dd>{value:g}</dd>" in page


def test_the_strategy_of_the_plugin_searches_and_its_scores_are_decoded_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--set", "search={strategy: last}", "--set", "retrain=null", "--out", run, "--quiet")
    command("search", EXAMPLES / "plugin_run.yaml", *words)
    assert read_json(run / "result.json")["search"]["strategy"] == "last"
    command("decode", run, "--budget", "wide=24", "--out", tmp_path / "decoded")
    assert json.loads((tmp_path / "decoded" / "decodes.json").read_text())[-1]["costs"]["wide"] <= 24
    with no_plugins():
        assert RunFolder(run).space.name == "plugin"
