"""Restarts: several differentiable searches from different seeds, of which the best by validation accuracy answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from se_nas.records.checkpoint import save_checkpoint
from se_nas.records.measure import SUPERNET_ACCURACY
from se_nas.records.models.history import HISTORY, write_history
from se_nas.records.models.run_result import LedgerEntry
from se_nas.records.models.stopped import Stopped
from se_nas.search.budgets.decode import decode
from se_nas.search.differentiable.search import DifferentiableConfig, DifferentiableResult, search_differentiable
from se_nas.search.one_shot.inheritance import SupernetEvaluator
from se_nas.search.problem import SearchProblem
from se_nas.search.result import SUPERNET, SearchResult, result_by_scores


def search_with_restarts(problem: SearchProblem, config: DifferentiableConfig) -> SearchResult:
    """Do, or finish, every search that the configuration asks for; the answer is the best one's.

    `max_seconds` is the time of all together.
    """
    problems, results = _searched(problem, config)
    accuracies = [result.accuracy for result in results]
    best = max(range(len(results)), key=lambda number: -1.0 if (share := accuracies[number]) is None else share)
    result = results[best]
    if best > 0:
        save_checkpoint(problem.folder / SUPERNET, {"supernet": result.supernet.state_dict()})
    else:
        (problem.folder / SUPERNET).unlink(missing_ok=True)  # of a restart that was best when the search was stopped
    write_history(problem.folder / HISTORY, result.history)
    seconds = sum(each.seconds for each in results)
    summary: dict[str, object] = {
        "epochs": config.epochs,
        "pretrain_epochs": config.pretrain_epochs,
        "validation_accuracies": [share for share in accuracies if share is not None],
    }
    if stopped := _stopped(config, results, seconds):
        summary["stopped"] = [stopped.plain()]
    return result_by_scores(
        problem,
        result.scores,
        SupernetEvaluator(problems[best], result.supernet, config.calibration_images),
        summary=summary,
        seconds=seconds,
        images=sum(each.images for each in results),
        ledger=[
            LedgerEntry(part=_name(number), seconds=each.seconds, cpu_seconds=each.cpu_seconds, images=each.images)
            for number, each in enumerate(results)
        ],
        measure=SUPERNET_ACCURACY,
        others=lambda: [
            decode(problem.space, problem.tables, problem.budgets, results[number].scores).architecture
            for number in sorted(range(len(results)), key=lambda number: -(accuracies[number] or 0.0))
            if number != best
        ],
    )


def help_with_restarts(problem: SearchProblem, config: DifferentiableConfig) -> None:
    """Take part in every search, as a rank other than the first, which writes what comes of them."""
    _searched(problem, config)


def _searched(
    problem: SearchProblem, config: DifferentiableConfig
) -> tuple[list[SearchProblem], list[DifferentiableResult]]:
    """Every search that there is time for, the first one in any case, each with its problem."""
    problems: list[SearchProblem] = []
    results: list[DifferentiableResult] = []
    left = config.max_seconds
    for number in range(config.restarts):
        if left is not None and left <= 0:
            break
        problems.append(_restarted(problem, config, number))
        results.append(
            search_differentiable(problems[-1], config.model_copy(update={"max_seconds": left}), _name(number))
        )
        left = None if left is None else left - results[-1].seconds
    return problems, results


def _stopped(config: DifferentiableConfig, results: Sequence[DifferentiableResult], seconds: float) -> Stopped | None:
    """Why the searches ended before they were through; the time where it was the time of any."""
    rules = {result.stopped.rule for result in results if result.stopped is not None}
    if not rules and len(results) == config.restarts:
        return None
    done = sum(len(result.history) for result in results)
    planned = config.restarts * (config.pretrain_epochs + config.epochs)
    return config.stopped("patience" if rules == {"patience"} else "max_seconds", seconds, done, planned, "epochs")


def _restarted(problem: SearchProblem, config: DifferentiableConfig, number: int) -> SearchProblem:
    """The problem itself for the first search; for the next ones with another seed, in a folder in the problem's, and
    with epochs that go on counting for who watches."""
    if number == 0:
        return problem
    seed = int(np.random.SeedSequence([problem.seed, number]).generate_state(1)[0])
    before, watcher = number * (config.pretrain_epochs + config.epochs), problem.on_epoch

    def on_epoch(entry: Mapping[str, Any]) -> None:
        if watcher is not None:
            watcher({**entry, "epoch": before + entry["epoch"]})

    return replace(problem, seed=seed, folder=problem.folder / f"restart_{number}", on_epoch=on_epoch)


def _name(number: int) -> str:
    return "search" if number == 0 else f"search {number + 1}"
