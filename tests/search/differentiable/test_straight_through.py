"""Searches whose choices learn by the straight-through gradient."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from se_nas.search.differentiable import search as differentiable
from se_nas.search.differentiable.search import DifferentiableConfig, _Search, search_differentiable
from se_nas.space.search_space import SearchSpace
from se_nas.training.images import part_seed
from se_nas.training.loop import StepContext
from tests.search.problems import make_problem

CONTEXT = StepContext(step=0, epoch=0, step_in_epoch=0, attempt=0, lr_scale=1.0, seed=3)


def config(**changes: Any) -> DifferentiableConfig:
    """5 weight steps and 5 choice steps an epoch."""
    values: dict[str, Any] = {"gradient": "straight_through", "pretrain_epochs": 0, "epochs": 2, "batch_size": 20}
    return DifferentiableConfig(**{**values, "validate_every": 2, "calibration_images": 20, **changes})


def test_the_estimate_is_autograd_s_of_a_certain_choice_taken_back_through_its_relaxation(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    search = _Search(make_problem(tiny_space, tmp_path), config())
    logits = search.logits.logits
    with torch.no_grad():
        logits.normal_(generator=torch.Generator().manual_seed(0))
    before = logits.detach().clone()
    loss = search._choice_step(CONTEXT)["choice_loss"]
    assert logits.grad is not None
    found = logits.grad.clone()
    with torch.no_grad():
        logits.copy_(before)
    batches, seed = search.choice_batches, part_seed(CONTEXT.seed, "choice step")
    ((_, x, y),) = search.parts_of(batches, 0, seed)  # which seeds torch's generator anew
    soft = search.logits.relaxed(search.temperature(0), gumbel=True)
    certain = F.one_hot(soft.argmax(1), soft.shape[1]).float()
    through = certain - soft.detach() + soft
    expected = F.cross_entropy(search.supernet.mix(search.logits.rows(through))(x), y)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(found, torch.autograd.grad(expected, logits)[0], rtol=1e-3, atol=1e-6)
    assert found.abs().sum() > 0
    picked = {c.name: c.options[i] for c, i in zip(tiny_space.choices, soft.argmax(1).tolist(), strict=True)}
    alone = search.supernet.activate(search.problem.space.architecture(picked))(x)
    torch.testing.assert_close(F.cross_entropy(alone, y), expected)


def test_a_resumed_search_ends_as_one_of_the_same_seed_that_never_stopped(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem(tiny_space, tmp_path / "whole", macs=0.4)
    whole = search_differentiable(problem, config())
    problem = dataclasses.replace(problem, folder=tmp_path / "stopped")
    step = differentiable._Search.step

    def interrupted(self: Any, context: Any) -> Any:
        if context.step == 8:
            raise KeyboardInterrupt
        return step(self, context)

    with monkeypatch.context() as patch:
        patch.setattr(differentiable._Search, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search_differentiable(problem, config())
    resumed = search_differentiable(dataclasses.replace(problem, resume=True), config())
    assert resumed.scores == whole.scores
    assert resumed.history == whole.history
    assert any(score != 0 for row in whole.scores.values() for score in row)
    own = resumed.supernet.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in whole.supernet.state_dict().items())


def test_it_is_refused_without_the_noise_that_it_draws_by() -> None:
    with pytest.raises(ValidationError, match="relaxation must be gumbel with gradient straight_through"):
        config(relaxation="softmax")
