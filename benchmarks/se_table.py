"""Question: where does SE pay? Trains all 243 placements of SE in the five blocks of `search_spaces/se_table.yaml`.

  python benchmarks/se_table.py train FOLDER --data-dir DIR   # in any number of processes; what is done is not redone
  python benchmarks/se_table.py train FOLDER --data-dir DIR --pilot   # 3 networks with 5 seeds, and 10 with one
  python benchmarks/se_table.py train FOLDER --data-dir DIR --only 00000 11111   # without SE, and ratio 4 everywhere
  python benchmarks/se_table.py time FOLDER   # latencies, in both runtimes in turns; on a quiet machine
  python benchmarks/se_table.py merge FOLDER --out runs/results/se_table/table.json

Every network is trained by one recipe on all training images of CIFAR-10, with each of the --seeds, and looked at on
the test images once, as `se-nas evidence` trains its controls: a training is one file in FOLDER/trainings, and one that
was killed goes on from its last checkpoint. The networks come in a random order, the first seed of all before the
second, so that a part of the table is a fair sample too. The folder keeps its recipe: --set of another one is refused.
`merge` writes a `NetworkTable`, which `evaluator: table` of a run file reads. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ends import one_line_errors

from se_nas.cli.options import parse_changes
from se_nas.cost.counts import network_counts
from se_nas.cost.latency.timing import latency_conditions, latency_key, measure_networks
from se_nas.data.in_memory.options import DataOptions
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.environment import describe_environment
from se_nas.records.fields import Amount, Metric
from se_nas.records.locks import locked
from se_nas.records.models.certificate import LatencyConditions
from se_nas.records.models.environment import Environment
from se_nas.records.models.evidence import TrainingRecord
from se_nas.records.models.network_table import NetworkTable, TableNetwork, TableNoise, TableSpace
from se_nas.records.record import Record, read_record, write_record
from se_nas.runs.evidence.trainings import Task, Trainings
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import load_recipe, stored_recipe

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "se_table.yaml"
DATA = "cifar10"
SEEDS = (0, 1)
CHANGES: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 128,
    "learning_rate": 0.2,
    "warmup_epochs": 0.5,
    "weight_decay": 3e-4,
    "label_smoothing": 0.0,
    "evaluate_every": 1000,
}
"""How the recipe differs from the shipped `small-images`; networks as small as these underfit, so that little is
regularised. Of what was tried in as much time only a last norm that begins with 0 had more, by 0.15 points
(runs/NOTES.md, point 17)."""
PILOT_REPEATED, PILOT_SEEDS, PILOT_ONCE = 3, 5, 10
"""Networks that a pilot trains with several seeds, how many, and those that it trains with one."""
RUNTIMES = ("eager", "onnxruntime")
VISITS, ROUNDS = 5, 40
"""Turns of each runtime, and runs of each network in one."""


class Plan(Record):
    """What the trainings of a folder have in common."""

    format: Literal["se_nas table plan"] = "se_nas table plan"
    version: Literal[2] = 2
    space: TableSpace
    data: str
    recipe: dict[str, Any]


class Latencies(Record):
    """Milliseconds of every network, in the space's order."""

    conditions: dict[Metric, LatencyConditions]
    milliseconds: dict[Metric, tuple[Amount, ...]]
    environment: Environment


def key_of(space: SearchSpace, architecture: Architecture) -> str:
    """A network's name in a folder: the place of each choice's option, such as 02100."""
    return "".join(str(choice.options.index(architecture[choice.name])) for choice in space.choices)


def in_random_order(space: SearchSpace) -> list[Architecture]:
    """All networks, in the order in which they are trained."""
    networks = list(space.enumerate())
    return [networks[i] for i in np.random.default_rng(0).permutation(len(networks))]


def jobs(
    space: SearchSpace, seeds: Sequence[int], pilot: bool, only: Sequence[str]
) -> Iterator[tuple[Architecture, int]]:
    """What is to be trained, with which seed, in order; `only` of some networks, where some are named."""
    networks = in_random_order(space)
    if only:
        named = {key_of(space, network): network for network in networks}
        if unknown := [key for key in only if key not in named]:
            raise SystemExit(
                f"--only: must be networks of {space.name} such as {next(iter(named))}, but got {unknown[0]}"
            )
        networks = [named[key] for key in only]
    if pilot:
        repeated, once = networks[:PILOT_REPEATED], networks[PILOT_REPEATED : PILOT_REPEATED + PILOT_ONCE]
        yield from ((network, seed) for seed in range(PILOT_SEEDS) for network in repeated)
        yield from ((network, 0) for network in once)
    else:
        yield from ((network, seed) for seed in seeds for network in networks)


def check_plan(folder: Path, space: SearchSpace, recipe: Recipe) -> None:
    """Write what the folder's trainings have in common, or see that it is this."""
    plan = Plan(
        space=TableSpace(name=space.name, digest=space.digest), data=DATA, recipe=recipe.model_dump(mode="json")
    )
    path = folder / "plan.json"
    with locked(folder / "plan.lock"):
        if not path.exists():
            write_record(path, plan)
            return
    found = read_record(Plan, path)
    begun = stored_recipe(path, found.recipe)  # which may lack keys that are newer than the folder
    apart = [name for name in Recipe.model_fields if getattr(begun, name) != getattr(recipe, name)]
    if apart or (found.space, found.data) != (plan.space, plan.data):
        what = f"its recipe has another {', '.join(apart)}" if apart else "it is of another space or data set"
        raise SystemExit(f"{path}: must be the plan of these trainings, but {what}; choose another folder")


def trainings_in(folder: Path, recipe: Recipe, data_dir: Path | None = None) -> Trainings:
    """Those of a folder; `data_dir` is needed to train."""
    return Trainings(folder / "trainings", recipe, DataOptions(DATA, data_dir, load_space(SPACE).resolutions[0]), "cpu")


def train(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train what is not trained, wait for what other processes train, and say what all of it tells."""
    space = load_space(SPACE)
    recipe = load_recipe("small-images", {**CHANGES, **parse_changes(options.set)})
    check_plan(folder, space, recipe)
    wanted = jobs(space, options.seeds, options.pilot, options.only)
    tasks = [Task(space.resolve(architecture), seed) for architecture, seed in wanted]
    trainings = trainings_in(folder, recipe, options.data_dir)
    if any(trainings.record(task) is None for task in tasks):
        environment = describe_environment("cpu")
        write_record(folder / "environments" / f"{environment.time}-{os.getpid()}.json", environment)
        trainings.train(tasks, options.jobs, progress=True)
    return figures(*read_trainings(folder))


def read_trainings(folder: Path) -> tuple[dict[Architecture, list[TrainingRecord]], int]:
    """All that are done, by network, seed by seed, and how many diverged, which are not among them."""
    space, plan = load_space(SPACE), folder / "plan.json"
    stored = trainings_in(folder, stored_recipe(plan, read_record(Plan, plan).recipe))
    seeds = sorted({record.seed for record in stored.records()})
    found: dict[Architecture, list[TrainingRecord]] = {}
    diverged = 0
    for architecture in space.enumerate():
        spec = space.resolve(architecture)
        records = [record for seed in seeds if (record := stored.record(Task(spec, seed))) is not None]
        if done := [record for record in records if record.test_accuracy is not None]:
            found[architecture] = done
        diverged += len(records) - len(done)
    return found, diverged


def noise_of(accuracies: Sequence[Sequence[float]]) -> TableNoise:
    """Of the accuracies of each network; standard deviations, in points."""
    repeated = [np.asarray(values) for values in accuracies if len(values) > 1]
    squares = sum(((values - values.mean()) ** 2).sum() for values in repeated)
    freedom = sum(len(values) - 1 for values in repeated)
    means = [float(np.mean(values)) for values in accuracies]
    return TableNoise(
        between_seeds=round(100 * float(np.sqrt(squares / freedom)), 4) if freedom else None,
        between_networks=round(100 * float(np.std(means, ddof=1)), 4) if len(means) > 1 else 0.0,
    )


def figures(trainings: Mapping[Architecture, Sequence[TrainingRecord]], diverged: int) -> dict[str, Any]:
    """What is known so far: how many trainings, their noise beside the spread of networks trained once, their cost."""
    accuracies = {a: {one.seed: one.test_accuracy or 0.0 for one in found} for a, found in trainings.items()}
    repeated = [list(found.values()) for found in accuracies.values() if len(found) > 1]
    first = [[found[0]] for found in accuracies.values() if 0 in found]
    whole = [one for found in trainings.values() for one in found]
    return {
        "trainings": len(whole),
        "diverged": diverged,
        "networks": len(trainings),
        "sd_between_seeds": noise_of(repeated).between_seeds if repeated else None,
        "sd_between_networks_of_seed_0": noise_of(first).between_networks if first else None,
        "mean_accuracy": round(float(np.mean([t.test_accuracy for t in whole])), 4) if whole else None,
        "cpu_seconds_a_training": round(float(np.mean([t.cpu_seconds for t in whole])), 1) if whole else None,
    }


def time_latencies(folder: Path) -> dict[str, Any]:
    """Time every network, all in turns and the runtimes in turns too."""
    space = load_space(SPACE)
    environment = describe_environment("cpu")
    networks = [space.resolve(architecture) for architecture in space.enumerate()]
    keys = {f"latency_ms.{runtime}": latency_key("cpu", runtime) for runtime in RUNTIMES}
    visits: dict[str, list[list[float]]] = {metric: [] for metric in keys}
    for _ in range(VISITS):
        for metric, key in keys.items():
            visits[metric].append([found.median_ms for found in measure_networks(networks, key, rounds=ROUNDS)])
    found = Latencies(
        conditions={metric: latency_conditions(key) for metric, key in keys.items()},
        milliseconds={
            metric: tuple(round(float(ms), 5) for ms in np.median(rows, axis=0)) for metric, rows in visits.items()
        },
        environment=environment,
    )
    write_record(folder / "latency.json", found)
    # what one visit says of the others: 1 where all rank the networks alike
    agreement = {
        metric: round(float(np.corrcoef(rows)[np.triu_indices(VISITS, 1)].min()), 3) for metric, rows in visits.items()
    }
    return {"networks": len(networks), "least_correlation_of_visits": agreement}


def merge(folder: Path, out: Path) -> dict[str, Any]:
    """One table of all that is done; networks without a training are left out and counted."""
    space, plan = load_space(SPACE), read_record(Plan, folder / "plan.json")
    trainings, diverged = read_trainings(folder)
    if not trainings:
        raise SystemExit(f"{folder}: must hold a finished training, but holds none")
    latency = read_record(Latencies, folder / "latency.json") if (folder / "latency.json").exists() else None
    networks = []
    for i, architecture in enumerate(space.enumerate()):
        if architecture not in trainings:
            continue
        counts = network_counts(space.resolve(architecture))
        timed = {} if latency is None else {metric: ms[i] for metric, ms in latency.milliseconds.items()}
        found = trainings[architecture]
        networks.append(
            TableNetwork(
                picks=architecture.as_dict(),
                accuracies={str(one.seed): one.test_accuracy or 0.0 for one in found},
                costs={"macs": counts.macs, "params": counts.params, **timed},
                cpu_seconds=round(sum(one.cpu_seconds or 0.0 for one in found), 1),
            )
        )
    one = next(iter(trainings.values()))[0]
    environments = [read_record(Environment, path) for path in sorted((folder / "environments").glob("*.json"))]
    table = NetworkTable(
        space=plan.space,
        data=plan.data,
        train_images=(one.images or 0) // plan.recipe["epochs"],
        test_images=one.test_images or 0,
        recipe=plan.recipe,
        noise=noise_of([list(network.accuracies.values()) for network in networks]),
        cpu_seconds=round(sum(network.cpu_seconds for network in networks), 1),
        latency={} if latency is None else latency.conditions,
        environments=distinct([*environments, *([latency.environment] if latency else [])]),
        networks=tuple(networks),
    )
    write_record(out, table)
    return {"networks": len(networks), "of": space.size, "noise": table.noise.plain(), **figures(trainings, diverged)}


def distinct(environments: Sequence[Environment]) -> tuple[Environment, ...]:
    """Of those that differ in nothing but load and time, the first."""
    found: dict[str, Environment] = {}
    for environment in sorted(environments, key=lambda environment: environment.time):
        same = environment.model_copy(update={"load": None, "time": ""})
        found.setdefault(json.dumps(same.plain()), environment)
    return tuple(found.values())


@one_line_errors()
def main() -> None:
    """Do a part of the work; print lines for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "time", "merge"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-dir", type=Path, help="of CIFAR-10, for `train`")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument(
        "--jobs", type=int, choices=range(1, 65), default=1, metavar="N", help="trainings at a time, one a core"
    )
    parser.add_argument("--pilot", action="store_true", help="train the pilot's networks alone")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="KEY", help="train these: a digit a block, 0 for no SE"
    )
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="a value of the recipe; in a new folder")
    parser.add_argument("--out", type=Path, help="file of the table, for `merge`")
    options = parser.parse_args()
    torch.set_num_threads(options.jobs)
    tune_allocator()
    if options.part == "train":
        found = train(options.folder, options)
    elif options.part == "time":
        found = time_latencies(options.folder)
    else:
        found = merge(options.folder, options.out or options.folder / "table.json")
    print(json.dumps({"benchmark": "se_table", **found}))


if __name__ == "__main__":
    main()
