"""Question: does one search find better networks than another, or had it a lucky seed, or are its networks larger?

  se-nas search RUN_FILE --set seed=2 --set evidence=null --out FOLDER/a_2 ...    # each search with each seed
  python benchmarks/search_seeds.py FOLDER/a_1 FOLDER/a_2 FOLDER/b_1 FOLDER/b_2 --data-dir DIR --out FOLDER

Runs that share the name of their run file are the same search with another seed. One of them at least has evidence with
random networks. Every answer is trained by their recipe with the first --seeds of this evidence, where neither evidence
nor the retraining of its run says what comes out. --full N trains so many further random networks too, which use 90 %
of every budget: those of evidence need use 90 % of one alone, and a larger network may be a better one. Give the
command any number of times at once; what is done is not done again, and what was killed goes on.

An answer is worth its mean over these seeds. Searches are told apart by how much answers of one search differ, pooled
over the searches (one-way analysis of variance and Student's t), and from the mean of random networks by that and by
how much these differ (Satterthwaite, Biometrics Bulletin 2, 1946, 110-114): those of the evidence, those that are full,
and what a line on the logarithm of the parameters through all of them says of networks of the answers' size. So what
another seed of the search would give is in every interval. `p_holm` counts how many comparisons stand together. The
last line is one JSON object, also in --out as search_seeds.json, beside a figure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ends import one_line_errors
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from search_seeds_told import Line, Networks, Numbers, estimate, told_apart

from se_nas.cost.budget import parse_budgets
from se_nas.cost.counts import network_counts
from se_nas.cost.table import count_tables
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import is_fixed
from se_nas.errors import ConfigError
from se_nas.evidence.controls import FULL, RandomFeasible
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.environment import describe_environment
from se_nas.records.files import write_atomic, write_json
from se_nas.records.models.evidence import ControlEntry, ControlsPart
from se_nas.records.models.run_result import RunResult
from se_nas.records.record import read_record
from se_nas.report.plots.figure import WIDTH, drawn, figure_png
from se_nas.report.theme.palette import light
from se_nas.runs.evidence.trainings import Task, Trainings
from se_nas.runs.run_file import RunConfig, load_run
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import ArchitectureFile, load_architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import load_space

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "cifar_tiny.yaml"
FULL_SEED, FULL_DRAWS = 0, 5000
"""Of the draws of full networks, and how many are looked at."""


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
            found |= _known(answer)
        return found

    @property
    def random(self) -> list[ControlEntry]:
        """The random networks of its evidence."""
        return [network for network in self.controls.networks if network.kind == "random"] if self.controls else []


def _known(network: ControlEntry) -> dict[int, float]:
    return {int(seed): value for seed, value in network.accuracies.items() if value is not None}


def check_alike(runs: Mapping[Path, Run]) -> Run:
    """The first that has random networks, once it is sure that all can be compared.

    Raises:
        ConfigError: they are not of one recipe, data set, space and budgets, a search differs in more than its seed,
            images depend on the seed, or no run has two random networks with two seeds.
    """
    first = next(iter(runs.values()))
    seen: dict[str, list[RunConfig]] = {}
    for folder, run in runs.items():
        config, others = run.config, seen.setdefault(run.config.name, [])
        pairs = [
            ("retrain", config.retrain, first.config.retrain),
            ("budgets", config.budgets, first.config.budgets),
            ("data", config.data.name, first.config.data.name),
            ("space", run.result.space.digest, first.result.space.digest),
        ]
        if others:
            pairs += [
                (name, getattr(config, name), getattr(others[0], name)) for name in ("search", "finalists", "parts")
            ]
        faults = [
            f"{name}: must be that of {first.config.name}, but is another" for name, mine, of in pairs if mine != of
        ]
        if config.seed in {other.seed for other in others}:
            faults.append(f"seed: must be another for each run of {config.name}, but {config.seed} comes twice")
        if (
            config.retrain is None
            or not is_fixed(config.data.name)
            or run.result.environment.device not in (None, "cpu")
        ):
            faults.append(
                "must have a recipe (retrain), images that do not depend on its seed, and be a run of the CPU"
            )
        if faults:
            raise ConfigError(str(folder), faults)
        others.append(config)
    for run in runs.values():
        if len(run.random) > 1 and run.controls is not None and len(run.controls.seeds) > 1:
            return run
    raise ConfigError(first.config.name, ["evidence: one run must have two random networks with two seeds or more"])


def full_networks(config: RunConfig, space: SearchSpace, count: int) -> list[NetworkSpec]:
    """Random networks as evidence draws them, of these the first that use 90 % of every budget."""
    tables, budgets = count_tables(space), parse_budgets(config.budgets, config.name)
    random = RandomFeasible(space, tables, budgets, FULL_SEED)
    found: dict[Architecture, None] = {}
    for i in range(FULL_DRAWS if count else 0):
        drawn_network = random.draw(i)
        if all(tables[one.metric].cost(drawn_network) >= FULL * one.limit for one in budgets):
            found.setdefault(drawn_network)
        if len(found) == count:
            break
    return [space.resolve(architecture) for architecture in found]


def trained(
    config: RunConfig,
    networks: Sequence[NetworkSpec],
    known: Sequence[Mapping[int, float]],
    seeds: Sequence[int],
    options: argparse.Namespace,
) -> Numbers:
    """(networks, seeds) test accuracies; what is not known is trained, the first seed of all before the second."""
    assert config.retrain is not None
    images = DataOptions(config.data.name, options.data_dir, networks[0].resolution)
    trainings = Trainings(options.out / "trainings", config.retrain, images, "cpu")
    both = list(zip(networks, known, strict=True))
    missing = [Task(network, seed) for seed in seeds for network, found in both if seed not in found]
    if left := trainings.left(missing):
        print(f"{len(left)} trainings to do", flush=True)
    trainings.train(missing, options.jobs, progress=True)
    for task in missing:
        if failure := trainings.failure(task):
            raise SystemExit(f"a training with seed {task.seed} diverged ({failure}); take other --seeds or runs")
    rows = [[found.get(seed) or trainings.accuracy(Task(network, seed)) for seed in seeds] for network, found in both]
    return np.array(rows, dtype=float)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Train what is missing, and say what all of it tells."""
    runs = {folder: Run.load(folder) for folder in options.runs}
    judged_by = check_alike(runs)
    assert judged_by.controls is not None
    seeds = judged_by.controls.seeds[: options.seeds]
    ordered = sorted(runs.values(), key=lambda run: (run.config.name, run.config.seed))
    full = full_networks(judged_by.config, load_space(options.space), options.full)
    networks = [*(run.answer.network for run in ordered), *full]
    rows = trained(judged_by.config, networks, [*(run.known for run in ordered), *({} for _ in full)], seeds, options)
    sizes = np.array([network_counts(network).params for network in networks], dtype=float)
    searches = {}
    for name in dict.fromkeys(run.config.name for run in ordered):
        places = [place for place, run in enumerate(ordered) if run.config.name == name]
        searches[name] = Networks(rows[places], sizes[places])
    of_evidence = [(network, _known(network)) for network in judged_by.random]
    random = {
        "of the evidence": Networks(
            np.array([[found[seed] for seed in seeds] for _, found in of_evidence if set(seeds) <= set(found)]),
            np.array([one.costs.params for one, found in of_evidence if set(seeds) <= set(found)], dtype=float),
        )
    }
    if len(full) > 1:
        random["full"] = Networks(rows[len(ordered) :], sizes[len(ordered) :])
    found = told_apart(searches, random)
    show(found)
    write_atomic(options.out / "search_seeds.png", figure_png(plot(searches, random)))
    return {
        "benchmark": "search_seeds",
        "seeds": list(seeds),
        "runs": [
            {
                "name": run.config.name,
                "seed": run.config.seed,
                "seconds": round(run.result.search.seconds, 1),
                "costs": run.result.search.decodes[0].costs,
                "picks": run.answer.architecture.as_dict(),
                "blocks": len(run.answer.network.blocks),
                "with_se": sum(block.se is not None for block in run.answer.network.blocks),
                "accuracies": row.tolist(),
                "commit": run.result.environment.commit and run.result.environment.commit.hash,
                "time": run.result.environment.time,
            }
            for run, row in zip(ordered, rows, strict=False)
        ],
        "networks": {
            name: [
                {"params": int(size), "accuracies": row.tolist()}
                for row, size in zip(some.accuracies, some.parameters, strict=True)
            ]
            for name, some in random.items()
        },
        **found,
        "environment": describe_environment().plain(),
    }


def show(found: Mapping[str, Any]) -> None:
    """A table for people."""
    shown = Table("in points", "difference", "95 %", "p", "p (Holm)")
    groups = {"{}": found.get("pairs", {})}
    for name, some in found["random"].items():
        groups[f"{{}} over the mean of the random networks ({name})"] = some.get("answers_over_their_mean", {})
    groups["{} over random networks of its size"] = found["by_size"].get("answers_over_it", {})
    for words, estimates in groups.items():
        for name, one in estimates.items():
            value, low, high = (f"{100 * one[end]:+.2f}" for end in ("value", "low", "high"))
            shown.add_row(words.format(name), value, f"{low} to {high}", f"{one['p']:.2g}", f"{one['p_holm']:.2g}")
    Console(width=140).print(shown)


@drawn
def plot(searches: Mapping[str, Networks], random: Mapping[str, Networks]) -> Figure:
    """Accuracy by size, a dot for each network, with the line through the random ones and its 95 %."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    every = np.concatenate([some.parameters for some in (*searches.values(), *random.values())])
    line = Line(Networks.of(random.values()))
    at = np.linspace(np.log2(every.min()), np.log2(every.max()), 50)
    ends = [estimate(value, variance**0.5, line.freedom) for value, variance in map(line.at, at)]
    values, lows, highs = ([100 * one[end] for one in ends] for end in ("value", "low", "high"))
    axes.fill_between(2**at / 1e3, lows, highs, color=light("muted"), alpha=0.15, linewidth=0)
    axes.plot(2**at / 1e3, values, color=light("muted"), linewidth=1, label="line through the random networks, 95 %")
    for (name, some), mark in zip(random.items(), ("o", "s"), strict=False):
        label = f"random networks, {name}"
        axes.plot(some.parameters / 1e3, 100 * some.worth, mark, color=light("muted"), markersize=5, label=label)
    for (name, some), tone in zip(searches.items(), ("blue", "orange", "green", "red"), strict=False):
        axes.plot(some.parameters / 1e3, 100 * some.worth, "D", color=light(tone), markersize=7, label=name)
    axes.set_xlabel("parameters (thousands)")
    axes.set_ylabel("test accuracy (%), mean over seeds")
    axes.grid(True, axis="both")
    figure.legend(loc="outside right upper")
    return figure


@one_line_errors()
def main() -> None:
    """Train, and print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of finished searches")
    parser.add_argument("--data-dir", type=Path, help="of the images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings and of what they tell")
    parser.add_argument("--seeds", type=int, default=3, help="so many of those that the evidence has")
    parser.add_argument("--full", type=int, default=0, metavar="N", help="random networks that use up every budget")
    parser.add_argument("--space", type=Path, default=SPACE, help="of the searches, for --full; %(default)s")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each on one core")
    options = parser.parse_args()
    torch.set_num_threads(options.jobs)
    tune_allocator()
    found = compare(options)
    write_json(options.out / "search_seeds.json", found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
