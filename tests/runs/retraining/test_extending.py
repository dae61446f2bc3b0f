"""Training a finished network on: from its weights, by its recipe, at a rate that is said; images in memory or not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from se_nas.records.checkpoint import load_checkpoint
from se_nas.runs.retraining.extending import RESTART, recipe_to_extend
from se_nas.training.schedule import learning_rates
from tests.helpers.command_lines import Run, assert_refused, call
from tests.helpers.tiny_imagenet import NETWORK, RECIPE, recipe_of, write_job
from tests.helpers.tiny_runs import read_json, write_yaml

AVERAGED = {**RECIPE, "average_decay": 0.5}


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished retraining on images that stay on disk, in `out`; to be copied, not changed."""
    home = tmp_path_factory.mktemp("on_disk")
    assert call(*write_job(home, AVERAGED), "--out", home / "out") == 0
    return home


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on images in memory."""
    home = tmp_path_factory.mktemp("in_memory")
    write_yaml(home / "network.yaml", {name: value for name, value in NETWORK.items() if name != "scaling"})
    values = {**AVERAGED, "batch_size": 100, "crop": "padded", "flip": None, "test_crop": None}
    write_yaml(home / "recipe.yaml", values)
    words = ["retrain", home / "network.yaml", "--data", "synthetic", "--recipe", home / "recipe.yaml", "--quiet"]
    assert call(*words, "--device", "cpu", "--out", home / "out") == 0
    return home


@pytest.fixture(params=["on_disk", "in_memory"])
def finished(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    home: Path = request.getfixturevalue(request.param)
    return Path(shutil.copytree(home / "out", tmp_path / "copy"))


WORDS = ("--workers", "0", "--device", "cpu", "--quiet")


def test_a_finished_network_is_trained_on_and_both_phases_are_recorded(finished: Path, se_nas: Run) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    first = read_json(finished / "result.json")["retrain"]
    code, errors, out = se_nas("retrain", finished, "--extend", "3", *WORDS)
    assert code == 0, errors
    peak = read_json(finished / "history.json")[0]["lr"]
    told = f"training on for 3 epochs after 2, from {finished / 'network.pt'}: a warm restart at a learning rate of "
    assert told in out
    made = finished / "extended"
    assert {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before
    rates = [entry["lr"] for entry in read_json(made / "history.json")]
    assert len(rates) == 3
    assert rates == sorted(rates, reverse=True)
    assert rates[0] < RESTART * peak * 3
    second = read_json(made / "result.json")["retrain"]
    assert [phase["epochs"] for phase in second["phases"]] == [2, 3]
    accuracy = "top1" if "top1" in first else "test_accuracy"
    assert [phase["accuracy"] for phase in second["phases"]] == [first[accuracy], second[accuracy]]
    one, other = (phase["learning_rate"] for phase in second["phases"])
    assert other == pytest.approx(RESTART * one)
    again = se_nas("retrain", made, "--extend", "1", *WORDS, "--learning-rate", "0.001")
    assert again[0] == 0, again[1]
    third = read_json(made / "extended/result.json")["retrain"]["phases"]
    assert [phase["epochs"] for phase in third] == [2, 3, 1]


def test_it_goes_on_from_the_weights_that_did_better(finished: Path, se_nas: Run, tmp_path: Path) -> None:
    words = ["retrain", finished, "--extend", "1", *WORDS, "--learning-rate", "1e-12"]
    assert se_nas(*words, "--set", "min_learning_rate=0")[0] == 0
    old, new = (load_checkpoint(folder / "network.pt") for folder in (finished, finished / "extended"))
    accuracies = old["accuracies"]
    kind = "network" if accuracies["network"] > accuracies["average"] else "average"
    for name in ("stem.conv.weight", "head.classifier.weight"):
        assert (old[kind][name] - new["network"][name]).abs().max() < 1e-6


def test_one_that_was_cut_off_is_resumed_to_the_same_end(finished: Path, se_nas: Run, tmp_path: Path) -> None:
    words = ["retrain", finished, "--extend", "2", *WORDS]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert se_nas(*words, "--out", whole)[0] == 0
    shutil.copytree(whole, cut)
    (cut / "result.json").unlink()
    (cut / "checkpoint.pt").write_bytes(b"")  # as of a machine that went down: the one before is whole
    for name in ("network.pt", "history.json"):
        (cut / name).unlink()
    code, errors, _ = se_nas(*words, "--out", cut, "--resume")
    assert code == 0, errors
    ends = [load_checkpoint(folder / "network.pt")["network"] for folder in (whole, cut)]
    assert all((ends[0][name] == ends[1][name]).all() for name in ends[0])
    assert (
        read_json(cut / "result.json")["retrain"]["phases"][0]
        == read_json(whole / "result.json")["retrain"]["phases"][0]
    )


def test_what_is_not_finished_or_is_settled_already_is_one_line(finished: Path, se_nas: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    must = "must be the folder of a finished retraining for --extend, but has no "
    assert_refused(se_nas("retrain", tmp_path / "empty", "--extend", "1"), f"{tmp_path / 'empty'}: {must}network.pt")
    given = ["--seed", "0", "--epochs", "3", "--recipe", "mobile-150"]
    told = "--extend: --recipe, --epochs, --seed: must be left out, as in the training that goes on"
    assert_refused(se_nas("retrain", finished, "--extend", "1", *given), told)
    assert_refused(
        se_nas("retrain", finished, "--extend", "1", "--set", "mixup=-1"), "recipe of --extend: mixup: must be"
    )
    (finished / "result.json").unlink()
    assert_refused(se_nas("retrain", finished, "--extend", "1"), f"{finished}: {must}result.json (--resume ends")


@pytest.mark.parametrize(
    "values",
    [
        {"warmup_epochs": 1, "warmup_learning_rate": 0.001, "min_learning_rate": 0.0001},
        {"schedule": "step", "decay_epochs": 1.0, "decay_rate": 0.9, "learning_rate_noise": (0.1, 0.9)},
        {"warmup_epochs": 1, "warmup_prefix": True, "schedule_per": "epoch"},
    ],
)
def test_the_rate_restarts_at_a_tenth_and_falls_to_the_floor_whatever_the_schedule_was(values: dict[str, Any]) -> None:
    recipe = recipe_of(RECIPE, epochs=4, **values)
    extended = recipe_to_extend(recipe, 5, {}, restarts=True)
    rates = [learning_rates(extended, 10)(step) for step in range(50)]
    assert rates[0] == pytest.approx(RESTART * recipe.peak_learning_rate)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.1 * rates[0] + recipe.min_learning_rate * 1.1


@pytest.mark.parametrize(("off", "mixes"), [(0, True), (3, False)])
def test_batches_that_were_not_mixed_at_the_end_are_not_mixed_again(off: int, mixes: bool) -> None:
    recipe = recipe_of(RECIPE, epochs=4, mixup=0.2, mixup_off_epoch=off)
    assert recipe_to_extend(recipe, 2, {}, restarts=True).mixes == mixes
