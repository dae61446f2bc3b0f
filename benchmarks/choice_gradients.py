"""Claim: the straight-through gradient of the choice logits ends at less regret than the mixture's.

Differentiable searches of NAS-Bench-Macro under 40 and 60 MMACs on some of CIFAR-10's images, of equal processor time.
A seed gives both ways the same pretrained supernet and the same images. An answer is judged by the published accuracies
of 32x32 pixels (regret and rank within the budget), and so is the sum of a network's learned logits over all that keep
the budget (tau). Beside them stand random networks at the budget: decodes of random logits.

The table and CIFAR-10 are those of `supernet_ranking.py`. Run:
python benchmarks/choice_gradients.py TABLE.json --data-dir DIR --work FOLDER [--results FOLDER].
It goes on from what FOLDER holds. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nas_bench_macro import BUDGETS, MacroTable, load_table
from supernet_options import problem_of
from supernet_ranking import Numbers, option_rows

from se_nas.cost.budget import Budget
from se_nas.data.in_memory.parts import split_parts
from se_nas.errors import SeNasError
from se_nas.evidence.statistics import kendall, paired_difference
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.environment import describe_environment
from se_nas.records.checkpoint import load_checkpoint, save_checkpoint
from se_nas.records.files import write_json
from se_nas.search.budgets.decode import Decoder
from se_nas.search.differentiable.search import DifferentiableConfig, _Search
from se_nas.search.problem import SearchProblem
from se_nas.training.images import part_seed
from se_nas.training.loop import StepContext

PRETRAIN_EPOCHS = 8
WAYS = {
    "mixture": {"gradient": "mixture", "epochs": 3, "choice_every": 2},
    "straight_through": {"gradient": "straight_through", "epochs": 3, "choice_every": 2},
}
"""Of each way after pretraining, of equal processor time."""
RANDOM = 1000
"""Random logits that are decoded at each budget."""


def judged(table: MacroTable, budget: Budget, answer: int) -> dict[str, float]:
    """Regret in points and rank, from 1, of a network among those that keep the budget."""
    true = table.means[table.within(budget)]
    own = float(table.means[answer])
    return {"regret": round(float(true.max()) - own, 4), "rank": 1 + int((true > own).sum())}


def searched(budget: Budget, table: MacroTable, problem: SearchProblem) -> Budget:
    """The budget of the table's resolution as one of the problem's, which the same networks keep."""
    rows = option_rows(table.space, table.architectures)
    costs = problem.tables[budget.metric].costs(rows)
    within = table.within(budget)
    beyond = np.setdiff1d(np.arange(len(rows)), within)
    limit = float(costs[within].max())
    if limit >= costs[beyond].min():
        raise SystemExit(f"{budget} must part the networks alike at both resolutions, but does not")
    return Budget(budget.metric, limit)


def stepped(search: _Search, steps: range) -> None:
    """Steps of a search, without the loop's guard and checkpoints."""
    for step in steps:
        epoch, in_epoch = divmod(step, search.batches.per_epoch)
        seed = part_seed(search.problem.seed, f"step {step}")
        context = StepContext(step=step, epoch=epoch, step_in_epoch=in_epoch, attempt=0, lr_scale=1.0, seed=seed)
        metrics = search._step(context)
        if not torch.isfinite(torch.as_tensor(metrics["loss"])):
            raise SystemExit(f"the loss of step {step} must be finite")


def found_by(options: argparse.Namespace, problem: SearchProblem, way: str) -> tuple[_Search, float]:
    """A search at its end, and the processor time that it took after pretraining, which a seed's searches share."""
    config = DifferentiableConfig.model_validate(
        {
            **WAYS[way],
            "pretrain_epochs": PRETRAIN_EPOCHS,
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
        }
    )
    search = _Search(problem, config)
    pretraining = PRETRAIN_EPOCHS * search.batches.per_epoch
    path = options.work / f"pretrained_{problem.seed}.pt"
    if not path.exists():
        stepped(search, range(pretraining))
        parts = {"supernet": search.supernet, **search.update.state}
        save_checkpoint(path, {name: part.state_dict() for name, part in parts.items()})
        search = _Search(problem, config)
    kept = load_checkpoint(path)
    for name, part in {"supernet": search.supernet, **search.update.state}.items():
        part.load_state_dict(kept[name])
    started = time.process_time()
    stepped(search, range(pretraining, search.total_epochs * search.batches.per_epoch))
    return search, time.process_time() - started


def outcome_of(
    options: argparse.Namespace, table: MacroTable, problem: SearchProblem, way: str, budget: Budget
) -> dict[str, Any]:
    """What is told of one search; read from its file where it was made before."""
    path = options.work / f"{way}_{budget.limit / 1e6:g}_{problem.seed}.json"
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    problem = replace(problem, budgets=(searched(budget, table, problem),))
    load = os.getloadavg()[0]
    search, cpu_seconds = found_by(options, problem, way)
    learned = search.logits.scores()
    decoded = search.decoder.decode(learned).architecture
    answer = table.index[table.space.architecture(decoded.as_dict())]
    within = table.within(budget)
    rows = option_rows(table.space, table.architectures)
    scores = [np.array(learned[choice.name]) for choice in table.space.choices]
    sums = np.stack([scores[i][rows[:, i]] for i in range(len(scores))]).sum(axis=0)
    outcome = {
        **judged(table, budget, answer),
        "tau": round(kendall(sums[within], table.means[within]).value or 0.0, 4),
        "macs": table.costs["macs"][answer].item(),
        "picks": "".join(map(str, rows[answer].tolist())),
        "entropy": round(float(np.mean(list(search.logits.entropy().values()))), 4),
        "scores": {name: [round(value, 4) for value in row] for name, row in learned.items()},
        "cpu_seconds": round(cpu_seconds, 1),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
    }
    write_json(path, outcome)
    return outcome


def at_random(table: MacroTable, budget: Budget) -> dict[str, float]:
    """Mean and quartiles of regret and the mean rank of random networks at the budget; MACs' own tau."""
    rng, decoder = np.random.default_rng(0), Decoder(table.space, table.tables, (budget,))
    found = []
    for _ in range(RANDOM):
        scores = {choice.name: rng.normal(size=len(choice.options)).tolist() for choice in table.space.choices}
        found.append(judged(table, budget, table.index[decoder.decode(scores).architecture]))
    regrets, within = np.array([one["regret"] for one in found]), table.within(budget)
    true = table.means[within]
    q1, median, q3 = np.quantile(regrets, (0.25, 0.5, 0.75)).round(4).tolist()
    return {
        "networks": len(within),
        "regret": round(float(regrets.mean()), 4),
        "q1": q1,
        "median": median,
        "q3": q3,
        "rank": round(float(np.mean([one["rank"] for one in found])), 1),
        "uniform_regret": round(float(true.max() - true.mean()), 4),
        "macs_alone_tau": round(kendall(table.costs["macs"][within], true).value or 0.0, 4),
    }


def told(searches: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """By budget: each way's means, and what it differs from the mixture by over the seeds that both have."""
    outcome: dict[str, Any] = {}
    for budget, ways in searches.items():
        outcome[budget] = {}
        for way, by_seed in ways.items():
            each: dict[str, Numbers] = {
                key: np.array([one[key] for one in by_seed.values()])
                for key in ("regret", "rank", "tau", "cpu_seconds")
            }
            entry: dict[str, Any] = {"n": len(by_seed)}
            for key, values in each.items():
                entry[key] = {"mean": round(float(values.mean()), 4), "each": values.tolist()}
                if len(values) > 1:
                    entry[key]["sd"] = round(float(values.std(ddof=1)), 4)
            seeds = [seed for seed in by_seed if seed in ways["mixture"]]
            if way != "mixture" and len(seeds) > 1:
                entry["over_mixture"] = {
                    key: paired_difference(
                        [by_seed[seed][key] for seed in seeds], [ways["mixture"][seed][key] for seed in seeds]
                    ).entry.plain()
                    for key in ("regret", "tau")
                }
            outcome[budget][way] = entry
    return outcome


def main() -> None:
    """Search, seed by seed, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the published file, or that packed as .xz or .gz")
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder that holds CIFAR-10's")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for checkpoints and outcomes")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="write gradients.json there")
    parser.add_argument("--images", type=int, default=2500, help="training images, of weights and choices together")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--resolution", type=int, default=16, help="pixels")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, mps or xpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tune_allocator()
    environment = describe_environment().plain()
    table = load_table(options.table)
    settings = ("images", "batch_size", "learning_rate", "resolution")
    outcome: dict[str, Any] = {
        "benchmark": "choice_gradients",
        "environment": environment,
        "table_sha256": hashlib.sha256(table.json_lines().encode()).hexdigest(),
        "settings": {
            "pretrain_epochs": PRETRAIN_EPOCHS,
            "ways": WAYS,
            **{name: getattr(options, name) for name in settings},
        },
        "random": {str(budget): at_random(table, budget) for budget in BUDGETS},
    }
    problem = problem_of(options, "", 0)
    shares = {name: len(indices) / len(problem.train) for name, indices in problem.parts.items()}
    problems = {
        seed: replace(problem, seed=seed, parts=split_parts(problem.train.labels, shares, seed))
        for seed in range(options.seeds)
    }
    searches: dict[str, dict[str, dict[str, Any]]] = {str(budget): {way: {} for way in WAYS} for budget in BUDGETS}
    for seed, problem in problems.items():
        for budget in BUDGETS:
            for way in WAYS:
                searches[str(budget)][way][str(seed)] = outcome_of(options, table, problem, way, budget)
        outcome |= {"told": told(searches), "searches": searches}
        if options.results:
            write_json(options.results / "gradients.json", outcome)
    print(json.dumps(outcome))


if __name__ == "__main__":
    try:
        main()
    except (SeNasError, OSError) as error:
        raise SystemExit(str(error)) from error
