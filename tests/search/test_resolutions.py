"""Searches where the resolution is a choice: what is trained, judged and answered at which."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from se_nas.cost.budget import Budget
from se_nas.data.in_memory.batches import DeviceImages, at_side
from se_nas.evidence.controls import pinned_controls
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluators.stand_alone import StandAloneEvaluator, short_recipe
from se_nas.search.budgets.decode import decode
from se_nas.search.differentiable import search as differentiable
from se_nas.search.differentiable.search import DifferentiableConfig, search_differentiable
from se_nas.search.one_shot import training as one_shot
from se_nas.search.one_shot.config import OneShotConfig
from se_nas.search.one_shot.inheritance import SupernetEvaluator, inherit
from se_nas.search.one_shot.training import train_one_shot
from se_nas.search.problem import SearchProblem
from se_nas.space.search_space import SearchSpace
from se_nas.supernet.supernet import SuperNet
from se_nas.training.recipe import Recipe
from tests.search.problems import make_problem

#: 100 images for the weights and 60 for the choices: 5 weight and 5 choice steps an epoch.
CONFIG = DifferentiableConfig(
    pretrain_epochs=1, epochs=1, batch_size=20, choice_learning_rate=0.1, calibration_images=40
)


@pytest.fixture(scope="module")
def space(tiny_space: SearchSpace) -> SearchSpace:
    return dataclasses.replace(tiny_space, resolution=(6, 8, 10))


def sides_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int | None]]:
    """The sides of what supernets are shown from now on, each with the resolution of the architecture that runs."""
    seen: list[tuple[int, int | None]] = []
    run_active, run_mixture = SuperNet._run_active, SuperNet.run_mixture

    def active(self: SuperNet, x: Tensor) -> Tensor:
        seen.append((x.shape[-1], None if self._active is None else self._active.resolution))
        return run_active(self, x)

    def mixture(self: SuperNet, x: Tensor, probabilities: Mapping[str, Tensor]) -> Tensor:
        seen.append((x.shape[-1], None))
        return run_mixture(self, x, probabilities)

    monkeypatch.setattr(SuperNet, "_run_active", active)
    monkeypatch.setattr(SuperNet, "run_mixture", mixture)
    return seen


def within(problem: SearchProblem, resolution: int) -> SearchProblem:
    """The problem with a budget that some network of this resolution keeps and none of a greater one."""
    least = {}
    for architecture in problem.space.enumerate():
        cost = problem.tables["macs"].cost(architecture)
        least[architecture["resolution"]] = min(cost, least.get(architecture["resolution"], cost))
    (above,) = [cost for side, cost in least.items() if side == resolution + 2]
    return dataclasses.replace(problem, budgets=(Budget("macs", above - 1),))


@pytest.mark.parametrize("weight_step", ["sampled", "mixture"])
def test_a_differentiable_search_learns_at_every_resolution_that_can_keep_the_budgets(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight_step: str
) -> None:
    seen = sides_of(monkeypatch)
    problem = within(make_problem(space, tmp_path), 8)
    result = search_differentiable(problem, CONFIG.model_copy(update={"weight_step": weight_step}))
    assert {side for side, _ in seen} == {6, 8}
    assert all(own in (None, side) for side, own in seen)
    assert {side for side, own in seen if own is None} == {6, 8}  # the mixtures'
    judged = result.history[-1]
    assert judged.accuracy_at is not None
    assert set(judged.accuracy_at) == {"6", "8"}
    assert judged.validation_accuracy == result.accuracy == max(judged.accuracy_at.values())
    answer = decode(problem.space, problem.tables, problem.budgets, result.scores).architecture
    best = min(judged.accuracy_at, key=lambda side: (-judged.accuracy_at[side], int(side)))
    assert answer["resolution"] == int(best)
    evaluate = SupernetEvaluator(problem, result.supernet, CONFIG.calibration_images)
    assert evaluate(answer) == judged.validation_accuracy
    assert "resolution" not in (judged.probabilities or {})


def test_a_search_over_resolutions_resumed_ends_as_one_never_stopped(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem(space, tmp_path / "whole", macs=0.5)
    result = search_differentiable(problem, CONFIG)
    step: Callable[..., Any] = differentiable._Search.step

    def interrupted(self: Any, context: Any) -> Any:
        if context.step == 7:
            raise KeyboardInterrupt
        return step(self, context)

    again = dataclasses.replace(problem, folder=tmp_path / "again")
    with monkeypatch.context() as patch:
        patch.setattr(differentiable._Search, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search_differentiable(again, CONFIG)
    resumed = search_differentiable(dataclasses.replace(again, resume=True), CONFIG)
    assert (resumed.scores, resumed.history) == (result.scores, result.history)
    for name, tensor in resumed.supernet.state_dict().items():
        assert torch.equal(tensor, result.supernet.state_dict()[name]), name


def test_a_search_of_nothing_but_the_resolution_picks_one(space: SearchSpace, tmp_path: Path) -> None:
    (stage,) = space.stages[:1]
    op = dataclasses.replace(stage.ops[0], kernels=(3,), se=dataclasses.replace(stage.ops[0].se, options=(None,)))
    alone = dataclasses.replace(space, stages=(dataclasses.replace(stage, depths=(1,), ops=(op,)),))
    assert [choice.name for choice in alone.choices] == ["resolution"]
    problem = make_problem(alone, tmp_path)
    result = search_differentiable(problem, CONFIG)
    answer = decode(problem.space, problem.tables, (), result.scores).architecture
    accuracies = result.history[-1].accuracy_at or {}
    assert accuracies[str(answer["resolution"])] == max(accuracies.values())


@pytest.mark.parametrize("sampling", ["sandwich", "strict_fairness", "uniform"])
def test_every_subnet_of_a_one_shot_step_sees_images_of_its_resolution(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampling: str
) -> None:
    seen = sides_of(monkeypatch)
    config = OneShotConfig(sampling=sampling, epochs=1, batch_size=20, validate_every=1, calibration_images=40)
    problem = make_problem(space, tmp_path)
    result = train_one_shot(problem, config)
    assert all(side == own for side, own in seen)
    assert {side for side, _ in seen} == {6, 8, 10}
    training = one_shot._OneShot(problem, config)
    assert training.largest["resolution"] == 10
    assert training.smallest["resolution"] == 6
    # and each is judged at its own, with norms recalibrated there
    images = DeviceImages(problem.info, problem.train, problem.device)
    picks = training.largest.as_dict()
    moments = []
    for side in space.resolutions:
        network = inherit(
            result.supernet, problem.space.architecture({**picks, "resolution": side}), images, problem, 40
        )
        (x,) = images.at(side).evaluate_batches(problem.parts["weights"], 200)
        assert x[0].shape[-1] == network.spec.resolution == side
        moments.append(next(m.running_var for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)))
    assert not any(torch.allclose(one, other) for one, other in itertools.pairwise(moments))


def test_a_stand_alone_training_is_at_the_resolution_of_its_network(space: SearchSpace, tmp_path: Path) -> None:
    problem = make_problem(space, tmp_path)
    config = Recipe.model_validate(short_recipe({"epochs": 1, "batch_size": 20}))
    evaluator = StandAloneEvaluator(problem, config, tmp_path / "evaluations")
    picks = space.sample(np.random.default_rng(0)).as_dict()
    found = {
        side: evaluator.evaluate(problem.space.architecture({**picks, "resolution": side}), lambda *point: None)
        for side in space.resolutions
    }
    again = evaluator.evaluate(problem.space.architecture({**picks, "resolution": 10}), lambda *point: None)
    assert again == found[10]
    assert len(set(found.values())) > 1


def test_a_study_proposes_resolutions_within_the_budgets(space: SearchSpace, tmp_path: Path) -> None:
    from se_nas.search.black_box.search import search_architectures

    problem = within(make_problem(space, tmp_path), 8)
    result = search_architectures(
        problem.space,
        problem.budgets,
        lambda architecture: float(architecture["resolution"]) / 10,
        config=OptunaConfig(max_evaluations=15, sampler="evolution"),
    )
    assert {e.architecture["resolution"] for e in result.evaluations} == {6, 8}
    assert result.best is not None
    assert result.best.architecture["resolution"] == 8


def test_baselines_beside_an_answer_are_at_its_resolution(space: SearchSpace, tmp_path: Path) -> None:
    problem = make_problem(space, tmp_path, macs=0.5)
    for side in (6, 8):
        picks = problem.space.sample(np.random.default_rng(0)).as_dict()
        answer = problem.space.architecture({**picks, "resolution": side})
        found, _ = pinned_controls(problem.space, problem.tables, problem.budgets, ratios=(2,), answer=answer)
        assert found
        assert {control.spec.resolution for control in found} == {side}


def test_images_are_resized_after_they_are_augmented(tiny_space: SearchSpace, tmp_path: Path) -> None:
    problem = make_problem(tiny_space, tmp_path)
    images = DeviceImages(problem.info, problem.train, problem.device)
    indices = torch.arange(5)
    own, _ = images.batch(indices, torch.Generator().manual_seed(3))
    for side in (5, 8, 13):
        x, y = images.at(side).batch(indices, torch.Generator().manual_seed(3))
        torch.testing.assert_close(x, at_side(own, side))
        assert x.shape == (5, 3, side, side)
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert y.tolist() == problem.train.labels[:5].tolist()
    assert at_side(own, 8) is own
    # antialiased: what one pixel of four says counts
    spot = torch.zeros(1, 1, 8, 8)
    spot[0, 0, 0, 0] = 1.0
    assert at_side(spot, 2)[0, 0, 0, 0] > 0
