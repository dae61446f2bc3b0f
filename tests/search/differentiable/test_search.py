from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from se_nas.cost.budget import Budget
from se_nas.cost.counts import network_counts
from se_nas.data import sources
from se_nas.data.in_memory import cifar, digits, folder, synthetic
from se_nas.data.in_memory.batches import DeviceImages
from se_nas.data.in_memory.options import DataOptions
from se_nas.errors import InfeasibleBudgetError
from se_nas.records.run_log import read_log
from se_nas.search.budgets.decode import decode
from se_nas.search.differentiable import search as differentiable
from se_nas.search.differentiable.budget_projection import TOLERANCE
from se_nas.search.differentiable.search import DifferentiableConfig, DifferentiableResult, search_differentiable
from se_nas.search.one_shot.inheritance import SupernetEvaluator
from se_nas.search.problem import SearchProblem
from se_nas.space.search_space import SearchSpace
from tests.search.problems import make_problem

#: 100 images for the weights and 60 for the choices: 5 weight and 5 choice steps an epoch.
CONFIG = DifferentiableConfig(
    pretrain_epochs=1, epochs=2, batch_size=20, choice_learning_rate=0.1, calibration_images=40
)


def config(**changes: Any) -> DifferentiableConfig:
    return CONFIG.model_copy(update=changes)


def weights(result: DifferentiableResult) -> dict[str, Tensor]:
    return result.supernet.state_dict()


def assert_same(one: DifferentiableResult, other: DifferentiableResult) -> None:
    assert one.scores == other.scores
    assert one.history == other.history
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name


@pytest.fixture(scope="module")
def found(
    tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SearchProblem, DifferentiableResult]:
    """One uninterrupted search."""
    problem = make_problem(tiny_space, tmp_path_factory.mktemp("search"), macs=0.4)
    return problem, search_differentiable(problem, CONFIG)


def test_the_same_seed_searches_the_same_way_bit_for_bit(found, tmp_path: Path) -> None:
    problem, result = found
    assert_same(search_differentiable(dataclasses.replace(problem, folder=tmp_path), CONFIG), result)


def test_another_seed_searches_another_way(found, tmp_path: Path) -> None:
    problem, result = found
    other = search_differentiable(dataclasses.replace(problem, folder=tmp_path, seed=1), CONFIG)
    assert other.scores != result.scores
    assert [e.loss for e in other.history] != [e.loss for e in result.history]


def test_the_history_says_what_the_report_needs(found) -> None:
    problem, result = found
    assert [entry.epoch for entry in result.history] == [0, 1, 2]
    assert [entry.searching for entry in result.history] == [False, True, True]
    assert [entry.temperature for entry in result.history] == [None, *map(pytest.approx, CONFIG.temperature)]
    warm = result.history[0]
    assert warm.choice_loss is None
    assert warm.entropy == pytest.approx(1)
    assert warm.validation_accuracy is None
    for name, p in warm.probabilities.items():
        assert p == pytest.approx([1 / len(p)] * len(p)), name
    for entry in result.history[1:]:
        assert math.isfinite(entry.choice_loss)
        assert 0 <= entry.validation_accuracy <= 1
    assert result.history[-1].entropy < 1
    assert set(result.history[-1].probabilities) == {choice.name for choice in problem.space.choices}
    expected = problem.tables["macs"].expected_cost(
        {name: torch.tensor(p) for name, p in result.history[-1].probabilities.items()}
    )
    assert result.history[-1].expected["macs"] == pytest.approx(expected.item(), rel=1e-5)
    assert result.images == (3 * 5 + 2 * 5) * 20


def test_the_answer_is_in_the_space_and_within_its_budgets(found) -> None:
    problem, result = found
    answer = decode(problem.space, problem.tables, problem.budgets, result.scores)
    assert answer.architecture in set(problem.space.enumerate())
    assert network_counts(problem.space.resolve(answer.architecture)).macs <= problem.budgets[0].limit
    last = result.history[-1].validation_accuracy
    assert SupernetEvaluator(problem, result.supernet, CONFIG.calibration_images)(answer.architecture) == last


def test_an_infeasible_budget_ends_before_any_training(tiny_space: SearchSpace, tmp_path: Path) -> None:
    problem = make_problem(tiny_space, tmp_path / "search", budgets=(Budget("macs", 10.0),))
    with pytest.raises(InfeasibleBudgetError, match="least reachable"):
        search_differentiable(problem, CONFIG)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("wrong", [{"temperature": (3.0, 0.0)}, {"epochs": 0}, {"relaxation": "none"}, {"epoch": 3}])
def test_a_configuration_that_cannot_run_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        DifferentiableConfig.model_validate(wrong)


@pytest.mark.parametrize("stop_at", np.random.default_rng(0).choice(np.arange(1, 15), 3, replace=False).tolist())
def test_a_search_resumed_after_an_interruption_ends_as_one_never_stopped(
    found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    problem, result = found
    problem = dataclasses.replace(problem, folder=tmp_path)
    step = differentiable._Search.step

    def interrupted(self: Any, context: Any) -> Any:
        if context.step == stop_at:
            raise KeyboardInterrupt
        return step(self, context)

    with monkeypatch.context() as patch:
        patch.setattr(differentiable._Search, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search_differentiable(problem, CONFIG)
    steps: list[int] = []

    def counted(self: Any, context: Any) -> Any:
        steps.append(context.step)
        return step(self, context)

    monkeypatch.setattr(differentiable._Search, "step", counted)
    assert_same(search_differentiable(dataclasses.replace(problem, resume=True), CONFIG), result)
    # the state after an epoch is trusted, and on disk, once a loss of the next one is sound
    assert steps[0] == (stop_at - 1) // 5 * 5


def test_no_test_image_is_within_reach(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(options: DataOptions) -> Any:
        raise AssertionError("a search asked for the test images")

    for module in (sources, cifar, digits, folder, synthetic):
        monkeypatch.setattr(module, "load_test", refuse)
    for name in itertools.filterfalse(sources.stays_on_disk, list(sources.DATASETS)):
        monkeypatch.setitem(sources.DATASETS, name, sources.DataSource(synthetic.load_train, refuse))
    problem = make_problem(tiny_space, tmp_path, macs=0.4)
    result = search_differentiable(problem, config(epochs=1))
    assert len(result.history) == 2
    fields = {field.name for field in dataclasses.fields(SearchProblem)}
    assert not [name for name in fields if "test" in name]
    assert not [name for name in vars(differentiable) if "test" in name]
    # of images it holds one set, and the parts of that set are disjoint
    assert [name for name, value in vars(problem).items() if isinstance(value, type(problem.train))] == ["train"]
    together = torch.cat(list(problem.parts.values()))
    assert len(together.unique()) == len(together) == len(problem.train)


def test_weights_and_choices_learn_from_their_own_images_only(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem(tiny_space, tmp_path)
    calls: list[Tensor] = []
    batch = DeviceImages.batch

    def recorded(self: DeviceImages, indices: Tensor, *arguments: Any) -> Any:
        calls.append(indices)
        return batch(self, indices, *arguments)

    monkeypatch.setattr(DeviceImages, "batch", recorded)
    search_differentiable(problem, config(pretrain_epochs=0, epochs=2))
    assert len(calls) == 20
    assert set(torch.cat(calls[0::2]).tolist()) <= set(problem.parts["weights"].tolist())
    assert set(torch.cat(calls[1::2]).tolist()) <= set(problem.parts["choices"].tolist())
    # the smaller part is gone through whole before it begins again
    assert torch.cat(calls[1:6:2]).sort().values.tolist() == problem.parts["choices"].tolist()


@pytest.mark.parametrize("relaxation", ["gumbel", "softmax"])
@pytest.mark.parametrize("weight_step", ["sampled", "mixture"])
def test_the_expected_cost_keeps_a_tight_budget_from_the_first_choice_step_on(
    tiny_space: SearchSpace, tmp_path: Path, relaxation: str, weight_step: str
) -> None:
    problem = make_problem(tiny_space, tmp_path, macs=0.1)
    (budget,) = problem.budgets
    tight = config(
        relaxation=relaxation,
        weight_step=weight_step,
        pretrain_epochs=0,
        epochs=4,
        validate_every=4,
    )
    undecided = {c.name: torch.full((len(c.options),), 1 / len(c.options)) for c in tiny_space.choices}
    assert problem.tables["macs"].expected_cost(undecided) > 1.15 * budget.limit
    history = search_differentiable(problem, tight).history
    assert all(entry.expected["macs"] <= budget.limit * (1 + 2 * TOLERANCE) for entry in history)
    assert all(math.isfinite(entry.loss + entry.choice_loss) for entry in history)


def plant(monkeypatch: pytest.MonkeyPatch, call: int) -> Callable[[], int]:
    """Make the images of one call of `DeviceImages.batch` NaN, once; returns how many calls there were."""
    calls = 0
    batch = DeviceImages.batch

    def planted(self: DeviceImages, indices: Tensor, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        x, y = batch(self, indices, *arguments)
        return (torch.full_like(x, math.nan) if calls == call else x), y

    monkeypatch.setattr(DeviceImages, "batch", planted)
    return lambda: calls


# pretraining makes calls 1 to 5; then weights (6, 8, ...) and choices (7, 9, ...) take turns
@pytest.mark.parametrize("call", [3, 8, 9, 15])
def test_a_batch_of_nan_rolls_back_and_the_search_ends_finite(
    found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    problem, _ = found
    calls = plant(monkeypatch, call)
    result = search_differentiable(dataclasses.replace(problem, folder=tmp_path), CONFIG)
    assert calls() > 25
    rollbacks = [line for line in read_log(tmp_path / "log.jsonl") if line.get("event") == "rollback"]
    assert len(rollbacks) == 1
    assert all(math.isfinite(score) for row in result.scores.values() for score in row)
    assert all(tensor.isfinite().all() for tensor in weights(result).values())
    assert [entry.epoch for entry in result.history] == [0, 1, 2]
    assert all(math.isfinite(entry.loss) for entry in result.history)
    assert all(math.isfinite(entry.choice_loss) for entry in result.history[1:])


def test_the_option_that_the_loss_asks_for_is_found(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that also asks for one architecture's options, as far as they are mixed in, is followed to it."""
    problem = make_problem(tiny_space, tmp_path)
    wanted = {choice.name: len(choice.options) - 1 for choice in problem.space.choices}
    mixed: dict[str, Tensor] = {}
    run_mixture = differentiable.SuperNet.run_mixture
    cross_entropy = F.cross_entropy

    def noted(self: Any, x: Tensor, probabilities: dict[str, Tensor]) -> Any:
        mixed.update(probabilities)
        return run_mixture(self, x, probabilities)

    def planted(*arguments: Any, **options: Any) -> Tensor:
        loss = cross_entropy(*arguments, **options)
        asked = sum((1 - mixed.pop(name)[i] for name, i in wanted.items() if name in mixed), torch.zeros(()))
        return loss + 5 * asked

    monkeypatch.setattr(differentiable.SuperNet, "run_mixture", noted)
    monkeypatch.setattr(F, "cross_entropy", planted)
    result = search_differentiable(problem, config(pretrain_epochs=0, epochs=6, validate_every=6))
    for name, i in wanted.items():
        assert int(np.argmax(result.scores[name])) == i, name
    assert result.history[-1].entropy < 0.9
    answer = decode(problem.space, problem.tables, (), result.scores)
    assert answer.architecture == problem.space.architecture(
        {choice.name: choice.options[-1] for choice in problem.space.choices}
    )


@pytest.mark.parametrize("choice_every", [1, 2])
def test_every_image_for_the_choices_is_used_once_a_pass(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice_every: int
) -> None:
    problem = make_problem(tiny_space, tmp_path)
    of_choices = set(problem.parts["choices"].tolist())
    seen: list[int] = []
    batch = DeviceImages.batch

    def spy(self: DeviceImages, indices: Tensor, *arguments: Any) -> Any:
        seen.extend(i for i in indices.tolist() if i in of_choices)
        return batch(self, indices, *arguments)

    monkeypatch.setattr(DeviceImages, "batch", spy)
    search_differentiable(problem, config(epochs=3, choice_every=choice_every))
    assert len(seen) >= len(of_choices)
    assert set(seen[: len(of_choices)]) == of_choices
