"""The scripts in examples/, each run as it stands with short settings; plugin.py has tests of its own."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from se_nas.layers.torchvision_guard import import_timm
from se_nas.space.architecture_file import load_architecture
from se_nas.space.yaml.file import load_space
from se_nas.training.initial_weights import read_initial_weights
from tests.helpers.tiny_runs import SPACE, read_json, write_yaml

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def example(name: str) -> ModuleType:
    """A script as a module, whose `main` is what it does when it is run."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short_and_the_docs_name_it(script: Path) -> None:
    assert len(script.read_text().splitlines()) <= 60
    pages = [*(EXAMPLES.parent / "docs").rglob("*.md"), EXAMPLES.parent / "README.md"]
    assert any(f"examples/{script.name}" in page.read_text() for page in pages)


def test_there_are_seven() -> None:
    assert len(SCRIPTS) == 7


def test_a_first_search_answers_two_budgets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("first_search").main(str(tmp_path / "run"), pretrain_epochs=1, epochs=1, retrain_epochs=1)
    costs = [read_json(tmp_path / "run" / place / "certificate.json")["costs"] for place in (".", "tighter")]
    macs = [next(cost["value"] for cost in part if cost["metric"] == "macs") for part in costs]
    assert macs[0] <= 500e3
    assert macs[1] <= 300e3
    said = capsys.readouterr().out
    assert "accuracy on the test images: " in said
    assert f"  macs: {macs[1]:,.6g} (counted)\n" in said


def test_a_space_of_its_own_is_the_one_in_the_file_that_it_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example("own_space").main(str(tmp_path / "mine.yaml"))
    space = load_space(tmp_path / "mine.yaml")
    said = capsys.readouterr().out
    assert said.startswith(f"{space.size:,} networks\n")
    assert " blocks with SE\n" in said


def test_a_model_of_timm_is_searched_for_where_se_pays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_timm()  # even beside a torchvision that does not fit torch
    example("own_model").main(str(tmp_path), "resnet10t", {"name": "synthetic", "size": 96}, epochs=1)
    said = capsys.readouterr().out
    assert re.search(r"^resnet10t: [\d,]+ MACs, [\d,]+ parameters; [\d,]+ choices of its SE$", said, re.M)
    assert len(re.findall(r"^  block \d+: SE none -> (?:none|r4|r16)$", said, re.M)) == 4
    allowed = int(re.search(r"([\d,]+) parameters", said)[1].replace(",", ""))
    costs = read_json(tmp_path / "run/certificate.json")["costs"]
    assert next(cost["value"] for cost in costs if cost["metric"] == "params") <= allowed
    assert load_space(tmp_path / "my_model.yaml").name == "my_model"
    found = load_architecture(tmp_path / "run/architecture.json")
    assert read_initial_weights(tmp_path / "start.pt", found.network).tensors


def test_a_latency_budget_is_kept_by_the_prediction_and_the_network_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SE_NAS_CACHE", str(tmp_path))
    example("latency_budget").main(str(write_yaml(tmp_path / "space.yaml", SPACE)))
    said = capsys.readouterr().out  # a busy machine may miss the budget, which it says
    free, limit, predicted = (float(word) for word in re.findall(r"([\d.]+) ms(?: \(predicted\)|:)", said))
    assert predicted <= limit < free
    assert re.search(r"^macs: \d+ \(counted\)$", said, flags=re.MULTILINE)
    assert re.search(r"^latency_ms: [\d.]+ \(measured, 95 % interval ", said, flags=re.MULTILINE)


def test_images_of_its_own_are_classified_in_onnx_runtime_as_the_training_said(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    accuracy = example("own_images").main(str(tmp_path), images=24, epochs=1)
    assert accuracy == pytest.approx(read_json(tmp_path / "run/result.json")["retrain"]["test_accuracy"], abs=1 / 72)
