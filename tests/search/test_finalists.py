"""Finalists: which networks they are, that the best by their trainings answers, and that a killed choice goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from se_nas.cost.latency.timing import latency_key
from se_nas.errors import TrainingError
from se_nas.records.fields import LATENCY
from se_nas.records.measure import SUPERNET_ACCURACY
from se_nas.records.models.finalists import FinalistsFile
from se_nas.records.record import read_record
from se_nas.search import finalists
from se_nas.search.answer import answer
from se_nas.search.black_box.evaluators.registry import EVALUATORS
from se_nas.search.black_box.evaluators.stand_alone import StandAloneEvaluator
from se_nas.search.finalists import FinalistsConfig, check_finalists, shortened, with_finalists
from se_nas.search.problem import SearchProblem
from se_nas.search.result import SearchResult
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.training.recipe import Distillation
from se_nas.training.recipe_files import default_recipe
from tests.search.known_worth import feasible, worth
from tests.search.problems import make_problem

RECIPE = default_recipe().model_copy(update={"epochs": 4, "batch_size": 20, "warmup_epochs": 1.0})
HERE = {LATENCY: latency_key()}
CONFIG = FinalistsConfig(count=6, epochs=(1, 2), recipe=RECIPE)


@pytest.fixture
def problem(tiny_space: SearchSpace, tmp_path: Path) -> SearchProblem:
    return make_problem(tiny_space, tmp_path, macs=0.6)


def found_in(problem: SearchProblem, accuracy: Callable[[Architecture], float] = worth) -> SearchResult:
    """A search that finds every option as good as the next, and judges networks by a function."""
    scores = {choice.name: [0.0] * len(choice.options) for choice in problem.space.choices}
    return SearchResult(
        answer=lambda latencies: answer(problem.space, problem.tables, latencies, problem.budgets, scores),
        accuracy=accuracy,
        summary={},
        seconds=10.0,
        images=1000,
        ledger=(),
        measure=SUPERNET_ACCURACY,
    )


def chosen(
    problem: SearchProblem, config: FinalistsConfig = CONFIG, **changes: Any
) -> tuple[SearchResult, FinalistsFile]:
    result = with_finalists(
        problem, replace(found_in(problem), **changes), HERE, config, problem.folder / "finalists", lambda line: None
    )
    return result, read_record(FinalistsFile, problem.folder / "finalists/finalists.json")


@given(st.integers(2, 200), st.lists(st.integers(1, 300), min_size=1, max_size=5, unique=True))
def test_no_round_takes_more_epochs_than_the_first_and_each_has_a_network(count: int, epochs: list[int]) -> None:
    rounds = FinalistsConfig(count=count, epochs=tuple(sorted(epochs))).rounds
    assert rounds[0] == (count, min(epochs))
    networks = [number for number, _ in rounds]
    assert networks == sorted(networks, reverse=True)
    assert all(number == 1 or number * long <= count * rounds[0][1] for number, long in rounds)
    assert min(networks) >= 1


def test_the_best_of_the_last_round_answers_within_the_budgets(problem: SearchProblem) -> None:
    result, file = chosen(problem)
    assert [len(one.accuracies) for one in file.finalists] == [2, 2, 2, 1, 1, 1]
    best = max(file.finalists[:3], key=lambda one: one.accuracies[1])
    given_back = result.answer(HERE)
    assert given_back.architecture == problem.space.architecture(best.picks)
    assert all(entry.holds for entry in given_back.certificate.budgets)
    for one in file.finalists:
        cost = problem.tables["macs"].cost(problem.space.architecture(one.picks))
        assert problem.budgets[0].holds(cost)
    learned = len(problem.parts["weights"]) + len(problem.parts["choices"])
    assert result.images == 1000 + learned * (6 * 1 + 3 * 2)
    assert result.seconds == pytest.approx(10 + sum(one.seconds for one in file.finalists))
    assert [entry.part for entry in result.ledger] == ["finalists"]


def test_they_are_the_searchs_answer_and_the_best_that_differ(
    problem: SearchProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandAloneEvaluator, "evaluate", lambda self, architecture, on_epoch: 0.5)
    _, file = chosen(problem, CONFIG.model_copy(update={"epochs": (1,)}))
    networks = [problem.space.architecture(one.picks) for one in file.finalists]
    first = found_in(problem).answer(HERE).architecture
    assert networks[0] == first
    assert len(set(networks)) == 6
    assert {one.origin for one in file.finalists} == {"answer", "neighbour", "random"}
    judged = [one.judged for one in file.finalists[1:]]
    assert judged == [pytest.approx(worth(network)) for network in networks[1:]]
    differing = [finalists._differing(a, b) for a in networks for b in networks if a != b]
    assert min(differing) >= finalists.DIFFER


def test_without_a_supernet_no_network_is_judged_that_the_search_did_not_evaluate(
    problem: SearchProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandAloneEvaluator, "evaluate", lambda self, architecture, on_epoch: 0.5)
    judged: list[Architecture] = []
    first = found_in(problem).answer(HERE).architecture
    known = [first, *feasible(problem.space, problem.budgets)[:5]]

    def short_training(network: Architecture) -> float:
        judged.append(network)
        return worth(network)

    _, file = chosen(
        problem,
        measure=EVALUATORS["stand_alone"].measure,
        accuracy=short_training,
        others=lambda: known[1:],
    )
    assert set(judged) <= set(known)
    assert {one.origin for one in file.finalists} == {"answer", "other"}


def test_what_the_search_would_answer_beside_is_among_them(
    problem: SearchProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandAloneEvaluator, "evaluate", lambda self, architecture, on_epoch: 0.5)
    first = found_in(problem).answer(HERE).architecture
    allowed = [a for a in problem.space.enumerate() if problem.budgets[0].holds(problem.tables["macs"].cost(a))]
    other = max(allowed, key=lambda network: finalists._differing(network, first))
    _, file = chosen(problem, accuracy=lambda network: float(network == other), others=lambda: [other])
    assert [one.origin for one in file.finalists].count("other") == 1


def test_a_training_that_ends_well_beats_one_that_begins_well(
    problem: SearchProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Architecture] = []

    def evaluate(self: StandAloneEvaluator, architecture: Architecture, on_epoch: object) -> float:
        calls.append(architecture)
        late = calls.count(architecture) == 2
        return 1 - worth(architecture) if late else worth(architecture)

    monkeypatch.setattr(StandAloneEvaluator, "evaluate", evaluate)
    result, _ = chosen(problem)
    in_both = {network for network in calls if calls.count(network) == 2}
    assert len(in_both) == 3
    assert result.answer(HERE).architecture == min(in_both, key=worth)
    assert min(worth(network) for network in in_both) >= max(worth(n) for n in set(calls) - in_both)


@pytest.mark.parametrize("after", [0, 3, 6, 7, 8])
def test_a_killed_choice_goes_on_where_it_was(
    problem: SearchProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    done: list[Architecture] = []

    def evaluate(self: StandAloneEvaluator, architecture: Architecture, on_epoch: object) -> float:
        if len(done) == after and not killed:
            killed.append(True)
            raise KeyboardInterrupt
        done.append(architecture)
        return worth(architecture) / (1 + self._config.epochs)

    killed: list[bool] = [True]
    monkeypatch.setattr(StandAloneEvaluator, "evaluate", evaluate)
    _, whole = chosen(replace(problem, folder=tmp_path / "whole"))
    wanted, done[:], killed[:] = list(done), [], []
    with pytest.raises(KeyboardInterrupt):
        chosen(problem)
    _, again = chosen(problem)
    assert done == wanted  # none twice
    assert [(one.picks, one.accuracies) for one in again.finalists] == [
        (o.picks, o.accuracies) for o in whole.finalists
    ]


@pytest.fixture
def diverging(monkeypatch: pytest.MonkeyPatch) -> list[Architecture]:
    """Networks are as good as they are known to be; the second training of the best of them diverges."""
    calls: list[Architecture] = []

    def evaluate(self: StandAloneEvaluator, architecture: Architecture, on_epoch: object) -> float:
        calls.append(architecture)
        if self._config.epochs == 2 and architecture == max(calls, key=worth):
            raise TrainingError("evaluation: the loss must stay finite")
        return worth(architecture)

    monkeypatch.setattr(StandAloneEvaluator, "evaluate", evaluate)
    return calls


def test_a_finalist_whose_training_diverges_is_out_and_the_next_best_takes_its_place(
    problem: SearchProblem, diverging: list[Architecture]
) -> None:
    said: list[str] = []
    result = with_finalists(problem, found_in(problem), HERE, CONFIG, problem.folder / "finalists", said.append)
    file = read_record(FinalistsFile, problem.folder / "finalists/finalists.json")
    best = sorted(diverging[:6], key=worth, reverse=True)
    assert diverging[6:] == best[:4]
    assert result.answer(HERE).architecture == best[1]
    assert [len(one.accuracies) for one in file.finalists] == [2, 2, 2, 1, 1, 1]
    *others, out = file.finalists
    assert problem.space.architecture(out.picks) == best[0]
    assert out.failed == "evaluation: the loss must stay finite"
    assert {one.failed for one in others} == {None}
    assert "finalists: one is out: evaluation: the loss must stay finite" in said
    learned = len(problem.parts["weights"]) + len(problem.parts["choices"])
    assert result.images == 1000 + learned * (6 * 1 + 4 * 2)


@pytest.mark.parametrize("after", [7, 8, 9])
def test_a_killed_choice_of_which_one_is_out_goes_on_where_it_was(
    problem: SearchProblem, diverging: list[Architecture], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    write = finalists.write_record

    def killed(path: Path, record: FinalistsFile) -> None:
        write(path, record)
        if sum(one.trainings for one in record.finalists) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finalists, "write_record", killed)
        with pytest.raises(KeyboardInterrupt):
            chosen(problem)
    result, _ = chosen(problem)
    best = sorted(diverging[:6], key=worth, reverse=True)
    assert diverging[6:] == best[:4]
    assert result.answer(HERE).architecture == best[1]


def test_where_every_finalist_diverges_it_is_one_line_again_and_again(
    problem: SearchProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def diverge(self: StandAloneEvaluator, architecture: Architecture, on_epoch: object) -> float:
        trained.append(architecture)
        raise TrainingError("evaluation: the loss must stay finite")

    monkeypatch.setattr(StandAloneEvaluator, "evaluate", diverge)
    for _ in range(2):
        with pytest.raises(TrainingError, match="one training or more must go well, but all failed") as raised:
            chosen(problem)
        assert "\n" not in str(raised.value)
    assert len(trained) == 6


def test_a_shorter_training_warms_up_for_the_same_share_of_it() -> None:
    recipe = default_recipe().model_copy(update={"epochs": 100, "warmup_epochs": 5.0, "average_decay": 0.9})
    short = shortened(recipe, 10)
    assert (short.epochs, short.warmup_epochs, short.average_decay) == (10, 0.5, None)


@pytest.mark.parametrize(
    "wrong", [{"count": 1}, {"epochs": []}, {"epochs": [3, 3]}, {"epochs": [6, 3]}, {"epochs": [0]}]
)
def test_values_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        FinalistsConfig.model_validate(wrong)


def test_without_a_recipe_or_with_a_teacher_there_are_none() -> None:
    assert check_finalists(CONFIG) == []
    (fault,) = check_finalists(FinalistsConfig())
    assert fault == "finalists.recipe: must be given where `retrain` is null, as finalists are trained by it"
    taught = RECIPE.model_copy(update={"distillation": Distillation(alpha=0.5, temperature=2.0)})
    (fault,) = check_finalists(FinalistsConfig(recipe=taught))
    assert fault == "finalists.recipe.distillation: must be null in a short training, which has no teacher"


def test_fewer_networks_than_were_asked_for_are_told(problem: SearchProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandAloneEvaluator, "evaluate", lambda self, architecture, on_epoch: 0.5)
    said: list[str] = []
    config = CONFIG.model_copy(update={"count": 1000})
    with_finalists(problem, found_in(problem), HERE, config, problem.folder / "finalists", said.append)
    count = len(read_record(FinalistsFile, problem.folder / "finalists/finalists.json").finalists)
    assert said[0] == f"finalists: {count} in place of 1000, as no more networks were found that differ"
    assert said[1] == f"finalists: round 1 of 2, 1 of {count}, 1 epoch"
