"""Claim: NASWOT ranks the networks of NAS-Bench-Macro within budgets of 40 and 60 MMACs better than MACs alone do.

Zero-cost scores are functions of a network that is not trained and of one batch of images. Here each is taken of random
networks, on a batch of CIFAR-10's training images; a seed draws the weights and the batch. Its Kendall tau with the
published accuracies (Su et al., arXiv 2103.11922; the mean of three trainings) stands beside that of MACs alone and of
parameters alone, over the whole space and within each budget. The package offers a score where the 95 % interval of
(its tau - that of MACs alone) is above 0 within both budgets; the others live in `zero_cost_scores.py` alone. Every
network within the smaller budget gets what is offered, and searches that begin with its first filter are compared with
those of the same seeds that do not.

The networks of a sample are the first of one random order of the space that keep the budget; so samples share them.

The table is data/nas-bench-macro_cifar10.json of https://github.com/xiusu/NAS-Bench-Macro, packed or not; --data-dir
holds CIFAR-10 in its official Python layout. Run:
python benchmarks/zero_cost.py TABLE.json --data-dir DIR --work FOLDER [--results FOLDER].
Scores go on from what FOLDER holds: some ten minutes of one core for the samples, and as long for the rest. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ends import one_line_errors
from nas_bench_macro import BUDGETS, MacroTable, load_table
from numpy.typing import NDArray
from regret import Numbers, Setup, search_regrets, summary
from rich.console import Console
from rich.progress import track
from torch import Tensor
from zero_cost_scores import gradient_norm, snip, synflow, zen, zico

from se_nas.cost.budget import Budget
from se_nas.data.in_memory.batches import DeviceImages
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import load_train
from se_nas.evidence.statistics import Estimate, kendall, kendall_gain, top_k_regret
from se_nas.hardware.environment import describe_environment
from se_nas.layers.network import Network
from se_nas.records.files import write_atomic
from se_nas.search.budgets.repair import Repair
from se_nas.search.zero_cost.evaluator import ZeroCostConfig
from se_nas.search.zero_cost.naswot import naswot, untrained
from se_nas.search.zero_cost.screen import ScreenConfig, drawn_by

OFFERED = "naswot"
SCORES: dict[str, Callable[[Network, Tensor, Tensor], float]] = {
    OFFERED: lambda network, images, labels: naswot(network, images),
    "synflow": synflow,
    "zico": zico,
    "gradient_norm": gradient_norm,
    "snip": snip,
    "zen": zen,
}
SEEDS = {score: (0, 1) if score == OFFERED else (0,) for score in SCORES}
#: Networks of each sample; of a budget, within it.
SAMPLES: dict[Budget | None, int] = {None: 100, BUDGETS[1]: 100, BUDGETS[0]: 80}
IMAGES = ZeroCostConfig().images
FILTER = ScreenConfig()
#: Searches of each kind. Within the larger budget they would need scores of thousands of networks more.
SEARCHES = {BUDGETS[0]: 20}
SAMPLERS = ("evolution", "predictor", "random")
MARKS = (25, 50, 100, 200)
TOP = (1, 8, 24, 50, 100, 200)
BAR = 0.0
"""The lower end of the interval of (tau of what is offered - tau of MACs alone) must be above it."""

Rows = NDArray[np.intp]


def samples(table: MacroTable) -> dict[Budget | None, Rows]:
    """Indices of the networks of each sample."""
    order = np.random.default_rng(0).permutation(len(table.architectures))
    kept = {budget: order if budget is None else order[np.isin(order, table.within(budget))] for budget in SAMPLES}
    return {budget: rows[: SAMPLES[budget]] for budget, rows in kept.items()}


class LinesFile:
    """What was found so far, a JSON line an entry, each known by some of its values."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self._path, self._names = path, names
        lines = path.read_text().splitlines() if path.exists() else []
        self.found = {tuple(entry[name] for name in names): entry for entry in map(json.loads, lines)}

    def add(self, key: tuple[Any, ...], **values: Any) -> None:
        """Write an entry down, whose values of the names are the key."""
        entry = dict(zip(self._names, key, strict=True)) | values
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        self.found[key] = entry


class Scores:
    """The scores so far: a value, null if not finite, and CPU seconds, by network, seed and score."""

    def __init__(self, path: Path) -> None:
        self._file = LinesFile(path, ("network", "seed", "score"))

    def __contains__(self, key: tuple[int, int, str]) -> bool:
        return key in self._file.found

    def add(self, key: tuple[int, int, str], value: float, cpu_seconds: float) -> None:
        """Write a score down."""
        self._file.add(key, value=value if np.isfinite(value) else None, cpu_seconds=round(cpu_seconds, 4))

    def values(self, networks: Iterable[int], seed: int, score: str) -> Numbers:
        """(n,) scores; where one is not finite, less than all others."""
        found = [self._file.found[int(network), seed, score]["value"] for network in networks]
        least = min((value for value in found if value is not None), default=0.0)
        return np.array([least - 1 if value is None else value for value in found])

    def seconds(self, score: str) -> float:
        """Median processor seconds of one."""
        return float(np.median([entry["cpu_seconds"] for key, entry in self._file.found.items() if key[2] == score]))


def batch(data_dir: Path, seed: int) -> tuple[Tensor, Tensor]:
    """IMAGES of CIFAR-10's training images, normalised, and their labels."""
    info, train = load_train(DataOptions("cifar10", data_dir, 32))
    chosen = torch.from_numpy(np.random.default_rng([seed, 1]).choice(len(train.labels), IMAGES, replace=False))
    (found,) = DeviceImages(info, train, torch.device("cpu")).evaluate_batches(chosen, IMAGES)
    return found


def compute(table: MacroTable, jobs: Iterable[tuple[int, int, str]], file: Scores, data_dir: Path) -> None:
    """Take the scores that are not in the file yet: (network, seed, score)."""
    missing = [job for job in jobs if job not in file]
    batches = {seed: batch(data_dir, seed) for seed in {seed for _, seed, _ in missing}}
    for network, seed, score in track(missing, "scores", console=Console(stderr=True)):
        spec = table.space.resolve(table.architectures[network])
        began = time.process_time()
        fresh = untrained(spec, torch.device("cpu"), seed)
        torch.manual_seed(seed)  # of what a score draws itself
        value = SCORES[score](fresh, *batches[seed])
        file.add((network, seed, score), value, time.process_time() - began)


def told(estimate: Estimate) -> dict[str, Any]:
    """Value and interval."""
    return {key: round(float(getattr(estimate, key)), 4) for key in ("value", "low", "high")}


def ranking(table: MacroTable, rows: Rows, file: Scores) -> dict[str, Any]:
    """Taus of some networks' scores with their accuracies, beside those of their costs alone."""
    truth, macs = table.means[rows], table.costs["macs"][rows]
    scores = {
        name: {
            "kendall": told(kendall(found := file.values(rows, seeds[0], name), truth)),
            "gain_over_macs": told(kendall_gain(found, macs, truth)),
            "kendall_of_each_seed": [round(kendall(file.values(rows, s, name), truth).value, 4) for s in seeds],
        }
        for name, seeds in SEEDS.items()
        if all((int(network), seed, name) in file for network in rows for seed in seeds)
    }
    alone = {metric: told(kendall(table.costs[metric][rows], truth)) for metric in ("macs", "params")}
    return {"networks": len(rows), **alone, "scores": scores}


def every_network(table: MacroTable, budget: Budget, file: Scores) -> dict[str, Any]:
    """What is offered over all networks within a budget: its tau, and the regret of the best of its first k."""
    rows = table.within(budget)
    truth, macs, found = table.means[rows], table.costs["macs"][rows], file.values(rows, 0, OFFERED)
    best = {f"best of {k}": (top_k_regret(found, truth, k), top_k_regret(macs, truth, k)) for k in TOP}
    return {
        "networks": len(rows),
        "kendall": told(kendall(found, truth)),
        "gain_over_macs": told(kendall_gain(found, macs, truth)),
        "regret": {name: {OFFERED: round(ours, 4), "macs": round(theirs, 4)} for name, (ours, theirs) in best.items()},
    }


def regrets_of(
    file: LinesFile, table: MacroTable, sampler: str, budget: Budget, seed: int, first: list[int]
) -> list[float]:
    """At MARKS, of a search that evaluates some networks first; of the file, or of one that is made now."""
    key = str(budget), sampler, bool(first), seed
    if key not in file.found:
        curve = search_regrets(table, Setup(sampler, MARKS[-1]), budget, seed, first)
        file.add(key, regrets=[round(float(curve[mark - 1]), 4) for mark in MARKS])
    return list(file.found[key]["regrets"])


def searches(
    table: MacroTable, budget: Budget, scores: Scores, file: LinesFile, data_dir: Path, samplers: list[str]
) -> dict[str, Any]:
    """Regrets with and without the first filter, of the same seeds."""
    repair, seeds = Repair(table.space, table.tables, [budget]), range(SEARCHES[budget])
    drawn = [[table.index[a] for a in drawn_by(repair, FILTER.drawn, seed)] for seed in seeds]
    compute(table, [(network, 0, OFFERED) for rows in drawn for network in rows], scores, data_dir)
    kept = []
    for rows in drawn:
        order = np.argsort(-scores.values(rows, 0, OFFERED), kind="stable")
        kept.append([rows[i] for i in order[: FILTER.kept]])
    outcome: dict[str, Any] = {}
    for sampler in samplers:
        for name, firsts in ((sampler, [[]] * len(seeds)), (f"{sampler}, filtered", kept)):
            regrets = [
                regrets_of(file, table, sampler, budget, s, first) for s, first in zip(seeds, firsts, strict=True)
            ]
            at_marks = np.array(regrets).T
            outcome[name] = {str(mark): summary(at) for mark, at in zip(MARKS, at_marks, strict=True)}
            print(budget, name, {mark: (at["median"], at["mean"]) for mark, at in outcome[name].items()}, flush=True)
    return {"seeds": len(seeds), "regret": outcome}


@one_line_errors()
def main() -> None:
    """Take the scores, rank by them, search with them, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the published file, or that packed as .xz or .gz")
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder that holds CIFAR-10's")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for the scores")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="write scores.json there")
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="of the searches, with commas; empty for none")
    options = parser.parse_args()
    torch.set_num_threads(1)
    environment = describe_environment().plain()
    options.work.mkdir(parents=True, exist_ok=True)
    table, file = load_table(options.table), Scores(options.work / "scores.jsonl")
    drawn = samples(table)
    networks = sorted({int(network) for rows in drawn.values() for network in rows})
    compute(table, [(n, s, name) for name in SCORES for s in SEEDS[name] for n in networks], file, options.data_dir)
    compute(table, [(int(n), 0, OFFERED) for n in table.within(BUDGETS[0])], file, options.data_dir)
    ranked = {str(budget or "the whole space"): ranking(table, rows, file) for budget, rows in drawn.items()}
    samplers = [word for word in options.samplers.split(",") if word]
    kept = LinesFile(options.work / "regrets.jsonl", ("budget", "sampler", "filtered", "seed"))
    found = {
        "samples": ranked,
        f"every network, {BUDGETS[0]}": every_network(table, BUDGETS[0], file),
        "searches": {str(b): searches(table, b, file, kept, options.data_dir, samplers) for b in SEARCHES}
        if samplers
        else {},
    }
    low = min(ranked[str(budget)]["scores"][OFFERED]["gain_over_macs"]["low"] for budget in BUDGETS)
    outcome = {
        "benchmark": "zero_cost",
        "environment": environment,
        "images": IMAGES,
        "filter": {"drawn": FILTER.drawn, "kept": FILTER.kept},
        "cpu_seconds_a_score": {score: round(file.seconds(score), 3) for score in SCORES},
        "figures": found,
        "bars": {"lower end of the gain over MACs": BAR},
        "holds": low > BAR,
    }
    if options.results:
        write_atomic(options.results / "scores.json", json.dumps(outcome, indent=1) + "\n")
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
