"""The ways to search: each takes a problem and its configuration, and hands back the same kind of finding."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable
from se_nas.errors import ConfigError
from se_nas.records.files import write_json
from se_nas.search.certificate import Answer, Latency, answer, answer_among
from se_nas.search.differentiable import DifferentiableConfig, search_differentiable
from se_nas.search.evaluation import best_first, evaluations_from
from se_nas.search.optuna_config import OptunaConfig
from se_nas.search.problem import SearchProblem
from se_nas.search.supernet_evaluator import SupernetEvaluator
from se_nas.search.supernet_training import CHECKPOINT
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.supernet.supernet import SuperNet
from se_nas.training.checkpoint import load_checkpoint, save_checkpoint

#: Files in the problem's folder: of an Optuna-driven search the study, its name, the supernet and the table. A
#: differentiable search leaves a supernet there where that of a restart was best.
STUDY = "study.journal"
STUDY_NAME = "study.json"
SUPERNET = "supernet.pt"
TABLE = "table.jsonl"


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        answer: the architecture for the problem's budgets, certified; given what is known of latency.
        accuracy: of an architecture on the validation part, as the search judges it.
        summary: what `result.json` says of the search.
        seconds: wall time, added up over resumed processes; images: training images seen.
        ledger: the same by parts of the search, with CPU seconds where they were counted.
    """

    answer: Callable[[Latency], Answer]
    accuracy: Callable[[Architecture], float]
    summary: dict[str, Any]
    seconds: float
    images: int
    ledger: list[dict[str, Any]]


def _differentiable(problem: SearchProblem, config: DifferentiableConfig) -> Found:
    problems = [_restarted(problem, config, number) for number in range(config.restarts)]
    results = [search_differentiable(each, config, _name(number)) for number, each in enumerate(problems)]
    accuracies = [result.history[-1]["validation_accuracy"] for result in results]
    best = accuracies.index(max(accuracies))
    result = results[best]
    if best > 0:
        save_checkpoint(problem.folder / SUPERNET, {"supernet": result.supernet.state_dict()})
    write_json(problem.folder / "history.json", result.history)
    write_json(problem.folder / SCORES, result.scores)
    return Found(
        lambda latency: answer(problem.space, problem.tables, latency, problem.budgets, result.scores),
        SupernetEvaluator(problems[best], result.supernet, config.calibration_images),
        {"epochs": config.epochs, "warmup_epochs": config.warmup_epochs, "validation_accuracies": accuracies},
        sum(each.seconds for each in results),
        sum(each.images for each in results),
        [
            {"part": _name(number), "seconds": each.seconds, "cpu_seconds": each.cpu_seconds, "images": each.images}
            for number, each in enumerate(results)
        ],
    )


def _restarted(problem: SearchProblem, config: DifferentiableConfig, number: int) -> SearchProblem:
    """The problem itself for the first search; for the next ones with another seed, in a folder in the problem's, and
    with epochs that go on counting for who watches."""
    if number == 0:
        return problem
    seed = int(np.random.SeedSequence([problem.seed, number]).generate_state(1)[0])
    before, watcher = number * (config.warmup_epochs + config.epochs), problem.report

    def report(entry: Mapping[str, Any]) -> None:
        if watcher is not None:
            watcher({**entry, "epoch": before + entry["epoch"]})

    return replace(problem, seed=seed, folder=problem.folder / f"restart_{number}", report=report)


def _name(number: int) -> str:
    return "search" if number == 0 else f"search {number + 1}"


def _optuna(problem: SearchProblem, config: OptunaConfig) -> Found:
    from se_nas.search.optuna_strategy import search_optuna  # needs Optuna

    return search_optuna(problem, config)


STRATEGIES: dict[str, Callable[[SearchProblem, Any], Found]] = {"differentiable": _differentiable, "optuna": _optuna}

#: What the strategies leave in a problem's folder for other budgets.
SCORES = "scores.json"
EVALUATIONS = "evaluations.json"


def load_supernet(folder: Path, space: SearchSpace) -> SuperNet | None:
    """The trained supernet of a finished search, on the CPU; None of a search that had none.

    Args:
        folder: the problem's.

    Raises:
        CheckpointError: its file is damaged.
    """
    if (folder / SUPERNET).exists():
        weights = load_checkpoint(folder / SUPERNET)["supernet"]
    elif (folder / CHECKPOINT).exists():
        weights = load_checkpoint(folder / CHECKPOINT)["parts"]["supernet"]
    else:
        return None
    supernet = SuperNet(space)
    supernet.load_state_dict(weights)
    return supernet


def answer_again(
    folder: Path,
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    latency: Latency,
    budgets: Sequence[Budget],
) -> Answer:
    """The answer of a finished search under other budgets: a decode of its scores, or the best that it evaluated.

    Args:
        folder: the problem's, where the search left what it learned.

    Raises:
        ConfigError: it holds no finished search.
        InfeasibleBudgetError: no architecture keeps the budgets.
    """
    if (folder / SCORES).exists():
        return answer(space, tables, latency, budgets, _read(folder / SCORES))
    if (folder / EVALUATIONS).exists():
        source = str(folder / EVALUATIONS)
        missing = [budget.metric for budget in budgets if budget.metric not in tables]
        if missing:
            raise ConfigError(
                "budgets", [f"{metric}: needs a cost table, but the run was made without one" for metric in missing]
            )
        ranked = best_first(evaluations_from(space, _read(folder / EVALUATIONS), source), budgets)
        return answer_among(space, tables, latency, budgets, ((e.architecture, e.accuracy or 0.0) for e in ranked))
    raise ConfigError(
        str(folder.parent),
        [f"must be the folder of a run whose search is done, but it has no {folder.name}/{SCORES} or {EVALUATIONS}"],
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), [f"file: must be JSON that can be read, but got: {error}"]) from error
