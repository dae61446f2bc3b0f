"""Claim: the sandwich rule, soft answers, BestUp, WorstUp, a teacher and an average each make a supernet rank better.

Supernets of NAS-Bench-Macro are trained on some of CIFAR-10's images, one for each way and seed, all with equal work:
as many forward and backward passes of a subnet over an image, where a forward pass alone, by which BestUp and WorstUp
look at their candidates and a teacher answers, counts a third. The teacher is the largest subnet of the sandwich rule's
supernet, whose own training is not counted. Two ways keep a running average of their weights, which is judged too.
Random networks, the same for all, are judged with inherited weights and recalibrated batch norms, and ranked beside the
published accuracies of 32x32 pixels. A seed gives all ways the same first weights and the same images.

The table and CIFAR-10 are those of `supernet_ranking.py`. Run:
python benchmarks/supernet_options.py TABLE.json --data-dir DIR --work FOLDER [--results FOLDER].
Training and judging go on from what FOLDER holds; the results are written after each supernet. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ends import one_line_errors
from nas_bench_macro import SPACE, MacroTable, load_table
from supernet_ranking import Numbers, PrefixTree, Rows, judged, make_problem

from se_nas.evidence.statistics import kendall, kendall_gain, paired_difference
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.environment import describe_environment
from se_nas.records.checkpoint import load_checkpoint
from se_nas.records.files import write_json
from se_nas.search.budgets.decode import greatest_cost
from se_nas.search.one_shot.config import OneShotConfig
from se_nas.search.one_shot.inheritance import calibration_batches, inherit
from se_nas.search.one_shot.training import train_one_shot
from se_nas.search.one_shot.weight_training import CHECKPOINT
from se_nas.search.problem import SearchProblem
from se_nas.space.yaml.file import load_space
from se_nas.supernet.supernet import SuperNet

TEACHER = "sandwich, kl"
"""The way whose largest subnet, of the same seed, is the teacher."""
WAYS: dict[str, tuple[dict[str, Any], float]] = {
    "uniform": ({"sampling": "uniform"}, 1),
    "sandwich, labels": ({"sampling": "sandwich", "distillation": "none"}, 3),
    "sandwich, kl": ({"sampling": "sandwich", "distillation": "kl"}, 3),
    "sandwich, alpha": ({"sampling": "sandwich", "distillation": "alpha"}, 3),
    "best_up, kl": ({"sampling": "best_up", "distillation": "kl"}, 4),
    "worst_up, kl": ({"sampling": "worst_up", "distillation": "kl"}, 4),
    "uniform, teacher": ({"sampling": "uniform", "distillation": "kl", "teacher": TEACHER}, 4 / 3),
}
"""The changes of a way, and its work in one step: largest, smallest and one more, of three candidates."""
#: What an option is compared with, each with its baseline.
PAIRS = {
    "sandwich": ("sandwich, labels", "uniform"),
    "in-place distillation, kl": ("sandwich, kl", "sandwich, labels"),
    "alpha in place of kl": ("sandwich, alpha", "sandwich, kl"),
    "best_up": ("best_up, kl", "sandwich, kl"),
    "worst_up": ("worst_up, kl", "sandwich, kl"),
    "teacher": ("uniform, teacher", "uniform"),
}
AVERAGED = ("uniform", "sandwich, kl")
"""Ways whose running average of the weights is judged too."""
WORK = 12
"""Passes over each image, a multiple of every way's work in a step."""
VALIDATION = 1000
TRAINING_IMAGES = 50_000


def problem_of(options: argparse.Namespace, way: str, seed: int) -> SearchProblem:
    """Some of CIFAR-10's images at 16x16 pixels; the seed says which."""
    share, held_out = options.images / 2 / TRAINING_IMAGES, VALIDATION / TRAINING_IMAGES
    parts = {"weights": share, "choices": share, "validation": held_out, "unused": 1 - 2 * share - held_out}
    space = replace(load_space(SPACE), resolution=options.resolution)
    folder = options.work / way.replace(", ", "_") / str(seed)
    return make_problem(space, options.data_dir, folder, seed, options.device, parts)


def last_supernet(problem: SearchProblem) -> SuperNet:
    """With the weights that its training ended with."""
    supernet = SuperNet(problem.space)
    supernet.load_state_dict(load_checkpoint(problem.folder / CHECKPOINT)["parts"]["supernet"])
    return supernet.to(problem.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def supernet_of(options: argparse.Namespace, way: str, seed: int, rows: Rows) -> dict[str, Any]:
    """What is told of one supernet, with the accuracies of the rows by its weights of the end and their average."""
    changes, work = WAYS[way]
    problem = problem_of(options, way, seed)
    config = OneShotConfig(
        **changes,
        random_subnets=1,
        epochs=round(WORK / work),
        validate_every=round(WORK / work),
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        average_decay=options.average_decay if way in AVERAGED else None,
        calibration_images=options.calibration_images,
    )
    load, images = os.getloadavg()[0], problem.images()
    if config.teacher is not None:
        largest = greatest_cost(problem.space, problem.tables, "macs").architecture
        taught = last_supernet(problem_of(options, config.teacher, seed))
        teacher = inherit(taught, largest, images, problem, options.calibration_images).eval()
        problem = replace(problem, teacher=lambda: teacher)
    trained = train_one_shot(problem, config)
    last = last_supernet(problem)
    calibration = list(calibration_batches(images, problem, options.calibration_images))
    validation = list(images.evaluate_batches(problem.parts["validation"], 500))
    accuracies = {}
    for name, supernet in [("last", last), *([("average", trained.supernet)] if way in AVERAGED else [])]:
        tree = PrefixTree(supernet, calibration, validation)
        key = f"{config} of {options.images} images"
        accuracies[name] = judged(problem.folder / f"accuracies_{name}.json", key, tree, rows)[0].tolist()
    return {
        "epochs": config.epochs,
        "steps": config.epochs * (options.images // options.batch_size),
        "seconds": round(trained.seconds),
        "cpu_seconds": round(trained.cpu_seconds),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "largest_accuracy": trained.history[-1].of("largest_accuracy"),
        "smallest_accuracy": trained.history[-1].of("smallest_accuracy"),
        "accuracies": accuracies,
    }


# ---- told


def told(supernets: Mapping[str, Mapping[str, Any]], true: Numbers, macs: Numbers) -> dict[str, Any]:
    """Each way's tau and mean accuracy by seed, and each option's differences from its baseline, over the seeds."""
    taus: dict[str, dict[str, float]] = {}
    ways: dict[str, Any] = {}
    for name, by_seed in supernets.items():
        for kind in ("last", "average") if name in AVERAGED else ("last",):
            found = {seed: np.array(entry["accuracies"][kind]) for seed, entry in by_seed.items()}
            estimates = {seed: kendall(values, true) for seed, values in found.items()}
            taus[f"{name} {kind}"] = {seed: estimate.value for seed, estimate in estimates.items()}
            ways[f"{name} {kind}"] = {
                "tau": {seed: estimate.entry.plain() for seed, estimate in estimates.items()},
                "mean_tau": float(np.mean([estimate.value for estimate in estimates.values()])),
                "mean_accuracy": {seed: float(values.mean()) for seed, values in found.items()},
            }
    pairs = {name: (f"{one} last", f"{other} last") for name, (one, other) in PAIRS.items()}
    pairs |= {f"average of {name}": (f"{name} average", f"{name} last") for name in AVERAGED}
    gains = {}
    for name, (one, other) in pairs.items():
        seeds = sorted(taus.get(one, {}).keys() & taus.get(other, {}).keys())
        if not seeds:
            continue
        gains[name] = {
            "of": one,
            "over": other,
            "each": {seed: _gain(supernets, one, other, seed, true) for seed in seeds},
            "accuracy": {seed: ways[one]["mean_accuracy"][seed] - ways[other]["mean_accuracy"][seed] for seed in seeds},
            "over_seeds": paired_difference(
                [taus[one][seed] for seed in seeds], [taus[other][seed] for seed in seeds]
            ).entry.plain()
            if len(seeds) > 1
            else None,
        }
    return {"macs_alone": kendall(macs, true).entry.plain(), "ways": ways, "gains": gains}


def _gain(supernets: Mapping[str, Mapping[str, Any]], one: str, other: str, seed: str, true: Numbers) -> dict[str, Any]:
    """Of one seed, with an interval over the networks."""
    found = []
    for words in (one, other):
        way, kind = words.rsplit(" ", 1)
        found.append(np.array(supernets[way][seed]["accuracies"][kind]))
    plain: dict[str, Any] = kendall_gain(found[0], found[1], true).entry.plain()
    return plain


def markdown(outcome: Mapping[str, Any]) -> list[str]:
    """A table of the ways and one of the gains."""
    lines = ["| way | tau of each seed | mean accuracy of each seed, % |", "| --- | --- | --- |"]
    for name, entry in outcome["ways"].items():
        each = ", ".join(f"{tau['value']:.3f}" for tau in entry["tau"].values())
        accuracies = ", ".join(f"{100 * value:.1f}" for value in entry["mean_accuracy"].values())
        lines.append(f"| {name} | {each} | {accuracies} |")
    lines += ["", "| option | gain in tau of each seed | gain in mean accuracy, points |", "| --- | --- | --- |"]
    for name, entry in outcome["gains"].items():
        each = ", ".join(f"{gain['value']:+.3f}" for gain in entry["each"].values())
        accuracies = ", ".join(f"{100 * value:+.1f}" for value in entry["accuracy"].values())
        lines.append(f"| {name} | {each} | {accuracies} |")
    return lines


def outcome_of(
    options: argparse.Namespace, environment: Mapping[str, Any], table: MacroTable, of: Rows, supernets: dict[str, Any]
) -> dict[str, Any]:
    """All that the results hold."""
    settings = (
        "images",
        "batch_size",
        "learning_rate",
        "average_decay",
        "resolution",
        "networks",
        "calibration_images",
    )
    return {
        "benchmark": "supernet_options",
        "environment": dict(environment),
        "table_sha256": hashlib.sha256(table.json_lines().encode()).hexdigest(),
        "settings": {
            "work": WORK,
            "validation_images": VALIDATION,
            **{name: getattr(options, name) for name in settings},
        },
        **told(supernets, table.means[of], table.costs["macs"][of]),
        "supernets": supernets,
    }


@one_line_errors()
def main() -> None:
    """Train the supernets, seed by seed, and print tables for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the published file, or that packed as .xz or .gz")
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder that holds CIFAR-10's")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for checkpoints and accuracies")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="write options.json there")
    parser.add_argument("--images", type=int, default=11_250, help="training images")
    parser.add_argument("--networks", type=int, default=200, help="random networks to judge")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--average-decay", type=float, default=0.98)
    parser.add_argument("--resolution", type=int, default=16, help="pixels")
    parser.add_argument("--calibration-images", type=int, default=512, help="for each network's norms")
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps or xpu")
    parser.add_argument("--threads", type=int, help="of the CPU; all unless given")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    tune_allocator()
    environment = describe_environment().plain()
    table = load_table(options.table)
    rows = table.rows
    of = np.sort(np.random.default_rng(0).choice(len(rows), options.networks, replace=False))
    supernets: dict[str, Any] = {name: {} for name in WAYS}
    outcome: dict[str, Any] = {}
    for seed in range(options.seeds):
        for way in WAYS:
            supernets[way][str(seed)] = supernet_of(options, way, seed, rows[of])
            known = {name: by_seed for name, by_seed in supernets.items() if by_seed}
            outcome = outcome_of(options, environment, table, of, known)
            if options.results:
                write_json(options.results / "options.json", outcome)
    print("\n".join(markdown(outcome)))
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
