"""Few images of a class: what balances them, in a search and in a training, and what is said of each class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import load_test, load_train
from se_nas.runs.run_file import load_run
from se_nas.runs.search import run_search
from se_nas.space.architecture_file import load_architecture
from se_nas.training.in_memory import train_network
from tests.helpers.tiny_runs import SPACE, read_json, write_run

_RUN: dict[str, Any] = {
    "name": "few",
    "space": "space.yaml",
    "device": "cpu",
    "budgets": {"macs": "90k"},
    "latency": {"table": False},
    "search": {"pretrain_epochs": 1, "epochs": 1, "batch_size": 8, "calibration_images": 16},
    "retrain": {"epochs": 6, "batch_size": 8, "evaluate_every": 3},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred grey images, of which a tenth are a class that is lighter, but not every image of it is."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for half in ("train", "test"):
        for number in range(100):
            label = "rare" if number >= 90 else "usual"
            place = root / half / label / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            level = rng.normal(145 if label == "rare" else 110, 20) + rng.normal(0, 5, (8, 8))
            Image.fromarray(level.clip(0, 255).astype(np.uint8)).save(place)
    return root


def test_balanced_classes_find_the_rare_one_which_a_plain_training_leaves_out(tmp_path: Path, images: Path) -> None:
    """A whole run says how accurate its network is on each class; trainings that balance them find more of the rare."""
    balance = {"class_weights": "balanced", "balanced_sampling": True}  # of the search alone
    run = {**_RUN, "data": {"name": "folder", "dir": str(images)}, "search": {**_RUN["search"], **balance}}
    run_file, out = write_run(tmp_path, run, SPACE), tmp_path / "out"
    config = load_run(run_file)
    run_search(run_file, config, out, resume=False, progress=False, say=lambda line: None)
    plain = read_json(out / "retrain/history.json")[-1]
    rare, usual = plain["class_accuracy"]
    assert plain["class_images"] == [10, 90]
    assert plain["balanced_accuracy"] == pytest.approx((rare + usual) / 2)
    assert plain["test_accuracy"] == pytest.approx(0.1 * rare + 0.9 * usual)
    assert read_json(out / "result.json")["retrain"]["balanced_accuracy"] == plain["balanced_accuracy"]
    page = (out / "report.html").read_text()
    assert "Accuracy per class" in page
    assert f"Balanced accuracy, the mean over the classes: {100 * plain['balanced_accuracy']:.2f} %" in page
    network = load_architecture(out / "architecture.json").network
    options = DataOptions("folder", images, network.resolution)
    info, train = load_train(options)
    for name, value in balance.items():
        assert config.retrain is not None
        recipe = config.retrain.model_copy(update={name: value})
        folder = tmp_path / name
        folder.mkdir()
        trained = train_network(
            network, recipe, info, train, load_test(options), device=torch.device("cpu"), seed=0, folder=folder,
            resume=False, progress=False,
        )  # fmt: skip
        found = trained.history[-1]
        assert found.class_accuracy is not None
        assert (found.class_accuracy[0] or 0) > rare
        assert (found.balanced_accuracy or 0) > plain["balanced_accuracy"]
