"""Good inputs, made once, of which the bad ones are damaged copies: finished runs, images on disk, shards, weights."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from se_nas.cli import main as cli
from se_nas.data.on_disk.shard_writing import write_shards
from se_nas.layers.network import Network
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from se_nas.space.yaml.file import load_space
from se_nas.training.trained_network import save_weights
from tests.bad_inputs.attempts import Outcome, redirected
from tests.helpers.jpeg_folders import write_folder
from tests.helpers.tiny_imagenet import NETWORK, RECIPE
from tests.helpers.tiny_runs import RUN, SPACE, cache_latency, changed, write_run, write_yaml
from tests.search.known_worth import write_table

#: A black-box search that costs nothing.
TABULAR: dict[str, Any] = {
    **RUN,
    "search": {
        "strategy": "optuna",
        "evaluator": "table",
        "table": "known.jsonl",
        "max_evaluations": 12,
        "objectives": ["accuracy", "macs"],
    },
    "retrain": None,
}
DIFFERENTIABLE = changed(changed(RUN, "search.epochs", 1), "retrain.epochs", 1)


def make(home: Path) -> None:
    """Every base as a folder of `home`; with `home` as the cache of latency tables."""
    (home / "tabular").mkdir()
    write_yaml(home / "tabular" / "space.yaml", SPACE)
    cache_latency(home, home / "tabular")
    for name, run in (("tabular", TABULAR), ("differentiable", DIFFERENTIABLE)):
        write_run(home / name, run)
        write_table(home / name / "known.jsonl", load_space(home / name / "space.yaml"))
        shutil.copytree(home / name, home / f"{name}_files")  # not run yet
        _command("search", home / name / "run.yaml", "--out", home / name / "out", "--quiet")
    shutil.copytree(home / "latency", home / "cached" / "latency")
    shutil.copy2(home / "tabular" / "space.yaml", home / "cached")
    _make_network(home / "network")
    _make_images(home)


def _make_network(folder: Path) -> None:
    """An architecture with weights that nobody trained."""
    write_run(folder)
    space = load_space(folder / "space.yaml")
    file = ArchitectureFile.of(space, next(space.enumerate()))
    save_architecture(folder / "architecture.json", file)
    torch.manual_seed(0)
    save_weights(folder / "network.pt", Network(file.network).eval(), None)


def _make_images(home: Path) -> None:
    """The same images as a folder, as a data set in memory would have them, and as shards; with what trains on them."""
    for name in ("folder", "shards", "small"):
        (home / name).mkdir()
        write_yaml(home / name / "network.yaml", NETWORK)
        write_yaml(home / name / "recipe.yaml", {**RECIPE, "epochs": 1})
    write_folder(home / "folder" / "images", train=3, val=1)
    write_shards(home / "folder" / "images", home / "shards" / "images", images_per_shard=4)
    write_folder(home / "small" / "images", train=8, val=2)
    data = {"name": "folder", "dir": "images"}
    write_run(home / "small", {**changed(RUN, "data", data), "latency": {"device": "cpu", "table": False}})


def _command(*words: object) -> None:
    sys.argv = ["se-nas", *map(str, words)]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{words} ended with {end.code}") from end


def made(home: Path) -> Outcome:
    """As `make`, for a process of its own: torch's threads do not outlive a fork."""
    home.mkdir()
    redirected(home / "stderr")
    make(home)
    return Outcome("harmless", "")
