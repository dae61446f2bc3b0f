"""A data set in ImageNet's layout that is learnt in seconds: tiny JPEGs whose class is their colour."""

from __future__ import annotations

import colorsys
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from se_nas.records.run_log import read_log
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import parse_space
from se_nas.training.recipe import Recipe
from tests.helpers.tiny_runs import write_yaml

#: One network of three blocks, with SE, a skip and a stride.
NETWORK: dict[str, Any] = {
    "name": "one",
    "resolution": 16,
    "classes": 10,
    "stem": {"width": 8, "stride": 2},
    "stages": [
        {"width": 8, "depth": 2, "kernel": 3, "expansion": 2, "se": {"options": [4]}},
        {"width": 16, "stride": 2, "depth": 1, "kernel": 3, "expansion": 2, "activation": "hard_swish"},
    ],
    "head": {"width": 32, "dropout": 0.1},
    "scaling": {"imagenet": {"resolution": 16}},
}

RECIPE: dict[str, Any] = {
    "source": "a test",
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.05,
    "reference_batch_size": 8,
    "weight_decay": 1e-4,
    "crop_scale": [0.5, 1.0],
}

#: All that is drawn at random in a training, and every kind of state.
EVERYTHING: dict[str, Any] = {
    **RECIPE,
    "optimizer": "rmsproptf",
    "learning_rate": 0.005,
    "momentum": 0.9,
    "eps": 0.001,
    "label_smoothing": 0.1,
    "mixup": 0.2,
    "cutmix": 1.0,
    "auto_augment": "rand-m9-mstd0.5",
    "random_erasing": 0.5,
    "dropout": 0.2,
    "drop_path": 0.2,
    "average_decay": 0.9,
    "clip": 5.0,
}


def tiny_network(**changes: Any) -> NetworkSpec:
    """The network of `NETWORK`, with values of the space replaced."""
    space: SearchSpace = parse_space({**NETWORK, **changes}, "tiny")
    return space.resolve(next(space.enumerate()))


def recipe_of(values: dict[str, Any], **changes: Any) -> Recipe:
    return Recipe.model_validate({**values, **changes})


def colour_of(label: int, classes: int) -> tuple[float, float, float]:
    """Red, green and blue, from 0 to 1."""
    return colorsys.hsv_to_rgb(label / classes, 0.5 + 0.5 * (label % 2), 0.9 - 0.4 * (label % 3 == 0))


def write_images(root: Path, classes: int = 4, train: int = 6, val: int = 3, side: int = 20) -> Path:
    """`train` and `val` images of each class: a colour of its own with a little noise."""
    for label in range(classes):
        colour = np.array(colour_of(label, classes))
        for half, count in (("train", train), ("val", val)):
            folder = root / half / f"class{label:02d}"
            folder.mkdir(parents=True)
            rng = np.random.default_rng([label, half == "val"])
            for number in range(count):
                pixels = 255 * colour + rng.normal(0, 8, (side, side, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)
    return root


def write_job(folder: Path, recipe: dict[str, Any] = RECIPE, network: dict[str, Any] = NETWORK) -> list[str]:
    """Images, a baseline and a recipe in `folder`; the words of `se-nas retrain` for them, without --out."""
    folder.mkdir(parents=True, exist_ok=True)
    write_images(folder / "images")
    baseline = write_yaml(folder / "one.yaml", network)
    recipe_file = write_yaml(folder / "recipe.yaml", json.loads(json.dumps(recipe)))
    words = ["retrain", baseline, "--data", "imagenet", "--data-dir", folder / "images", "--recipe", recipe_file]
    return [str(word) for word in [*words, "--workers", "0", "--device", "cpu", "--quiet"]]


def epochs_in(out: Path) -> list[dict[str, Any]]:
    """What a retraining's log says of its epochs, but for the time."""
    log = out / "log.jsonl"
    lines = read_log(log) if log.exists() else []
    return [{k: v for k, v in line.items() if k != "time"} for line in lines if line["event"] == "epoch"]
