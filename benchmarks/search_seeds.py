"""Question: does one search find better networks than another, or had it a lucky seed? Needs several runs of each.

  se-nas search RUN_FILE --set seed=2 --out FOLDER/a_2 ...    # each search with each seed
  python benchmarks/search_seeds.py FOLDER/a_1 FOLDER/a_2 FOLDER/b_1 FOLDER/b_2 --data-dir DIR --out FOLDER

Runs that share the name of their run file are the same search with another seed. One of them at least has the evidence
of a run with random networks: its seeds are those with which every answer is trained here by the same recipe, where no
evidence and no retraining of its run says what comes out. What is done is not done again, and what was killed goes on.

An answer is worth its mean over these seeds. Searches are told apart by how much answers of one search differ, pooled
over the searches (one-way analysis of variance and Student's t, the p of pairs by Holm), and from the mean of the
random networks by that and by how much these differ (Satterthwaite, Biometrics Bulletin 2, 1946, 110-114). So what
another seed of the search would give is in every interval. The last line is one JSON object, also in --out as
search_seeds.json, beside a figure.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ends import one_line_errors
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import f as f_distribution

from se_nas.data.in_memory.options import DataOptions
from se_nas.errors import ConfigError
from se_nas.evidence.statistics import holm, student_interval
from se_nas.hardware.allocator import tune_allocator
from se_nas.records.files import write_atomic, write_json
from se_nas.records.models.evidence import ControlsPart, TrainingRecord
from se_nas.records.models.run_result import RunResult
from se_nas.records.record import read_record
from se_nas.report.plots.figure import WIDTH, drawn, figure_png
from se_nas.report.theme.palette import light
from se_nas.runs.evidence.trainings import Task, Trainings
from se_nas.runs.run_file import RunConfig, load_run
from se_nas.space.architecture_file import ArchitectureFile, load_architecture

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One search that is done; `controls` where evidence was gathered."""

    config: RunConfig
    result: RunResult
    answer: ArchitectureFile
    controls: ControlsPart | None

    @classmethod
    def load(cls, folder: Path) -> Run:
        """The files of its folder."""
        controls = folder / "evidence" / "controls.json"
        return cls(
            load_run(folder / "config.yaml"),
            read_record(RunResult, folder / "result.json"),
            load_architecture(folder / "architecture.json"),
            read_record(ControlsPart, controls) if controls.exists() else None,
        )

    @property
    def known(self) -> dict[int, float]:
        """Test accuracies of its answer that are known, by seed."""
        found: dict[int, float] = {}
        if (retrained := self.result.retrain) is not None:
            found[self.config.seed] = retrained.test_accuracy
        if self.controls is not None:
            answer = next(network for network in self.controls.networks if network.kind == "answer")
            found |= {int(seed): value for seed, value in answer.accuracies.items() if value is not None}
        return found


def alike(runs: Sequence[Run]) -> ControlsPart:
    """The evidence of them that has random networks, once it is sure that all have one recipe, data set and budgets."""
    first = runs[0].config
    for run in runs[1:]:
        for name in ("retrain", "data", "budgets"):
            if getattr(run.config, name) != getattr(first, name):
                raise ConfigError(run.config.name, [f"{name}: must be that of {first.name}, but is another"])
    if first.retrain is None:
        raise ConfigError(first.name, ["retrain: must be there, as its recipe is that of the trainings"])
    places = [(run.config.name, run.config.seed) for run in runs]
    if twice := [place for place in places if places.count(place) > 1]:
        raise ConfigError(twice[0][0], [f"seed: must be another for each run, but {twice[0][1]} comes twice"])
    for run in runs:
        if run.controls is not None and any(network.kind == "random" for network in run.controls.networks):
            return run.controls
    raise ConfigError(first.name, ["evidence: one run at least must have random networks among its controls"])


def train(runs: Sequence[Run], seeds: Sequence[int], options: argparse.Namespace) -> list[list[float]]:
    """Test accuracies of each answer by seed; what is not known is trained."""
    recipe, name = runs[0].config.retrain, runs[0].config.data.name
    assert recipe is not None
    images = DataOptions(name, options.data_dir, runs[0].answer.network.resolution)
    trainings = Trainings(options.out / "trainings", recipe, images, "cpu")
    missing = [Task(run.answer.network, seed) for run in runs for seed in seeds if seed not in run.known]
    if left := trainings.left(missing):
        print(f"{len(left)} trainings to do", flush=True)
    trainings.train(missing, options.jobs, progress=True)
    rows = []
    for run in runs:
        records = {seed: trainings.record(Task(run.answer.network, seed)) for seed in seeds if seed not in run.known}
        rows.append([run.known[seed] if seed in run.known else accuracy_of(records[seed]) for seed in seeds])
    return rows


def accuracy_of(record: TrainingRecord | None) -> float:
    """Of a training that is done."""
    if record is None or record.test_accuracy is None:
        raise SystemExit(f"a training must have an accuracy, but {record and record.failed}")
    return record.test_accuracy


def told_apart(searches: Mapping[str, Numbers], random: Numbers) -> dict[str, Any]:
    """What the accuracies say, in their unit.

    Args:
        searches: by name (runs, seeds) accuracies of their answers.
        random: (networks, seeds) those of random networks.
    """
    means = {name: rows.mean(axis=1) for name, rows in searches.items()}
    seeds = random.shape[1]
    every = np.concatenate([*searches.values(), random])
    noise_freedom = len(every) * (seeds - 1)
    noise = float(((every - every.mean(axis=1, keepdims=True)) ** 2).sum()) / noise_freedom
    freedom = sum(len(values) - 1 for values in means.values())
    found: dict[str, Any] = {"noise": {"sd": math.sqrt(noise), "degrees_of_freedom": noise_freedom}}
    if not freedom:
        return found
    pooled = sum(float(((values - values.mean()) ** 2).sum()) for values in means.values()) / freedom
    found["between_runs"] = {
        "sd": math.sqrt(max(pooled - noise / seeds, 0.0)),
        "sd_of_means": math.sqrt(pooled),
        "degrees_of_freedom": freedom,
        "p": float(f_distribution.sf(pooled * seeds / noise, freedom, noise_freedom)),
    }
    whole = np.concatenate(list(means.values()))
    explained = sum(len(values) * (values.mean() - whole.mean()) ** 2 for values in means.values())
    ratio = float(explained) / (len(means) - 1) / pooled if len(means) > 1 else math.nan
    found["any_difference"] = {"f": ratio, "p": float(f_distribution.sf(ratio, len(means) - 1, freedom))}
    pairs = {}
    for ours, theirs in combinations(means, 2):
        error = math.sqrt(pooled * (1 / len(means[ours]) + 1 / len(means[theirs])))
        pairs[f"{ours} over {theirs}"] = estimate(means[ours].mean() - means[theirs].mean(), error, freedom)
    for pair, p in zip(pairs.values(), holm([pair["p"] for pair in pairs.values()]), strict=True):
        pair["p_holm"] = p
    found["pairs"] = pairs
    chance = random.mean(axis=1)
    drawn = float(chance.var(ddof=1)) / len(chance)
    found["over_the_random_mean"] = {
        name: estimate(
            values.mean() - chance.mean(),
            math.sqrt(pooled / len(values) + drawn),
            (pooled / len(values) + drawn) ** 2
            / ((pooled / len(values)) ** 2 / freedom + drawn**2 / (len(chance) - 1)),
        )
        for name, values in means.items()
    }
    return found


def estimate(value: float, error: float, freedom: float) -> dict[str, Any]:
    """A difference with its 95 % interval."""
    low, high, p = student_interval(float(value), error, freedom)
    return {"value": float(value), "low": low, "high": high, "degrees_of_freedom": round(freedom, 1), "p": p}


@drawn
def plot(searches: Mapping[str, Numbers], random: Numbers) -> Figure:
    """Every training, a row for each network; a bar is the mean of a row, the line that of the random networks."""
    rows = [(name, values, light("blue")) for name, found in searches.items() for values in found]
    rows += [("random networks", values, light("muted")) for values in random[np.argsort(-random.mean(axis=1))]]
    figure = Figure(figsize=(WIDTH, 0.8 + 0.2 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (_, values, tone) in enumerate(rows):
        axes.plot(100 * values, [place] * len(values), "o", color=tone, markersize=4, alpha=0.6)
        axes.plot([100 * values.mean()] * 2, [place - 0.35, place + 0.35], color=tone, linewidth=2)
    axes.axvline(100 * random.mean(), color=light("muted"), linewidth=0.8, linestyle="--")
    names = [name for name, _, _ in rows]
    axes.set_yticks([names.index(name) for name in dict.fromkeys(names)], list(dict.fromkeys(names)))
    axes.invert_yaxis()
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.set_xlabel("test accuracy (%), a dot for each training; dashed: the mean of the random networks")
    return figure


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Train what is missing, and say what all of it tells."""
    runs = sorted((Run.load(folder) for folder in options.runs), key=lambda run: (run.config.name, run.config.seed))
    controls = alike(runs)
    rows = train(runs, controls.seeds, options)
    searches = {
        name: np.array([row for run, row in zip(runs, rows, strict=True) if run.config.name == name])
        for name in dict.fromkeys(run.config.name for run in runs)
    }
    networks = [network for network in controls.networks if network.kind == "random"]
    random = np.array([[network.accuracies[str(seed)] for seed in controls.seeds] for network in networks], dtype=float)
    found = told_apart(searches, random)
    shown = Table("search over the mean of the random networks, or another", "points", "95 %", "p")
    for name, one in {**found.get("over_the_random_mean", {}), **found.get("pairs", {})}.items():
        low, high = 100 * one["low"], 100 * one["high"]
        shown.add_row(name, f"{100 * one['value']:+.2f}", f"{low:+.2f} to {high:+.2f}", f"{one['p']:.2g}")
    Console(width=120).print(shown)
    write_atomic(options.out / "search_seeds.png", figure_png(plot(searches, random)))
    return {
        "benchmark": "search_seeds",
        "seeds": list(controls.seeds),
        "random": random.tolist(),
        "runs": [
            {
                "name": run.config.name,
                "seed": run.config.seed,
                "seconds": round(run.result.search.seconds, 1),
                "costs": run.result.search.decodes[0].costs,
                "picks": run.answer.architecture.as_dict(),
                "accuracies": row,
                "commit": run.result.environment.commit and run.result.environment.commit.hash,
                "time": run.result.environment.time,
            }
            for run, row in zip(runs, rows, strict=True)
        ],
        **found,
    }


@one_line_errors()
def main() -> None:
    """Train, and print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of finished searches")
    parser.add_argument("--data-dir", type=Path, help="of the images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings and of what they tell")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each on one core")
    options = parser.parse_args()
    torch.set_num_threads(options.jobs)
    tune_allocator()
    found = compare(options)
    write_json(options.out / "search_seeds.json", found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
