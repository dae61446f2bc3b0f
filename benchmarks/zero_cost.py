"""Claim: NASWOT ranks the networks of NAS-Bench-Macro within budgets of 40 and 60 MMACs better than MACs alone do.

Zero-cost scores are functions of a network that is not trained and of one batch of images. Here each is computed of
random networks on a batch of CIFAR-10's training images, from several seeds, each of which draws the weights and the
batch; its Kendall tau with the published accuracies (Su et al., arXiv 2103.11922; the mean of three trainings) stands
beside that of MACs alone and of parameters alone, over the whole space and within each budget. A score is offered by
the package where the 95 % interval of (its tau - that of MACs alone) is above 0 within both budgets, whatever the seed.
Of what is offered every network within the budgets is scored, and searches guided by it are made.

The networks of a sample are the first of one random order of the space that keep the budget, so that samples share them.

The table is data/nas-bench-macro_cifar10.json of https://github.com/xiusu/NAS-Bench-Macro, packed or not; --data-dir
holds CIFAR-10 in its official Python layout. Run:
python benchmarks/zero_cost.py TABLE.json --data-dir DIR --work FOLDER [--results FOLDER].
Scores go on from what FOLDER holds; they take some 20 minutes of one core, and those of every network 15 more. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nas_bench_macro import BUDGETS, MacroTable, load_table
from collections.abc import Callable
from numpy.typing import NDArray
from zero_cost_scores import gradient_norm, snip, synflow, zen, zico
from se_nas.layers.network import Network
from rich.console import Console
from rich.progress import track
from torch import Tensor

from se_nas.cost.budget import Budget
from se_nas.data.in_memory.batches import DeviceImages
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import load_train
from se_nas.errors import SeNasError
from se_nas.hardware.environment import describe_environment
from se_nas.search.zero_cost.naswot import naswot, untrained

OFFERED = "naswot"
SCORES: dict[str, Callable[[Network, Tensor, Tensor], float]] = {
    OFFERED: lambda network, images, labels: naswot(network, images),
    "synflow": synflow,
    "zico": zico,
    "gradient_norm": gradient_norm,
    "snip": snip,
    "zen": zen,
}
#: Networks of each sample; of a budget, within it.
SAMPLES: dict[Budget | None, int] = {None: 100, BUDGETS[1]: 100, BUDGETS[0]: 80}
SEEDS = {score: (0, 1, 2) if score == OFFERED else (0,) for score in SCORES}
IMAGES = 64

Numbers = NDArray[np.float64]
Rows = NDArray[np.intp]


def samples(table: MacroTable) -> dict[Budget | None, Rows]:
    """Indices of the networks of each sample."""
    order = np.random.default_rng(0).permutation(len(table.architectures))
    kept = {budget: order if budget is None else order[np.isin(order, table.within(budget))] for budget in SAMPLES}
    return {budget: rows[: SAMPLES[budget]] for budget, rows in kept.items()}


class ScoresFile:
    """The scores so far, a JSON line each: `{network, seed, score, value, cpu_seconds}`, value null if not finite."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._found = {(e["network"], e["seed"], e["score"]): e for e in map(json.loads, lines)}

    def __contains__(self, key: tuple[int, int, str]) -> bool:
        return key in self._found

    def add(self, network: int, seed: int, score: str, value: float, cpu_seconds: float) -> None:
        """Write a score down."""
        told = value if np.isfinite(value) else None
        entry = {
            "network": network, "seed": seed, "score": score, "value": told, "cpu_seconds": round(cpu_seconds, 4)
        }  # fmt: skip
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        self._found[network, seed, score] = entry

    def values(self, networks: Rows, seed: int, score: str) -> Numbers:
        """(n,) scores; -inf where one is not finite, so that it is the last in rank."""
        found = (self._found[int(network), seed, score]["value"] for network in networks)
        return np.array([-np.inf if value is None else value for value in found])

    def seconds(self, score: str) -> Numbers:
        """(n,) processor seconds of each computation."""
        return np.array([entry["cpu_seconds"] for key, entry in self._found.items() if key[2] == score])


def batch(data_dir: Path, seed: int) -> tuple[Tensor, Tensor]:
    """IMAGES of CIFAR-10's training images, normalised, and their labels."""
    info, train = load_train(DataOptions("cifar10", data_dir, 32))
    chosen = torch.from_numpy(np.random.default_rng([seed, 1]).choice(len(train.labels), IMAGES, replace=False))
    (found,) = DeviceImages(info, train, torch.device("cpu")).evaluate_batches(chosen, IMAGES)
    return found


def compute(table: MacroTable, jobs: list[tuple[int, int, str]], scores: dict, file: ScoresFile, data_dir: Path) -> None:
    """Compute what is not in the file yet."""
    missing = [job for job in jobs if job not in file]
    batches = {seed: batch(data_dir, seed) for seed in {seed for _, seed, _ in missing}}
    for network, seed, score in track(missing, "scores", console=Console(stderr=True)):
        spec = table.space.resolve(table.architectures[network])
        began = time.process_time()
        torch.manual_seed(seed)  # of what a score draws itself
        value = scores[score](untrained(spec, torch.device("cpu"), seed), *batches[seed])
        file.add(network, seed, score, value, time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the published file, or that packed as .xz or .gz")
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder that holds CIFAR-10's")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for the scores")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="write scores.json there")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    table = load_table(options.table)
    file = ScoresFile(options.work / "scores.jsonl")
    drawn = samples(table)
    scores = SCORES
    sampled = sorted({int(network) for rows in drawn.values() for network in rows})
    compute(table, [(n, s, name) for s in SEEDS for n in sampled for name in scores], scores, file, options.data_dir)
    within = [int(n) for n in table.within(BUDGETS[1])]
    compute(table, [(n, 0, "naswot") for n in within], scores, file, options.data_dir)


if __name__ == "__main__":
    try:
        main()
    except (SeNasError, OSError) as error:
        raise SystemExit(str(error)) from error
