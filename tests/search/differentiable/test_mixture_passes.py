"""The mixture's passes as graphs, by backends that do without a C++ compiler; captured ones: tests/gpu."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch.nn import functional as F

from se_nas.errors import ConfigError
from se_nas.search.differentiable.choice_logits import ChoiceLogits
from se_nas.search.differentiable.mixture_passes import Graphs, choice_passes
from se_nas.search.differentiable.search import DifferentiableConfig, search_differentiable
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from se_nas.supernet.supernet import SuperNet
from tests.helpers.tiny_runs import SPACE
from tests.search.problems import make_problem

PLAIN = Graphs(compiled=False, captured=False, say=print)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """Counts what is compiled."""
    counter, compile_ = CompileCounterWithBackend("eager"), torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: compile_(function, backend=counter, **options))
    counters.clear()
    return counter


def passes_of(space: SearchSpace, how: Graphs) -> tuple[SuperNet, ChoiceLogits, Callable[..., tuple[Tensor, ...]]]:
    torch.manual_seed(0)
    supernet, logits = SuperNet(space).double().train(), ChoiceLogits(space)
    return supernet, logits, choice_passes(supernet, logits, F.cross_entropy, how)


def images(space: SearchSpace) -> tuple[Tensor, Tensor]:
    x = torch.randn(3, space.channels, space.resolution, space.resolution, dtype=torch.float64)
    return x, torch.arange(3) % space.classes


@pytest.mark.slow  # torch traces both for seconds
def test_a_search_is_two_graphs_whatever_is_mixed_and_drawn(tmp_path: Path, graphs: CompileCounterWithBackend) -> None:
    """One for the weights and one for the choices, over temperatures, noise and rates; SE at several places."""
    se = {"options": ["none", 2], "position": ["inside", "post"]}
    stage = {"width": 8, "depth": [1, 2], "kernel": [3, 5], "expansion": 2, "se": se}
    problem = make_problem(parse_space({**SPACE, "stages": [stage]}, "places"), tmp_path / "compiled", macs=0.4)
    values: dict[str, Any] = {"pretrain_epochs": 0, "epochs": 2, "batch_size": 50, "weight_step": "mixture"}
    found = search_differentiable(problem, DifferentiableConfig(**values, compile=True))
    assert (graphs.frame_count, dict(counters["graph_break"])) == (2, {})
    assert found.history[0].temperature != found.history[1].temperature
    plain = search_differentiable(
        dataclasses.replace(problem, folder=tmp_path / "plain"), DifferentiableConfig(**values, compile=False)
    )
    for name, row in plain.scores.items():
        assert found.scores[name] == pytest.approx(row, abs=1e-3), name


def test_the_gradient_of_the_choices_asks_for_none_of_the_weights(tiny_space: SearchSpace) -> None:
    supernet, logits, passes = passes_of(tiny_space, PLAIN)
    relaxed, (x, y) = logits.relaxed(2.0, gumbel=False).double(), images(tiny_space)
    loss, found = passes(x, y, relaxed.detach())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in supernet.parameters())
    leaf = relaxed.detach().requires_grad_()
    expected = F.cross_entropy(supernet.mix(logits.rows(leaf))(x).float(), y)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(found, torch.autograd.grad(expected, leaf)[0])
    assert found.abs().sum() > 0


def test_mixtures_are_not_captured_where_there_is_no_cuda(tiny_space: SearchSpace, tmp_path: Path) -> None:
    problem = make_problem(tiny_space, tmp_path)
    with pytest.raises(ConfigError, match="search: cuda_graphs: must be auto or false on cpu, but got true"):
        search_differentiable(problem, DifferentiableConfig(cuda_graphs=True))
