"""Restarts: several differentiable searches from different seeds, of which the best by validation accuracy answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from se_nas.records.checkpoint import save_checkpoint
from se_nas.records.files import write_json
from se_nas.records.measure import SUPERNET_ACCURACY
from se_nas.search.differentiable.search import DifferentiableConfig, search_differentiable
from se_nas.search.one_shot.inheritance import SupernetEvaluator
from se_nas.search.problem import SearchProblem
from se_nas.search.result import SUPERNET, SearchResult, result_by_scores


def search_with_restarts(problem: SearchProblem, config: DifferentiableConfig) -> SearchResult:
    """Do, or finish, every search that the configuration asks for; the answer is the best one's."""
    problems = [_restarted(problem, config, number) for number in range(config.restarts)]
    results = [search_differentiable(each, config, _name(number)) for number, each in enumerate(problems)]
    accuracies = [result.history[-1]["validation_accuracy"] for result in results]
    best = accuracies.index(max(accuracies))
    result = results[best]
    if best > 0:
        save_checkpoint(problem.folder / SUPERNET, {"supernet": result.supernet.state_dict()})
    write_json(problem.folder / "history.json", result.history)
    return result_by_scores(
        problem,
        result.scores,
        SupernetEvaluator(problems[best], result.supernet, config.calibration_images),
        summary={"epochs": config.epochs, "warmup_epochs": config.pretrain_epochs, "validation_accuracies": accuracies},
        seconds=sum(each.seconds for each in results),
        images=sum(each.images for each in results),
        ledger=[
            {"part": _name(number), "seconds": each.seconds, "cpu_seconds": each.cpu_seconds, "images": each.images}
            for number, each in enumerate(results)
        ],
        measure=SUPERNET_ACCURACY,
    )


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
