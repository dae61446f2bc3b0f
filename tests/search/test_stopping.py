"""A search that a rule ends has an answer, says by which rule, and goes on where it is resumed with more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from se_nas.records.files import read_json
from se_nas.search.black_box import search as black_box
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.pareto import since_unbeaten
from se_nas.search.black_box.search import BlackBoxResult, search_architectures
from se_nas.search.differentiable.restarts import search_with_restarts
from se_nas.search.differentiable.search import DifferentiableConfig
from se_nas.search.stopping import since_better
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from tests.search.known_worth import binding, worth
from tests.search.problems import make_problem


class Clock:
    """A clock in place of the machine's, which each evaluation puts on by so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(black_box.time, "monotonic", lambda: self.now)

    def timed(self, seconds: float) -> Any:
        def evaluate(architecture: Architecture) -> float:
            self.now += seconds
            return worth(architecture)

        return evaluate


def search(space: SearchSpace, evaluate: Any = worth, file: Path | None = None, **fields: Any) -> BlackBoxResult:
    config = OptunaConfig(**{"sampler": "random", "max_evaluations": 12, **fields})
    return search_architectures(space, binding(space, 0.5), evaluate, config=config, file=file)


def numbers(found: BlackBoxResult) -> list[tuple[int, Architecture, float | None]]:
    return [(e.number, e.architecture, e.accuracy) for e in found.evaluations]


def test_time_ends_a_black_box_search_over_all_its_processes(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, file = Clock(monkeypatch), tmp_path / "study.journal"
    first = search(tiny_space, clock.timed(10), file, max_seconds=35)
    assert len(first.evaluations) == 4
    assert first.best is not None
    assert first.stopped is not None
    assert first.stopped.words == "max_seconds = 35 after 4 of 12 evaluations"
    assert first.stopped.seconds == 40
    clock.now += 1000  # what lies between two processes is nobody's time
    journal = file.read_bytes()
    again = search(tiny_space, clock.timed(10), file, max_seconds=35)
    assert numbers(again) == numbers(first)
    assert file.read_bytes() == journal
    more = search(tiny_space, clock.timed(10), file, max_seconds=75)
    assert len(more.evaluations) == 8
    whole = search(tiny_space, clock.timed(10), file)
    assert whole.stopped is None
    assert numbers(whole) == numbers(search(tiny_space))


def test_a_search_is_not_ended_before_it_has_an_answer(
    tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = search(tiny_space, Clock(monkeypatch).timed(10), max_seconds=1e-9)
    assert len(found.evaluations) == 1
    assert found.best is not None


def test_patience_ends_a_search_that_finds_nothing_better(tiny_space: SearchSpace) -> None:
    found = search(tiny_space, lambda architecture: 0.5, patience=3)
    assert len(found.evaluations) == 4  # the first is better than none
    assert found.stopped is not None
    assert found.stopped.words == "patience = 3 after 4 of 12 evaluations"


def test_with_several_objectives_better_is_what_joins_the_front(tiny_space: SearchSpace) -> None:
    found = search(tiny_space, lambda architecture: 0.5, patience=3, sampler="nsga2", objectives=["accuracy", "macs"])
    macs = [e.costs["macs"] for e in found.evaluations if e.same_as is None]
    last = max(i for i, value in enumerate(macs) if value < min(macs[:i], default=float("inf")))
    assert len(macs) - 1 - last == 3


def test_what_counts_as_better() -> None:
    assert since_better([]) == 0
    assert since_better([0.1, 0.3, 0.3, 0.2]) == 2
    assert since_unbeaten([]) == 0
    assert since_unbeaten([None, None]) == 2
    assert since_unbeaten([(1, 5), (2, 4), (2, 5), None, (1, 5)]) == 3


CONFIG = DifferentiableConfig(
    pretrain_epochs=1, epochs=3, batch_size=20, choice_learning_rate=0.1, calibration_images=40
)


def with_rules(**fields: Any) -> DifferentiableConfig:
    return CONFIG.model_copy(update=fields)


def test_a_differentiable_search_that_time_ended_goes_on_as_if_it_had_not(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    problem = make_problem(tiny_space, tmp_path / "search", macs=0.4)
    resumed = make_problem(tiny_space, tmp_path / "search", macs=0.4, resume=True)
    stopped = search_with_restarts(problem, with_rules(max_seconds=1e-9))
    (told,) = stopped.summary["stopped"]
    assert (told["rule"], told["done"], told["planned"]) == ("max_seconds", 1, 4)
    assert search_with_restarts(resumed, with_rules(max_seconds=1e-9)).summary["stopped"][0]["done"] == 1
    whole = search_with_restarts(resumed, CONFIG)
    assert "stopped" not in whole.summary
    unbroken = search_with_restarts(make_problem(tiny_space, tmp_path / "unbroken", macs=0.4), CONFIG)
    files = ("history.json", "scores.json")
    assert [(tmp_path / "search" / f).read_text() for f in files] == [
        (tmp_path / "unbroken" / f).read_text() for f in files
    ]
    assert whole.images == unbroken.images > stopped.images


def test_a_differentiable_search_on_a_plateau_answers_from_its_best_epoch(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter([0.2, 0.6, 0.5, 0.5, 0.5])
    monkeypatch.setattr("se_nas.search.differentiable.search.inherited_accuracy", lambda *_: next(accuracies))
    problem = make_problem(tiny_space, tmp_path / "search", macs=0.4)
    found = search_with_restarts(problem, with_rules(epochs=5, patience=2))
    (told,) = found.summary["stopped"]
    assert (told["rule"], told["limit"], told["done"], told["planned"]) == ("patience", 2, 5, 6)
    assert found.summary["validation_accuracies"] == [0.6]
    history, scores = read_json(problem.folder / "history.json"), read_json(problem.folder / "scores.json")
    for name, shares in history[2]["probabilities"].items():  # the second epoch that searched
        assert max(range(len(shares)), key=shares.__getitem__) == max(range(len(shares)), key=scores[name].__getitem__)


def test_time_is_that_of_all_restarts_and_none_begins_after_it(tiny_space: SearchSpace, tmp_path: Path) -> None:
    problem = make_problem(tiny_space, tmp_path / "search", macs=0.4)
    found = search_with_restarts(problem, with_rules(max_seconds=1e-9, restarts=3))
    (told,) = found.summary["stopped"]
    assert (told["done"], told["planned"]) == (1, 12)
    assert not (problem.folder / "restart_1").exists()
