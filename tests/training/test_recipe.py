"""Recipes: the shipped ones hold what was published, and every fault in one is said on a line of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from se_nas.errors import ConfigError
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import RECIPES, load_recipe

LEAST: dict[str, Any] = {
    "source": "a test",
    "epochs": 10,
    "batch_size": 64,
    "learning_rate": 0.1,
    "reference_batch_size": 256,
    "weight_decay": 0.0,
}


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({**LEAST, **changes})


def faults(name: str | Path, changes: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_recipe(name, changes or {})
    return list(caught.value.problems)


def test_the_shipped_recipes_are_found() -> None:
    assert set(RECIPES) == {"small-images", "mobile-150", "mobile-600", "se-paper", "a2", "distill"}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        (
            "mobile-150",
            {
                "epochs": 150,
                "batch_size": 1024,
                "peak_learning_rate": 0.4,
                "schedule": "cosine",
                "warmup_epochs": 5,
                "warmup_learning_rate": 0.1,
                "weight_decay": 4e-5,
                "decay_norm_and_bias": False,
                "label_smoothing": 0.1,
                "dropout": 0.2,
            },
        ),
        (
            "mobile-600",
            {
                "epochs": 600,
                "batch_size": 1024,
                "peak_learning_rate": 0.064,
                "optimizer": "rmsproptf",
                "eps": 1e-3,
                "schedule": "step",
                "schedule_per": "epoch",
                "decay_epochs": 2.4,
                "decay_rate": 0.973,
                "warmup_learning_rate": 1e-6,
                "learning_rate_noise": (0.42, 0.9),
                "weight_decay": 1e-5,
                "dropout": 0.2,
                "drop_path": 0.2,
                "average_decay": 0.9999,
                "auto_augment": "rand-m9-mstd0.5",
                "random_erasing": 0.2,
                "random_erasing_mode": "pixel",
                "label_smoothing": 0.1,
            },
        ),
        (
            "se-paper",
            {
                "epochs": 100,
                "batch_size": 1024,
                "peak_learning_rate": 0.6,
                "optimizer": "momentum",
                "momentum": 0.9,
                "schedule": "step",
                "decay_epochs": 30,
                "decay_rate": 0.1,
                "label_smoothing": 0,
                "flip": 0.5,
                "test_crop": 0.875,
            },
        ),
        (
            "a2",
            {
                "epochs": 300,
                "batch_size": 2048,
                "peak_learning_rate": 5e-3,
                "optimizer": "lamb",
                "weight_decay": 0.02,
                "warmup_epochs": 5,
                "loss": "binary_cross_entropy",
                "label_smoothing": 0,
                "mixup": 0.1,
                "cutmix": 1.0,
                "repeats": 3,
                "drop_path": 0.05,
                "random_erasing": 0,
                "average_decay": None,
                "test_crop": 0.95,
            },
        ),
    ],
)
def test_a_shipped_recipe_holds_the_published_values(name: str, published: dict[str, Any]) -> None:
    loaded = load_recipe(name)
    assert {field: getattr(loaded, field) for field in published} == published


def test_distill_is_mobile_150_with_a_teacher_in_place_of_label_smoothing() -> None:
    ours, base = load_recipe("distill").model_dump(), load_recipe("mobile-150").model_dump()
    assert {name for name in ours if ours[name] != base[name]} == {"source", "label_smoothing", "distillation"}
    assert ours["distillation"] == {"alpha": 0.5, "temperature": 1.0}


@pytest.mark.parametrize("name", RECIPES)
def test_a_header_says_source_result_and_command(name: str) -> None:
    text = RECIPES[name].read_text(encoding="utf-8")
    header = text[: text.index("\nsource:")]
    assert all(line.startswith("#") for line in header.splitlines())
    assert "#   se-nas retrain " in header
    assert f"--recipe {name}" in header
    assert "ublished" in header
    assert "http" in yaml.safe_load(text)["source"]


def test_a_file_and_dotted_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(LEAST))
    assert load_recipe(path) == recipe()
    changed = load_recipe(path, {"epochs": "3", "distillation.alpha": 0.9, "distillation.temperature": 4, "clip": 1})
    assert (changed.epochs, changed.clip) == (3, 1.0)
    assert changed.distillation is not None
    assert (changed.distillation.alpha, changed.distillation.temperature) == (0.9, 4.0)
    assert load_recipe("mobile-600", {"average_decay": None}).average_decay is None
    assert load_recipe(str(path)).model_dump(mode="json") == recipe().model_dump(mode="json")


def test_an_unknown_name_or_key_comes_with_the_nearest(tmp_path: Path) -> None:
    assert faults("mobile150") == [
        "a recipe must be one of a2, distill, mobile-150, mobile-600, se-paper, small-images, or a YAML file;"
        " did you mean mobile-150?"
    ]
    (missing,) = faults(tmp_path / "none.yaml")
    assert "readable" in missing
    assert faults("a2", {"lerning_rate": 1}) == ["lerning_rate: unknown key; did you mean learning_rate?"]
    assert faults("distill", {"distillation.temprature": 1}) == [
        "distillation.temprature: unknown key; did you mean temperature?"
    ]
    assert faults("a2", {"zzz": 1}) == ["zzz: unknown key"]
    assert "did you mean lamb?" in faults("a2", {"optimizer": "lambb"})[0]


def test_every_fault_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "source: x\nepochs: 0\nbatch_size: many\nlearning_rate: -1\ndrop_path: 1.5\ncrop_scale: [1.0, 0.5]\n"
    )
    found = faults(path)
    keys = ["epochs", "batch_size", "learning_rate", "weight_decay", "crop_scale", "drop_path"]
    assert [line.split(":")[0] for line in found] == keys
    assert "\n" not in "".join(found)
    path.write_text("- a\n")
    assert faults(path) == ["file: must be a mapping, but got list"]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"warmup_epochs": 11}, ["warmup_epochs"]),
        ({"schedule": "step"}, ["decay_epochs", "decay_rate"]),
        ({"schedule": "step", "decay_epochs": 1, "decay_rate": 0.9, "min_learning_rate": 1e-5}, ["min_learning_rate"]),
        ({"decay_epochs": 3}, ["decay_epochs"]),
        ({"min_learning_rate": 1.0}, ["min_learning_rate"]),
        ({"warmup_epochs": 1, "warmup_learning_rate": 1.0}, ["warmup_learning_rate"]),
        ({"binary_target_threshold": 0.2}, ["binary_target_threshold"]),
        ({"mixup_off_epoch": 3}, ["mixup_off_epoch"]),
        ({"average_warmup": True}, ["average_warmup"]),
        ({"accumulate": 3}, ["batch_size"]),
        ({"accumulate": 64, "mixup": 0.2}, ["batch_size"]),
        ({"optimizer": "lamb", "momentum": 0.9, "alpha": 0.9}, ["momentum", "alpha"]),
        ({"optimizer": "adahessian"}, ["optimizer"]),
        ({"optimizer": "sgd", "betas": [0.9, 0.99]}, ["betas"]),
        ({"crop": "padded", "train_resolution": 160}, ["train_resolution"]),
        ({"auto_augment": "rnd-m9"}, ["auto_augment"]),
    ],
)
def test_values_that_clash_are_refused(tmp_path: Path, changes: dict[str, Any], where: list[str]) -> None:
    path = tmp_path / "clash.yaml"
    path.write_text(yaml.safe_dump({**LEAST, **changes}))
    found = faults(path)
    assert [line.split(":")[0] for line in found] == where
    assert all("\n" not in line for line in found)


def test_the_peak_is_linear_in_the_batch() -> None:
    assert recipe().peak_learning_rate == pytest.approx(0.1 * 64 / 256)
    assert recipe(batch_size=1024).peak_learning_rate == pytest.approx(0.4)


def test_micro_batches_divide_the_batch_over_ranks_and_parts() -> None:
    assert recipe().micro_batch(4) == 16
    assert recipe(accumulate=2).micro_batch(4) == 8
    with pytest.raises(ConfigError, match=r"multiple of ranks \(3\) times accumulate \(1\), but got 64$"):
        recipe().micro_batch(3)
    with pytest.raises(ConfigError, match="multiple"):
        recipe().micro_batch(128)
    assert recipe(batch_size=6).micro_batch(2) == 3
    with pytest.raises(ConfigError, match=r"even parts .* but got 6, parts of 3$"):
        recipe(batch_size=6, cutmix=1.0).micro_batch(2)


def test_mixing_ends_at_its_epoch() -> None:
    assert not any(recipe().mixes_in(epoch) for epoch in range(10))
    assert all(recipe(mixup=0.2).mixes_in(epoch) for epoch in range(10))
    ends = recipe(cutmix=1.0, mixup_off_epoch=4)
    assert [epoch for epoch in range(10) if ends.mixes_in(epoch)] == [0, 1, 2, 3]


def test_transforms_take_the_recipes_values_and_the_networks_resolution() -> None:
    loaded = load_recipe("mobile-600")
    train, test = loaded.train_transform(192), loaded.eval_transform(192)
    assert (train.resolution, train.interpolation, train.auto_augment) == (192, "random", "rand-m9-mstd0.5")
    assert (train.scale, train.flip, train.color_jitter) == ((0.08, 1.0), 0.5, 0.0)
    assert (test.resolution, test.crop, test.interpolation) == (192, 0.875, "bicubic")
    own = load_recipe("a2", {"train_resolution": 160, "test_resolution": 224})
    assert (own.train_transform(192).resolution, own.eval_transform(192).resolution) == (160, 224)
    assert own.eval_transform(192).crop == 0.95
