"""Retraining on images in memory from the command line: by recipes of timm's parts, on several ranks."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from se_nas.records.checkpoint import load_checkpoint
from tests.helpers.cifar_layout import write_cifar
from tests.helpers.command_lines import Run, assert_refused
from tests.helpers.rank_processes import run_cli, start_ranks
from tests.helpers.tiny_imagenet import EVERYTHING, NETWORK
from tests.helpers.tiny_runs import read_json, write_yaml

GATHERED: dict[str, Any] = {
    **EVERYTHING,
    "crop": "padded",
    "auto_augment": None,
    "flip": None,
    "cutout": 4,
    "optimizer": "lamb",
    "momentum": None,
    "eps": None,
    "test_crop": None,
}


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 training and 12 test images in the official layout."""
    return write_cifar(tmp_path_factory.mktemp("cifar"), "cifar10", per_file=12)


def words_of(folder: Path, cifar: Path, recipe: dict[str, Any]) -> list[str]:
    """A retraining on CIFAR-10, without --out."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in recipe.items()}
    files = write_yaml(folder / "one.yaml", NETWORK), write_yaml(folder / "recipe.yaml", values)
    words = ["retrain", files[0], "--data", "cifar10", "--data-dir", cifar, "--recipe", files[1]]
    return [str(word) for word in [*words, "--workers", 0, "--device", "cpu", "--quiet"]]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(EVERYTHING, id="each image transformed", marks=pytest.mark.slow),
        pytest.param(GATHERED, id="gathered on the device"),
    ],
)
def test_two_ranks_train_on_cifar_as_one_with_two_parts(tmp_path: Path, cifar: Path, values: dict[str, Any]) -> None:
    """By a recipe of timm's parts, with all that is random and every kind of state."""
    words = words_of(tmp_path, cifar, {**values, "batch_size": 12, "reference_batch_size": 12})
    alone, two = tmp_path / "alone", tmp_path / "two"
    ended = start_ranks(1, tmp_path / "job1", run_cli, [*words, "--set", "accumulate=2", "--out", str(alone)]).join()
    ended += start_ranks(2, tmp_path / "job2", run_cli, [*words, "--out", str(two)]).join()
    assert [rank.code for rank in ended] == [0, 0, 0], ended
    assert "test accuracy: " in ended[1].out
    assert ended[2].out == ""  # the first speaks for all
    first, second = (load_checkpoint(folder / "network.pt") for folder in (alone, two))
    for part in ("network", "average"):
        names = [name for name, value in first[part].items() if value.is_floating_point() and "running" not in name]
        assert max(float((first[part][name] - second[part][name]).abs().max()) for name in names) < 1e-5
    histories = [read_json(folder / "history.json") for folder in (alone, two)]
    losses = [[entry["loss"] for entry in history] for history in histories]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert len(set(losses[0])) == 2
    assert all(map(math.isfinite, losses[0]))
    results = [read_json(folder / "result.json")["retrain"] for folder in (alone, two)]
    assert results[0]["images"] == results[1]["images"] == 2 * 60
    assert [result["test_images"] for result in results] == [12, 12]


def test_lacking_test_images_are_told_before_the_folder_is_marked_and_a_report_says_what_it_is_of(
    tmp_path: Path, cifar: Path, se_nas: Run
) -> None:
    images = Path(shutil.copytree(cifar, tmp_path / "images"))
    (test,) = images.rglob("test_batch")
    aside = test.rename(tmp_path / "test_batch")
    words = [*words_of(tmp_path, images, {"epochs": 1, "batch_size": 12}), "--out", tmp_path / "out"]
    folder = test.parent
    assert_refused(se_nas(*words), f"{folder}: the cifar10 test images must be here, but test_batch is not")
    aside.rename(test)
    code, errors, _ = se_nas(*words)
    assert code == 0, errors
    must = "must be the folder of a run, or of a retraining on images that stay on disk"
    assert_refused(se_nas("report", tmp_path / "out"), f"{tmp_path / 'out'}: {must}, but is of a retraining on")


def test_a_teacher_and_kept_weights_are_for_images_in_memory_too(tmp_path: Path, cifar: Path) -> None:
    plain = {"epochs": 1, "batch_size": 12}
    words = words_of(tmp_path, cifar, plain)
    ended = start_ranks(1, tmp_path / "job1", run_cli, [*words, "--out", str(tmp_path / "teacher")]).join()
    words = words_of(tmp_path, cifar, {**plain, "distillation": {"alpha": 1.0, "temperature": 2.0}})
    more = ["--teacher", str(tmp_path / "teacher"), "--keep-every", "1", "--out", str(tmp_path / "student")]
    ended += start_ranks(1, tmp_path / "job2", run_cli, [*words, *more]).join()
    assert [rank.code for rank in ended] == [0, 0], ended
    losses = [read_json(tmp_path / name / "history.json")[0]["loss"] for name in ("teacher", "student")]
    assert losses[0] != losses[1]
    kept = load_checkpoint(tmp_path / "student/epochs/0001.pt")["network"]
    last = load_checkpoint(tmp_path / "student/network.pt")["network"]
    assert all(torch.equal(value, last[name]) for name, value in kept.items())
