"""Question: do trainings tell networks apart? Measures the noise of a training beside the spread of random networks.

  python benchmarks/regime.py RUN_FILE --data-dir DIR --out FOLDER [--networks 10 --repeated 3 --seeds 5]
  python benchmarks/regime.py RUN_FILE --data-dir DIR --out FOLDER --finished-only   # what those that are done say

Draws random networks at the run file's budgets as `se-nas evidence` does, but others than the evidence of that run will
be compared with, and trains them by its recipe: all with seed 0, then the first --repeated with the other seeds. Give
the command any number of times at once, each trains on one core what no other does, or --jobs; what is done is not
done again, and what was killed goes on from its checkpoint. Each call ends when all trainings are done. The folder
keeps its run file: another recipe takes another folder, such as with --set retrain.epochs=20.

The last line is one JSON object, also in FOLDER/regime.json: noise, spread without the noise, and their ratio, each
with its 95 % interval, as shares of the test images, as `evidence: {primary: ...}` takes them. `holds` says whether the
ratio is 3 or more.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ends import one_line_errors

from se_nas.cli.options import parse_changes
from se_nas.cost.budget import parse_budgets
from se_nas.cost.counts import network_counts
from se_nas.cost.metrics import is_latency
from se_nas.data.sources import stays_on_disk
from se_nas.errors import ConfigError
from se_nas.evidence.controls import RandomFeasible
from se_nas.evidence.pilot.regime import regime
from se_nas.hardware.allocator import tune_allocator
from se_nas.records.files import write_json
from se_nas.records.locks import locked
from se_nas.records.models.environment import Environment
from se_nas.records.models.evidence import LEAST_RATIO, EstimateEntry, TrainingRecord
from se_nas.records.record import read_record
from se_nas.runs.evidence.trainings import Task, Trainings
from se_nas.runs.prepare import Setting, make_setting
from se_nas.runs.run_file import load_run, used_metrics
from se_nas.space.architecture import Architecture

OTHER_DRAWS = 1_000_000
"""Added to the seed of the run file for the draws, so that no network of the evidence is looked at beforehand."""


def setting_of(run_file: Path, options: argparse.Namespace) -> Setting:
    """What the trainings of a folder have in common: made by the first process, which others wait for."""
    data = {} if options.data_dir is None else {"data.dir": str(options.data_dir.resolve())}
    config = load_run(run_file, {**parse_changes(options.set), **data})
    if config.retrain is None or stays_on_disk(config.data.name):
        must = "must have a recipe (`retrain`) and images that are held in memory"
        raise ConfigError(str(run_file), [f"retrain, data.name: {must}"])
    config = config.model_copy(update={"evidence": None, "finalists": None})
    if not any(is_latency(metric) for _, metric in used_metrics(config, parse_budgets(config.budgets, str(run_file)))):
        config = config.with_latencies(lambda conditions: conditions.model_copy(update={"table": False}))
    folder = options.out / "setting"
    with locked(options.out / "setting.lock"):
        begun = (folder / "config.yaml").exists()
        if begun and (other := load_run(folder / "config.yaml").retrain) != config.retrain:
            apart = [name for name, value in config.retrain if getattr(other, name) != value]
            must = "must be the recipe that the folder began with; choose another --out"
            raise ConfigError(str(run_file), [f"retrain: {must}, but it has another {', '.join(apart)}"])
        return make_setting(
            run_file, config, folder, resume=begun, progress=False, say=lambda line: print(line, flush=True)
        )


def tasks_of(setting: Setting, networks: Sequence[Architecture], repeated: int, seeds: int) -> list[Task]:
    """In the order of training: every network first."""
    specs = [setting.space.resolve(network) for network in networks]
    return [
        *(Task(spec, 0) for spec in specs),
        *(Task(spec, seed) for seed, spec in product(range(1, seeds), specs[:repeated])),
    ]


def figures(setting: Setting, trainings: Trainings, networks: Sequence[Architecture], tasks: Sequence[Task]) -> Any:
    """All that is known so far."""
    rows, accuracies, done = [], [], []
    for network in networks:
        spec = setting.space.resolve(network)
        found: dict[int, TrainingRecord] = {
            task.seed: record
            for task in tasks
            if task.network == spec and (record := trainings.record(task)) is not None
        }
        known = {seed: one.test_accuracy for seed, one in found.items() if one.test_accuracy is not None}
        counts = network_counts(spec)
        rows.append(
            {
                "picks": network.as_dict(),
                "macs": counts.macs,
                "params": counts.params,
                "accuracies": known,
                "failed": {seed: one.failed for seed, one in found.items() if one.failed is not None},
            }
        )
        accuracies.append(list(known.values()))
        done += list(found.values())
    images = next((one.test_images for one in done if one.test_images), None)
    told = regime(accuracies, resolution=1 / images if images else 0.0)
    return {
        "benchmark": "regime",
        "run": setting.config.name,
        "of": len(tasks),
        "diverged": sum(one.failed is not None for one in done),
        **told.plain(),
        "holds": told.holds,
        "least_ratio": LEAST_RATIO,
        "mean_accuracy": round(float(np.mean([value for row in accuracies for value in row])), 4)
        if told.trainings
        else None,
        "cpu_seconds_a_training": round(float(np.mean([one.cpu_seconds or 0.0 for one in done])), 1) if done else None,
        "test_images": images,
        "budgets": {budget.metric: budget.limit for budget in setting.budgets},
        "recipe": trainings.recipe.model_dump(mode="json"),
        "rows": rows,
    }


def words(name: str, found: EstimateEntry, unit: str, scale: float) -> str:
    """For people."""
    if found.value is None:
        return f"{name} not known yet"
    ends = "" if found.low is None or found.high is None else f" ({scale * found.low:.2f} to {scale * found.high:.2f})"
    return f"{name} {scale * found.value:.2f}{unit}{ends}"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train what nobody has trained or is training, and say what all of it tells."""
    setting = setting_of(options.run_file, options)
    assert setting.config.retrain is not None
    drawn = RandomFeasible(setting.space, setting.tables, setting.budgets, setting.config.seed + OTHER_DRAWS)
    networks = drawn.distinct(options.networks)
    tasks = tasks_of(setting, networks, options.repeated, options.seeds)
    trainings = Trainings(options.out / "trainings", setting.config.retrain, setting.options, setting.device.type)
    if not options.finished_only:
        trainings.train(tasks, options.jobs, progress=True)
    found: dict[str, Any] = figures(setting, trainings, networks, tasks)
    found["environment"] = read_record(Environment, options.out / "setting" / "environment.json").plain()
    write_json(options.out / "regime.json", found)
    noise, spread, ratio = (EstimateEntry.model_validate(found[name]) for name in ("noise", "spread", "ratio"))
    print(f"{found['trainings']} of {found['of']} trainings; in points, with 95 % intervals:")
    print(", ".join((words("noise", noise, "", 100), words("spread", spread, "", 100), words("ratio", ratio, "", 1))))
    return found


@one_line_errors()
def main() -> None:
    """Train, and print lines for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_file", type=Path)
    parser.add_argument("--data-dir", type=Path, help="in place of the run file's")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--repeated", type=int, default=3, help="so many of them have every seed")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes, each on one core")
    parser.add_argument("--finished-only", action="store_true", help="train nothing")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="a value of the run file; in a new folder")
    options = parser.parse_args()
    if options.repeated > options.networks:
        parser.error(f"--repeated: must be at most --networks, {options.networks}, but got {options.repeated}")
    torch.set_num_threads(options.jobs)
    tune_allocator()
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
