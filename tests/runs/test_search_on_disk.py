"""Searches whose images stay on disk, as their user meets them: whole runs, kills, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from se_nas.errors import TrainingInterrupted
from se_nas.runs.run_file import load_run
from se_nas.runs.search import run_search
from se_nas.search.differentiable import search as differentiable
from tests.helpers.command_lines import Run, assert_refused, call
from tests.helpers.tiny_imagenet import write_images
from tests.helpers.tiny_runs import SPACE, changed, read_json, write_run

RUN: dict[str, Any] = {
    "name": "own",
    "seed": 1,
    "space": "space.yaml",
    "device": "cpu",
    "data": {"name": "imagenet", "dir": "images", "workers": 0},
    "parts": {"weights": 0.5, "choices": 0.25, "validation": 0.25},
    "budgets": {"macs": "90k"},
    "latency": {"table": False},
    "search": {"pretrain_epochs": 1, "epochs": 1, "batch_size": 8, "calibration_images": 16},
    "retrain": {"epochs": 1, "batch_size": 8, "crop": "random_size"},
}
SEARCH_ALONE = {**RUN, "retrain": None}
#: Two resolutions, of which each step takes one.
SIDES = {**SPACE, "resolution": [8, 12]}


def searched(folder: Path, run: dict[str, Any] = SEARCH_ALONE, *, resume: bool = False) -> list[str]:
    """What is said of a run in `folder`, whose images lie there; it is left in `out`."""
    run_file = write_run(folder, run, SIDES)
    said: list[str] = []
    run_search(run_file, load_run(run_file), folder / "out", resume=resume, progress=False, say=said.append)
    return said


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without their pages, which take longer than they."""
    monkeypatch.setattr("se_nas.runs.search.write_report", lambda *_: None)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", train=8)
    return tmp_path


def test_a_run_searches_retrains_and_is_evaluated_on_imagenets_layout(
    home: Path, se_nas: Run, unreported: None
) -> None:
    (home / "images/train/class01/2.jpg").write_bytes(b"broken")
    said = searched(home, RUN)
    assert sum("train/class01/2.jpg: the image is damaged and left out" in line for line in said) == 1
    out = home / "out"
    parts = read_json(out / "parts.json")["parts"]
    assert {name: len(part) for name, part in parts.items()} == {"weights": 16, "choices": 8, "validation": 8}
    assert sorted(index for part in parts.values() for index in part) == list(range(32))
    assert all(sum(index // 8 == label for index in parts["weights"]) == 4 for label in range(4))  # stratified
    result, own = read_json(out / "result.json"), read_json(out / "retrain/result.json")
    assert result["retrain"]["test_accuracy"] == own["retrain"]["top1"]
    assert result["cost_ledger"][-1]["part"] == "retraining"
    certificate = read_json(out / "retrain/certificate.json")
    assert certificate["budgets"] == read_json(out / "certificate.json")["budgets"]
    network = read_json(out / "architecture.json")["network"]
    assert certificate["retrained"]["resolution"] == network["resolution"]  # as it was searched, not as scaled
    code, _, text = se_nas("evaluate", out, "--workers", 0, "--device", "cpu")
    assert code == 0
    assert f"top-1 {result['retrain']['test_accuracy']:.2%}" in text
    assert_refused(se_nas("evidence", out), f"{out}/config.yaml: data.name: must be of images in memory for evidence")


@pytest.mark.parametrize("evaluator", ["supernet", pytest.param("stand_alone", marks=pytest.mark.slow)])
def test_a_black_box_search_judges_by_images_on_disk(home: Path, unreported: None, evaluator: str) -> None:
    short = {"epochs": 1, "batch_size": 8, "crop": "random_size"}
    weights = {"epochs": 1, "batch_size": 8, "calibration_images": 16}
    settings = {"supernet": weights} if evaluator == "supernet" else {"stand_alone": short}
    search = {"strategy": "optuna", "evaluator": evaluator, "max_evaluations": 3, **settings}
    said = searched(home, {**SEARCH_ALONE, "search": search})
    assert any("on 8 validation images" in line for line in said)


@pytest.mark.parametrize("name", [pytest.param("shards", marks=pytest.mark.slow), "folder_on_disk"])
def test_tar_files_and_a_folder_without_halves_are_searched_on_too(home: Path, unreported: None, name: str) -> None:
    if name == "shards":
        assert call("data", "shard", home / "images", home / "packed") == 0
    else:
        shutil.move(home / "images/train", home / "packed")
    said = searched(home, {**SEARCH_ALONE, "data": {**RUN["data"], "name": name, "dir": "packed"}})
    # of each class's eight images two are the test's, where nothing else says which are
    sizes = "16 for weights" if name == "shards" else "12 for weights"
    assert any(f"{name} ({sizes}, " in line for line in said)


def test_a_killed_search_goes_on_at_its_very_step(
    home: Path, unreported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched(home)
    whole = home / "whole"
    (home / "out").rename(whole)
    steps = 0
    step = differentiable._Search.step

    def killed(self: Any, context: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 4:  # in mid-epoch, after a step on the choices
            raise TrainingInterrupted("search", 15, home / "out/search/checkpoint.pt")
        return step(self, context)

    with monkeypatch.context() as patch:
        patch.setattr(differentiable._Search, "step", killed)
        with pytest.raises(TrainingInterrupted):
            searched(home)
    searched(home, resume=True)
    assert read_json(home / "out/search/scores.json") == read_json(whole / "search/scores.json")
    assert read_json(home / "out/architecture.json") == read_json(whole / "architecture.json")


def test_images_of_another_set_are_refused_on_resume(
    home: Path, se_nas: Run, unreported: None, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(home)
    capsys.readouterr()
    words = ("search", home / "run.yaml", "--out", home / "out", "--resume")
    where = f"{home}/out/parts.json: the parts must be of this data set, but they are of"
    image = home / "images/train/class02/0.jpg"
    image = image.rename(image.with_name("another.jpg"))
    assert_refused(se_nas(*words), f"{where} as many images with other names or classes")
    image.unlink()
    assert_refused(se_nas(*words), f"{where} other labels (32 images where there are 31)")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("retrain.crop", "padded", "{run}: retrain.crop: must be random_size for images on disk"),
        ("retrain.batch_size", 64, "{run}: retrain.batch_size: must be at most the number of training images, 32"),
        ("evidence", {}, "{run}: evidence: must be null for images that stay on disk, as those of imagenet do"),
        ("data.dir", None, "the data set imagenet needs the folder of its images"),
        ("data.name", "shards", "{home}/images: beside the other tar files there must be train-*.tar"),
        ("data.workers", -1, "{run}: data.workers: must be"),
        (
            "search",
            {"strategy": "optuna", "evaluator": "stand_alone", "max_evaluations": 2},
            "search.stand_alone: crop: must be random_size for images on disk",
        ),
    ],
)
def test_what_cannot_be_had_on_disk_is_one_line(home: Path, se_nas: Run, path: str, value: Any, words: str) -> None:
    run_file = write_run(home, changed(RUN, path, value), SIDES)
    assert_refused(se_nas("search", run_file, "--out", home / "out"), words.format(run=run_file, home=home))


def test_an_empty_class_is_one_line(home: Path, se_nas: Run) -> None:
    for image in (home / "images/train/class03").iterdir():
        image.unlink()
    run_file = write_run(home, RUN, SIDES)
    where = f"{home}/images/train: every class must have an image, but class03"
    assert_refused(se_nas("search", run_file, "--out", home / "new"), where)
