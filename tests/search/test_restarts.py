"""Restarts of a differentiable search: the best by validation accuracy is the answer, and the cost is that of all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from se_nas.search.decode import decode
from se_nas.search.differentiable import DifferentiableConfig, SearchResult, search_differentiable
from se_nas.search.problem import SearchProblem
from se_nas.search.strategy import SCORES, STRATEGIES, Found, load_supernet
from se_nas.search.supernet_evaluator import SupernetEvaluator
from se_nas.space.search_space import SearchSpace
from tests.search.problems import make_problem

CONFIG = DifferentiableConfig(
    warmup_epochs=1, epochs=1, restarts=3, batch_size=20, choice_learning_rate=0.1, calibration_images=40
)


@pytest.fixture(scope="module")
def done(tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchProblem, Found]:
    problem = make_problem(tiny_space, tmp_path_factory.mktemp("search"), macs=0.4)
    return problem, STRATEGIES["differentiable"](problem, CONFIG)


def test_the_best_by_validation_accuracy_is_handed_back(done, tmp_path: Path) -> None:
    problem, found = done
    accuracies = found.summary["validation_accuracies"]
    assert len(accuracies) == 3
    assert accuracies[0] < max(accuracies)  # so that a restart is what is handed back here
    scores = json.loads((problem.folder / SCORES).read_text())
    history = json.loads((problem.folder / "history.json").read_text())
    assert history[-1]["validation_accuracy"] == max(accuracies)
    alone = search_differentiable(dataclasses.replace(problem, folder=tmp_path), CONFIG)
    assert alone.history[-1]["validation_accuracy"] == accuracies[0]
    assert alone.scores != scores


def test_the_supernet_that_is_kept_is_that_of_the_best(done) -> None:
    problem, found = done
    scores = json.loads((problem.folder / SCORES).read_text())
    architecture = decode(problem.space, problem.tables, problem.budgets, scores).architecture
    supernet = load_supernet(problem.folder, problem.space)
    assert supernet is not None
    supernet.to(memory_format=torch.channels_last)
    assert SupernetEvaluator(problem, supernet, CONFIG.calibration_images)(architecture) == found.accuracy(architecture)


def test_all_searches_are_counted(done) -> None:
    _, found = done
    assert [entry["part"] for entry in found.ledger] == ["search", "search 2", "search 3"]
    assert found.images == sum(entry["images"] for entry in found.ledger) == 3 * (2 * 5 + 5) * 20
    assert found.seconds == pytest.approx(sum(entry["seconds"] for entry in found.ledger))


def test_a_run_cut_off_between_two_searches_goes_on_to_the_same_end(
    done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, found = done
    problem = dataclasses.replace(problem, folder=tmp_path)
    once = search_differentiable

    def interrupted(problem: SearchProblem, config: DifferentiableConfig, name: str) -> SearchResult:
        if name == "search 3":
            raise KeyboardInterrupt
        return once(problem, config, name)

    with monkeypatch.context() as patch:
        patch.setattr("se_nas.search.strategy.search_differentiable", interrupted)
        with pytest.raises(KeyboardInterrupt):
            STRATEGIES["differentiable"](problem, CONFIG)
    again = STRATEGIES["differentiable"](dataclasses.replace(problem, resume=True), CONFIG)
    assert again.summary == found.summary
