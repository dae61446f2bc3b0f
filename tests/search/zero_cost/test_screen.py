"""The zero-cost evaluator and the first filter: what they look at, what is evaluated first, what is written down."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from se_nas.cost.latency.timing import latency_key
from se_nas.errors import ConfigError
from se_nas.records.fields import LATENCY
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.strategy import search_optuna
from se_nas.search.problem import SearchProblem
from se_nas.search.result import TABLE
from se_nas.search.zero_cost.evaluator import ZeroCostConfig, ZeroCostEvaluator
from se_nas.search.zero_cost.screen import ScreenConfig, screen
from se_nas.space.search_space import SearchSpace
from tests.helpers.tiny_runs import read_json
from tests.search.known_worth import feasible, write_table
from tests.search.problems import make_problem

IMAGES = 16
SCREEN = {"drawn": 12, "kept": 3, "images": IMAGES}


def config(**fields: Any) -> OptunaConfig:
    return OptunaConfig.model_validate({"max_evaluations": 8, "population": 4, **fields})


@pytest.fixture
def problem(tiny_space: SearchSpace, tmp_path: Path) -> SearchProblem:
    """In a run's folder, with the table of every network's worth."""
    folder = tmp_path / "run" / "search"
    folder.mkdir(parents=True)
    made = make_problem(tiny_space, folder, macs=0.5)
    write_table(folder / TABLE, made.space)
    return made


def test_a_score_is_of_images_that_weights_are_trained_on_and_of_the_seed(problem: SearchProblem) -> None:
    architecture = next(problem.space.enumerate())

    def score(**changes: Any) -> float:
        changed = dataclasses.replace(problem, **changes)
        return ZeroCostEvaluator(changed, ZeroCostConfig(images=IMAGES))(architecture)

    blank = dataclasses.replace(problem.train, images=problem.train.images.clone())
    blank.images[problem.parts["validation"]] = 0
    blank.images[problem.parts["choices"]] = 0
    assert score() == score(train=blank) != score(seed=1)


def test_a_batch_of_more_images_than_there_are_is_refused(problem: SearchProblem) -> None:
    with pytest.raises(ConfigError, match=r"search\.zero_cost: images: must be at most 100, .* but got 101"):
        ZeroCostEvaluator(problem, ZeroCostConfig(images=101))
    with pytest.raises(ConfigError, match=r"search\.screen: images: must be at most 100, .* but got 101"):
        screen(problem, ScreenConfig(images=101), None)


def test_a_batch_that_holds_an_image_twice_is_refused_as_no_network_tells_the_two_apart(problem: SearchProblem) -> None:
    blank = dataclasses.replace(problem.train, images=torch.zeros_like(problem.train.images))
    with pytest.raises(ConfigError, match=r"search\.screen: images: must differ .* but 16 drawn by seed 0 hold 1 "):
        screen(dataclasses.replace(problem, train=blank), ScreenConfig(images=IMAGES), None)
    assert not (problem.folder / "screen.json").exists()


def test_a_search_by_the_score_answers_with_the_best_that_it_scored(problem: SearchProblem) -> None:
    judged = config(evaluator="zero_cost", zero_cost={"images": IMAGES})
    assert judged.objectives == ("naswot",)
    found = search_optuna(problem, judged)
    file = read_json(problem.folder / "evaluations.json")
    assert (file["measure"]["name"], len(file["evaluations"])) == ("naswot", 8)
    score = ZeroCostEvaluator(problem, judged.zero_cost)
    architecture = found.answer({LATENCY: latency_key()}).architecture
    assert score(architecture) == max(row["accuracy"] for row in file["evaluations"])


def test_a_network_without_a_score_loses_its_place_and_the_search_goes_on(
    problem: SearchProblem, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    places = {architecture: i for i, architecture in enumerate(problem.space.enumerate())}

    def scored(self: ZeroCostEvaluator, architecture: Any) -> float:
        return -math.inf if places[architecture] % 3 == 0 else float(places[architecture])

    monkeypatch.setattr(ZeroCostEvaluator, "__call__", scored)
    found = search_optuna(problem, config(evaluator="zero_cost", zero_cost={"images": IMAGES}, max_evaluations=6))
    assert found.summary["distinct"] == 6
    assert int(str(found.summary["failed"])) == caplog.text.count("naswot must be finite, but got -inf") > 0
    file = screen(problem, ScreenConfig(**SCREEN), None)
    assert file.unscored > 0
    assert all(math.isfinite(one.score) for one in file.kept)


def test_the_best_of_what_is_drawn_are_evaluated_first_once_and_their_time_counts(
    problem: SearchProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    filtered = config(evaluator="table", table=TABLE, screen=SCREEN)
    found = search_optuna(problem, filtered)
    file = screen(problem, ScreenConfig(**SCREEN), None)
    score = ZeroCostEvaluator(problem, ZeroCostConfig(images=IMAGES))
    kept = [problem.space.architecture(one.picks) for one in file.kept]
    assert [one.score for one in file.kept] == sorted(map(score, kept), reverse=True)
    assert set(kept) <= set(feasible(problem.space, problem.budgets))
    rows = read_json(problem.folder / "evaluations.json")["evaluations"]
    assert [row["picks"] for row in rows[:3]] == [one.picks for one in file.kept]
    assert [entry.part for entry in found.ledger] == ["screen", "evaluations"]
    assert found.seconds == pytest.approx(sum(entry.seconds for entry in found.ledger))
    assert found.ledger[0].seconds == file.seconds > 0
    monkeypatch.delattr(ZeroCostEvaluator, "__call__")  # a search that goes on scores nothing again
    again = search_optuna(dataclasses.replace(problem, resume=True), filtered)
    assert (again.summary, again.seconds) == (found.summary, found.seconds)


def test_what_the_evaluator_cannot_judge_is_not_kept(problem: SearchProblem) -> None:
    everything = screen(problem, ScreenConfig(**SCREEN), None)
    best = problem.space.architecture(everything.kept[0].picks)
    (problem.folder / "screen.json").unlink()
    known = [architecture for architecture in problem.space.enumerate() if architecture != best]
    file = screen(problem, ScreenConfig(**SCREEN), known)
    assert file.distinct == everything.distinct - 1
    assert [one.picks for one in file.kept][:2] == [one.picks for one in everything.kept[1:]]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"screen": {"kept": 192}}, "kept: must be less than drawn, 192, but got 192"),
        ({"screen": {"kept": 9}}, "screen.kept: must be at most max_evaluations, 8, but got 9"),
        (
            {"screen": {"kept": 8}, "enqueue": ["no_se"]},
            "screen.kept: must be at most max_evaluations less the 1 architecture of enqueue, 7, but got 8",
        ),
        ({"evaluator": "zero_cost", "screen": {}}, "screen must be left out with evaluator zero_cost"),
        ({"evaluator": "zero_cost", "objectives": ["accuracy"]}, "objectives must be distinct, naswot first"),
        ({"zero_cost": {"images": 1}}, "greater than or equal to 2"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(**wrong)
