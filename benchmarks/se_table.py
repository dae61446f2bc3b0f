"""Question: where does SE pay? Trains all 243 placements of SE in the five blocks of `search_spaces/se_table.yaml`.

  python benchmarks/se_table.py train FOLDER --data-dir DIR   # in any number of processes; what is done is not redone
  python benchmarks/se_table.py train FOLDER --data-dir DIR --pilot   # 3 networks with 5 seeds, and 10 with one
  python benchmarks/se_table.py train FOLDER --data-dir DIR --only 00000 11111   # without SE, and ratio 4 everywhere
  python benchmarks/se_table.py time FOLDER   # latencies, in both runtimes in turns; on a quiet machine
  python benchmarks/se_table.py merge FOLDER --out runs/results/se_table/table.json

Every network is trained by one recipe on all training images of CIFAR-10, with each of the --seeds, and looked at on
the test images once. A training is one file in FOLDER/trainings, written when it is done, and a lock file while it goes
on; one that was killed goes on from its last checkpoint. The networks come in a random order, the first seed of all
before the second, so that a part of the table is a fair sample too. The folder keeps its recipe: --set of another one
is refused. `merge` writes a `NetworkTable`, which `evaluator: table` of a run file reads. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from se_nas.cli.options import parse_changes
from se_nas.cost.counts import network_counts
from se_nas.cost.latency.timing import latency_conditions, latency_key, measure_networks
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import load_test, load_train
from se_nas.errors import SeNasError
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.environment import describe_environment
from se_nas.records.fields import Amount, Metric, Seconds, Seed, Share
from se_nas.records.locks import locked
from se_nas.records.models.certificate import LatencyConditions
from se_nas.records.models.environment import Environment
from se_nas.records.models.network_table import NetworkTable, TableNetwork, TableNoise, TableSpace
from se_nas.records.record import Record, read_record, write_record
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space
from se_nas.training.in_memory import train_network
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
    version: Literal[1] = 1
    space: TableSpace
    data: str
    recipe: dict[str, Any]


class Training(Record):
    """One training, when it is done.

    Attributes:
        accuracy: on the test images.
        training_accuracy: on the training images as they were augmented, in the last epoch.
    """

    picks: dict[str, Any]
    seed: Seed
    accuracy: Share
    training_accuracy: Share | None
    train_images: int
    test_images: int
    seconds: Seconds
    cpu_seconds: Seconds
    environment: Environment


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


def train(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train what nobody has trained or is training."""
    space = load_space(SPACE)
    recipe = load_recipe("small-images", {**CHANGES, **parse_changes(options.set)})
    check_plan(folder, space, recipe)
    places = {
        (a, seed): f"{key_of(space, a)}-{seed}" for a, seed in jobs(space, options.seeds, options.pilot, options.only)
    }
    left = {job: name for job, name in places.items() if not (folder / "trainings" / f"{name}.json").exists()}
    done = 0
    if left:  # else the images are not read
        images = DataOptions(DATA, options.data_dir, space.resolutions[0])
        info, train_set = load_train(images)
        test_set = load_test(images)
    for (architecture, seed), name in left.items():
        target, work = folder / "trainings" / f"{name}.json", folder / "work" / name
        with locked(folder / "work" / f"{name}.lock", wait=False) as ours:
            if not ours or target.exists():
                continue
            environment = describe_environment("cpu")
            trained = train_network(
                space.resolve(architecture),
                recipe,
                info,
                train_set,
                test_set,
                device=torch.device("cpu"),
                seed=seed,
                folder=work,
                resume=True,
                progress=False,
                console=Console(quiet=True),
            )
            training = Training(
                picks=architecture.as_dict(),
                seed=seed,
                accuracy=trained.test_accuracy,
                training_accuracy=trained.history[-1].accuracy,
                train_images=len(train_set),
                test_images=trained.test_images,
                seconds=round(trained.seconds, 1),
                cpu_seconds=round(trained.cpu_seconds, 1),
                environment=environment,
            )
            write_record(target, training)
            shutil.rmtree(work)
            done += 1
            print(f"{name}: {training.accuracy:.2%} of the test images, {training.seconds:.0f} s", flush=True)
    return {"trained": done, **figures(read_trainings(folder))}


def read_trainings(folder: Path) -> list[Training]:
    """All that are done."""
    return [read_record(Training, path) for path in sorted((folder / "trainings").glob("*.json"))]


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


def figures(trainings: Sequence[Training]) -> dict[str, Any]:
    """What is known so far: how many trainings, their noise beside the spread of networks trained once, their cost."""
    by_network: dict[str, dict[int, float]] = {}
    for training in trainings:
        by_network.setdefault(json.dumps(training.picks), {})[training.seed] = training.accuracy
    repeated = [list(found.values()) for found in by_network.values() if len(found) > 1]
    first = [[found[0]] for found in by_network.values() if 0 in found]
    return {
        "trainings": len(trainings),
        "networks": len(by_network),
        "sd_between_seeds": noise_of(repeated).between_seeds if repeated else None,
        "sd_between_networks_of_seed_0": noise_of(first).between_networks if first else None,
        "mean_accuracy": round(float(np.mean([t.accuracy for t in trainings])), 4) if trainings else None,
        "cpu_seconds_a_training": round(float(np.mean([t.cpu_seconds for t in trainings])), 1) if trainings else None,
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
    trainings = read_trainings(folder)
    if not trainings:
        raise SystemExit(f"{folder}: must hold a finished training, but holds none")
    latency = read_record(Latencies, folder / "latency.json") if (folder / "latency.json").exists() else None
    by_network: dict[Architecture, list[Training]] = {}
    for training in sorted(trainings, key=lambda training: training.seed):
        by_network.setdefault(space.architecture(training.picks), []).append(training)
    networks = []
    for i, architecture in enumerate(space.enumerate()):
        if architecture not in by_network:
            continue
        counts = network_counts(space.resolve(architecture))
        timed = {} if latency is None else {metric: ms[i] for metric, ms in latency.milliseconds.items()}
        found = by_network[architecture]
        networks.append(
            TableNetwork(
                picks=architecture.as_dict(),
                accuracies={str(training.seed): training.accuracy for training in found},
                costs={"macs": counts.macs, "params": counts.params, **timed},
                cpu_seconds=round(sum(training.cpu_seconds for training in found), 1),
            )
        )
    table = NetworkTable(
        space=plan.space,
        data=plan.data,
        train_images=trainings[0].train_images,
        test_images=trainings[0].test_images,
        recipe=plan.recipe,
        noise=noise_of([list(network.accuracies.values()) for network in networks]),
        cpu_seconds=round(sum(network.cpu_seconds for network in networks), 1),
        latency={} if latency is None else latency.conditions,
        environments=distinct(
            [training.environment for training in trainings] + ([latency.environment] if latency else [])
        ),
        networks=tuple(networks),
    )
    write_record(out, table)
    return {"networks": len(networks), "of": space.size, "noise": table.noise.plain(), **figures(trainings)}


def distinct(environments: Sequence[Environment]) -> tuple[Environment, ...]:
    """Of those that differ in nothing but load and time, the first."""
    found: dict[str, Environment] = {}
    for environment in sorted(environments, key=lambda environment: environment.time):
        same = environment.model_copy(update={"load": None, "time": ""})
        found.setdefault(json.dumps(same.plain()), environment)
    return tuple(found.values())


def main() -> None:
    """Do a part of the work; print lines for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "time", "merge"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-dir", type=Path, help="of CIFAR-10, for `train`")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--pilot", action="store_true", help="train the pilot's networks alone")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="KEY", help="train these: a digit a block, 0 for no SE"
    )
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="a value of the recipe; in a new folder")
    parser.add_argument("--out", type=Path, help="file of the table, for `merge`")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    try:
        if options.part == "train":
            found = train(options.folder, options)
        elif options.part == "time":
            found = time_latencies(options.folder)
        else:
            found = merge(options.folder, options.out or options.folder / "table.json")
    except SeNasError as error:
        raise SystemExit(str(error)) from error
    print(json.dumps({"benchmark": "se_table", **found}))


if __name__ == "__main__":
    main()
