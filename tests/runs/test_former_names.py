"""Run files and recipes of before are read, with one line for each key that has another name now."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from se_nas.errors import ConfigError
from se_nas.records import former_names
from se_nas.runs.run_file import RunConfig, load_run
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.differentiable.search import DifferentiableConfig
from se_nas.training.recipe_files import load_recipe
from tests.helpers.tiny_runs import RUN, changed, write_run, write_yaml

RESULTS = sorted((Path(__file__).resolve().parents[2] / "runs" / "results").glob("*/config.yaml"))
OLD: dict[str, Any] = {
    **RUN,
    "search": {"warmup_epochs": 4, "epochs": 2, "rate_warmup_epochs": 1.0},
    "retrain": {"epochs": 3, "momentum": 0.8, "cutout": 4, "ema_decay": 0.9, "test_every": 2, "warmup_epochs": 0.5},
}


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    former_names._say_once.cache_clear()
    caplog.set_level(logging.WARNING)
    return caplog


def test_a_run_file_of_before_is_read_and_each_former_name_is_said_once(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    path = write_run(tmp_path, OLD)
    for _ in range(2):
        config = load_run(path)
    assert isinstance(config.search, DifferentiableConfig)
    assert (config.search.pretrain_epochs, config.search.epochs) == (4, 2)
    recipe = config.retrain
    assert recipe is not None
    assert (recipe.average_decay, recipe.average_warmup, recipe.evaluate_every) == (0.9, True, 2)
    assert (recipe.momentum, recipe.cutout, recipe.warmup_epochs, recipe.label_smoothing) == (0.8, 4, 0.5, 0.1)
    assert sorted(said.messages) == [
        "recipe: ema_decay is called average_decay now, and read as that",
        "recipe: test_every is called evaluate_every now, and read as that",
        "search: warmup_epochs is called pretrain_epochs now, and read as that",
    ]


def test_what_is_written_of_a_run_is_read_again_without_a_word(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    config = load_run(write_run(tmp_path))
    again = load_run(write_yaml(tmp_path / "config.yaml", config.model_dump(mode="json")))
    assert again == config
    assert said.messages == []


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        (
            "search.pretrain_epochs",
            1,
            "search: warmup_epochs: must be left out, since it is called pretrain_epochs now",
        ),
        ("retrain.average_decay", 0.9, "retrain: ema_decay: must be left out, since it is called average_decay now"),
        (
            "search.rate_warmup_epochs",
            2.0,
            "search: rate_warmup_epochs: must be left out, since it is no option any more and always 1, but got 2.0",
        ),
        ("retrain.crop_ratio", [0.5, 2.0], r"retrain: crop_ratio: must be left out, since it is no option any more"),
        ("retrain.base", "tiny-images", "retrain: base: must be one of .*; did you mean small-images"),
    ],
)
def test_both_names_at_once_are_a_fault(tmp_path: Path, key: str, value: Any, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        load_run(write_run(tmp_path, changed(OLD, key, value)))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_the_committed_runs_are_read(path: Path) -> None:
    """But for a penalty that some of them searched with, which is gone."""
    value = yaml.safe_load(path.read_text())
    for gone in ("penalty_strength", "penalty_rate"):
        value.get("search", {}).pop(gone, None)
    config = RunConfig.model_validate(value)
    assert config.retrain is None or config.retrain.epochs == value["retrain"]["epochs"]


def test_a_recipe_is_put_upon_the_named_one_and_a_whole_one_stands_by_itself(tmp_path: Path) -> None:
    run = write_run(tmp_path, changed(RUN, "retrain", {"base": "mobile-150", "epochs": 2, "warmup_epochs": 1}))
    recipe = load_run(run).retrain
    assert recipe is not None
    assert recipe == load_recipe("mobile-150", {"epochs": 2, "warmup_epochs": 1})
    short = load_recipe(write_yaml(tmp_path / "short.yaml", {"epochs": 2, "mixup": 0.2}))
    assert short == load_recipe("small-images", {"epochs": 2, "mixup": 0.2})
    search = {"strategy": "optuna", "evaluator": "stand_alone", "stand_alone": {"epochs": 2, "base": "a2"}}
    found = OptunaConfig.model_validate({**search, "stand_alone": {"epochs": 6, "base": "a2"}}).stand_alone
    assert (found.optimizer, found.epochs, found.evaluate_every) == ("lamb", 6, 1)


def test_faults_of_a_recipe_in_a_run_file_are_said_at_once_with_their_paths(tmp_path: Path) -> None:
    wrong = {"epochs": 3, "warmup_epochs": 4, "optimizer": "lambb", "auto_augment": "rnd-m9"}
    with pytest.raises(ConfigError) as caught:
        load_run(write_run(tmp_path, changed(RUN, "retrain", wrong)))
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "retrain.warmup_epochs",
        "retrain.optimizer",
        "retrain.auto_augment",
    ]


def test_a_key_that_is_no_option_any_more_is_read_with_the_value_that_holds_and_refused_with_another(
    tmp_path: Path,
) -> None:
    constants = {
        "mixup_probability": 1,
        "mixup_switch_probability": 0.5,
        "crop_ratio": [0.75, 4 / 3],
        "channels_last": True,
    }
    recipe = load_recipe("mobile-150")
    assert load_recipe("mobile-150", constants) == recipe
    assert not constants.keys() & recipe.model_dump().keys()
    path = write_yaml(tmp_path / "recipe.yaml", {**recipe.model_dump(mode="json"), "channels_last": False})
    with pytest.raises(ConfigError, match=r"channels_last: must be left out, .* and always True, but got False"):
        load_recipe(str(path))
