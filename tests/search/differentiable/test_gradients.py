"""Searches by the gradients that draw: the same seed, a resume, and configurations that they do not read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from se_nas.search.differentiable import search as differentiable
from se_nas.search.differentiable.search import DifferentiableConfig, search_differentiable
from se_nas.space.search_space import SearchSpace
from tests.search.problems import make_problem


@pytest.mark.parametrize("gradient", ["straight_through", "reinforce"])
def test_a_resumed_search_ends_as_one_of_the_same_seed_that_never_stopped(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gradient: Any
) -> None:
    config = DifferentiableConfig(
        gradient=gradient, pretrain_epochs=0, epochs=2, batch_size=20, validate_every=2, calibration_images=20
    )
    problem = make_problem(tiny_space, tmp_path / "whole", macs=0.4)
    whole = search_differentiable(problem, config)
    problem = dataclasses.replace(problem, folder=tmp_path / "stopped")
    step = differentiable._Search.step

    def interrupted(self: Any, context: Any) -> Any:
        if context.step == 8:
            raise KeyboardInterrupt
        return step(self, context)

    with monkeypatch.context() as patch:
        patch.setattr(differentiable._Search, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search_differentiable(problem, config)
    resumed = search_differentiable(dataclasses.replace(problem, resume=True), config)
    assert resumed.scores == whole.scores
    assert resumed.history == whole.history
    assert any(score != 0 for row in whole.scores.values() for score in row)
    own = resumed.supernet.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in whole.supernet.state_dict().items())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"gradient": "straight_through", "relaxation": "softmax"}, "relaxation must be gumbel"),
        ({"gradient": "reinforce", "temperature": [2.0, 0.5]}, "temperature must be left out"),
        ({"gradient": "reinforce", "compile": True}, "compile must be left out"),
        ({"gradient": "reinforce", "cuda_graphs": True}, "cuda_graphs must be left out"),
    ],
)
def test_what_a_gradient_does_not_read_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        DifferentiableConfig.model_validate(values)
