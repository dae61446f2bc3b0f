"""Restarts of a differentiable search: the best by validation accuracy is the answer, and the cost is that of all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from se_nas.search.budgets.decode import decode
from se_nas.search.differentiable import restarts
from se_nas.search.differentiable.search import DifferentiableConfig, DifferentiableResult, search_differentiable
from se_nas.search.one_shot.inheritance import SupernetEvaluator
from se_nas.search.problem import SearchProblem
from se_nas.search.result import SCORES, SUPERNET, SearchResult, load_supernet
from se_nas.search.strategies import STRATEGIES
from se_nas.space.search_space import SearchSpace
from tests.search.problems import make_problem

CONFIG = DifferentiableConfig(
    pretrain_epochs=1, epochs=1, restarts=3, batch_size=20, choice_learning_rate=0.1, calibration_images=40
)


#: Validation accuracies that the searches are given by the tests, so that a restart is the best.
RIGGED = {"search": 0.2, "search 2": 0.4, "search 3": 0.3}


def rig(patch: pytest.MonkeyPatch, accuracies: dict[str, float], stop_at: str | None = None) -> None:
    """Give each search's last epoch an accuracy of ours; interrupt the one named `stop_at`."""

    def rigged(problem: SearchProblem, config: DifferentiableConfig, name: str) -> DifferentiableResult:
        if name == stop_at:
            raise KeyboardInterrupt
        found = search_differentiable(problem, config, name)
        last = found.history[-1].model_copy(update={"validation_accuracy": accuracies[name]})
        return dataclasses.replace(found, history=(*found.history[:-1], last))

    patch.setattr(restarts, "search_differentiable", rigged)


@pytest.fixture(scope="module")
def done(
    tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SearchProblem, SearchResult, list[int]]:
    """A search with two restarts, what it found, and the epochs that it reported."""
    epochs: list[int] = []
    problem = make_problem(
        tiny_space, tmp_path_factory.mktemp("search"), macs=0.4, on_epoch=lambda entry: epochs.append(entry["epoch"])
    )
    with pytest.MonkeyPatch.context() as patch:
        rig(patch, RIGGED)
        found = STRATEGIES["differentiable"].search(problem, CONFIG)
    return dataclasses.replace(problem, on_epoch=None), found, epochs


def kept(problem: SearchProblem, name: str) -> Any:
    return json.loads((problem.folder / name).read_text())


def test_the_best_by_validation_accuracy_is_handed_back(done, tmp_path: Path) -> None:
    problem, found, _ = done
    assert found.summary["validation_accuracies"] == list(RIGGED.values())
    assert kept(problem, "history.json")[-1]["validation_accuracy"] == 0.4
    second = restarts._restarted(problem, CONFIG, 1)
    again = search_differentiable(dataclasses.replace(second, folder=tmp_path), CONFIG, "search 2")
    assert kept(problem, SCORES) == again.scores
    first = search_differentiable(dataclasses.replace(problem, folder=tmp_path / "first"), CONFIG)
    assert first.scores != again.scores


def test_the_supernet_that_is_kept_is_that_of_the_best(done) -> None:
    problem, found, _ = done
    architecture = decode(problem.space, problem.tables, problem.budgets, kept(problem, SCORES)).architecture
    supernet = load_supernet(problem.folder, problem.space)
    assert supernet is not None
    supernet.to(memory_format=torch.channels_last)
    evaluate = SupernetEvaluator(restarts._restarted(problem, CONFIG, 1), supernet, CONFIG.calibration_images)
    assert evaluate(architecture) == found.accuracy(architecture)


def test_where_the_first_is_best_its_checkpoint_is_the_supernet(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig(monkeypatch, {"search": 0.5, "search 2": 0.5})  # the first of equals
    problem = make_problem(tiny_space, tmp_path, macs=0.4)
    STRATEGIES["differentiable"].search(problem, CONFIG.model_copy(update={"restarts": 2}))
    assert not (tmp_path / SUPERNET).exists()
    assert load_supernet(tmp_path, problem.space) is not None


def test_who_watches_sees_the_epochs_of_all_searches_in_a_row(done) -> None:
    _, _, epochs = done
    assert epochs == [0, 1, 2, 3, 4, 5]


def test_all_searches_are_counted(done) -> None:
    _, found, _ = done
    assert [entry.part for entry in found.ledger] == list(RIGGED)
    assert found.images == sum(entry.images or 0 for entry in found.ledger) == 3 * (2 * 5 + 5) * 20
    assert found.seconds == pytest.approx(sum(entry.seconds for entry in found.ledger))


def test_a_run_cut_off_between_two_searches_goes_on_to_the_same_end(
    done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, found, _ = done
    cut = dataclasses.replace(problem, folder=tmp_path)
    rig(monkeypatch, RIGGED, stop_at="search 3")
    with pytest.raises(KeyboardInterrupt):
        STRATEGIES["differentiable"].search(cut, CONFIG)
    rig(monkeypatch, RIGGED)
    again = STRATEGIES["differentiable"].search(dataclasses.replace(cut, resume=True), CONFIG)
    assert again.summary == found.summary
    assert kept(cut, SCORES) == kept(problem, SCORES)
    assert kept(cut, "history.json") == kept(problem, "history.json")
