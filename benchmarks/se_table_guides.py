"""Question: how well do our guides rank the 243 placements of SE, and what does the differentiable search answer?

The table is what benchmarks/se_table.py merges. For each seed there are the NASWOT score of every placement, a supernet
that is trained uniformly, with whose weights every placement is judged, and a differentiable search without a budget,
whose logits are decoded within the parameters of the paper's SE everywhere (ratio 16) and without a bound. Each score's
Kendall tau with the trained accuracies stands beside that of parameters alone, and beside the mean tau of two trainings
where the table has several seeds; a second tau is with the linear model of the placements that se_table_answers.py
takes, which has less of the noise. These taus are of the whole space, so that they have no interval over networks; what
other trainings would give, the seeds tell. By this model the regret of the best of the first 1, 8 and 24 of a score is
told beside that of as many random ones.
Run:
python benchmarks/se_table_guides.py TABLE.json --data-dir DIR --work FOLDER [--results FOLDER].
Every training goes on from what FOLDER holds. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ends import one_line_errors
from regret import KnownTable, Numbers
from se_table_regret import load_table, study_of
from supernet_ranking import PrefixTree, judged, make_problem

from se_nas.cost.budget import Budget
from se_nas.evidence.statistics import kendall, random_top_k_regret, seed_ceiling, top_k_regret
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.environment import describe_environment
from se_nas.records.checkpoint import weights_digest
from se_nas.records.files import write_json
from se_nas.search.budgets.decode import decode
from se_nas.search.differentiable.search import DifferentiableConfig, search_differentiable
from se_nas.search.one_shot.config import OneShotConfig
from se_nas.search.one_shot.inheritance import calibration_batches
from se_nas.search.one_shot.training import train_one_shot
from se_nas.search.problem import SearchProblem
from se_nas.search.zero_cost.evaluator import ZeroCostConfig, ZeroCostEvaluator

WEIGHTS: dict[str, Any] = {"batch_size": 128, "learning_rate": 0.2, "weight_decay": 3e-4}
SUPERNET = OneShotConfig(**WEIGHTS, sampling="uniform", epochs=16, validate_every=16)
DIFFERENTIABLE = DifferentiableConfig(**WEIGHTS, pretrain_epochs=4, epochs=12, choice_every=2, validate_every=12)
TOP = (1, 8, 24)


def zero_cost_scores(table: KnownTable, problem: SearchProblem) -> Numbers:
    """(N,) NASWOT scores."""
    score = ZeroCostEvaluator(problem, ZeroCostConfig())
    return np.array([score(architecture) for architecture in table.architectures])


def supernet_scores(table: KnownTable, problem: SearchProblem) -> tuple[Numbers, float]:
    """(N,) accuracies with a supernet's weights, and CPU seconds of its training alone."""
    trained = train_one_shot(problem, SUPERNET)
    images = problem.images()
    calibration = list(calibration_batches(images, problem, SUPERNET.calibration_images))
    validation = list(images.evaluate_batches(problem.parts["validation"], 500))
    tree = PrefixTree(trained.supernet, calibration, validation)
    digest = weights_digest(trained.supernet.state_dict())
    key = f"{digest} {SUPERNET.calibration_images} {len(problem.parts['validation'])}"
    return judged(problem.folder / "accuracies.json", key, tree, table.rows)[0], trained.cpu_seconds


def differentiable_answers(
    table: KnownTable, problem: SearchProblem, budgets: tuple[Budget, ...]
) -> dict[str, dict[str, Any]]:
    """Which placement a differentiable search names within each budget, and its regret in points."""
    found = search_differentiable(problem, DIFFERENTIABLE)
    answers: dict[str, dict[str, Any]] = {}
    for budget in budgets:
        answer = decode(table.space, table.tables, [budget], found.scores).architecture
        place, within = table.index[answer], table.within(budget)
        answers[str(budget)] = {
            "picks": answer.as_dict(),
            "regret": round(float(table.judged[within].max() - table.judged[place]), 4),
            "better": int((table.judged[within] > table.judged[place]).sum()),
            "cpu_seconds": round(found.cpu_seconds, 1),
        }
    return answers


def tau(scores: Numbers, truth: Numbers) -> float | None:
    """Kendall's; None where all scores are equal."""
    found = kendall(scores, truth).value
    return round(found, 4) if math.isfinite(found) else None


def ranking(table: KnownTable, scores: Numbers, budgets: tuple[Budget, ...]) -> dict[str, Any]:
    """The taus of a score over all placements, and within each budget the regret of the best of its first."""
    top: dict[str, Any] = {}
    for budget in budgets:
        rows = table.within(budget)
        top[str(budget)] = {str(k): round(top_k_regret(scores[rows], table.judged[rows], k), 4) for k in TOP}
    return {
        "kendall": tau(scores, table.means),
        "kendall_with_the_model": tau(scores, table.judged),
        "regret_of_the_first": top,
    }


@one_line_errors()
def main() -> None:
    """Train, judge, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="what se_table.py merged")
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder that holds CIFAR-10's")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for checkpoints and accuracies")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="write guides.json there")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    environment = describe_environment().plain()
    table = load_table(options.table)
    budgets = study_of(table).budgets
    guides: dict[str, Any] = {"parameters": {"alone": ranking(table, table.costs["params"], budgets)}}
    answers: dict[str, Any] = {str(budget): {} for budget in budgets}
    for seed in range(options.seeds):
        place = options.work / str(seed)
        problem = make_problem(table.space, options.data_dir, place / "supernet", seed)
        scores, training_seconds = supernet_scores(table, problem)
        supernet = {**ranking(table, scores, budgets), "training_cpu_seconds": round(training_seconds, 1)}
        guides.setdefault("supernet", {})[str(seed)] = supernet
        guides.setdefault("naswot", {})[str(seed)] = ranking(table, zero_cost_scores(table, problem), budgets)
        searched = make_problem(table.space, options.data_dir, place / "differentiable", seed)
        for budget, answer in differentiable_answers(table, searched, budgets).items():
            answers[budget][str(seed)] = answer
    several = table.accuracies.shape[1] > 1
    outcome = {
        "benchmark": "se_table_guides",
        "environment": environment,
        "table_sha256": hashlib.sha256(options.table.read_bytes()).hexdigest(),
        "supernet": SUPERNET.model_dump(mode="json"),
        "differentiable": DIFFERENTIABLE.model_dump(mode="json"),
        "tau_of_two_trainings": seed_ceiling(table.accuracies).entry.plain() if several else None,
        "regret_of_random": {
            str(b): {str(k): round(random_top_k_regret(table.judged[table.within(b)], k), 4) for k in TOP}
            for b in budgets
        },
        "guides": guides,
        "answers_of_the_differentiable_search": answers,
    }
    if options.results:
        write_json(options.results / "guides.json", outcome)
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
