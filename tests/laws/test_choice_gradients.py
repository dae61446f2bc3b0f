"""REINFORCE's expectation is the gradient of the expected loss; the straight-through estimate is autograd's of a
certain choice that is taken back through its relaxation."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from se_nas.search.differentiable.choice_logits import ChoiceLogits
from se_nas.search.differentiable.reinforce import score_gradient
from se_nas.search.differentiable.search import DifferentiableConfig, _Search
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from tests.helpers.tiny_runs import SPACE, changed
from tests.search.problems import make_problem


def random_logits(space: SearchSpace) -> ChoiceLogits:
    logits = ChoiceLogits(space)
    with torch.no_grad():
        logits.logits.normal_(generator=torch.Generator().manual_seed(0))
    return logits


@pytest.mark.parametrize("resolution", [8, [6, 8]])
@pytest.mark.parametrize("baseline", [0.0, 2.5])
def test_the_score_function_s_expectation_is_the_gradient_of_the_expected_loss(
    resolution: int | list[int], baseline: float
) -> None:
    space = parse_space(changed(SPACE, "resolution", resolution), "space")
    logits = random_logits(space)
    every = torch.tensor(list(itertools.product(*(range(len(choice.options)) for choice in space.choices))))
    losses = torch.rand(len(every), generator=torch.Generator().manual_seed(1))
    rows = list(logits.probabilities().values())
    p = torch.stack([torch.stack([row[i] for row, i in zip(rows, each, strict=True)]).prod() for each in every])
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    (exact,) = torch.autograd.grad((p * losses).sum(), [logits.logits])
    estimates = [score_gradient(logits, each, loss - baseline) for each, loss in zip(every, losses, strict=True)]
    expectation = (p.detach()[:, None, None] * torch.stack(estimates)).sum(0)
    torch.testing.assert_close(expectation, torch.where(logits.learned, exact, 0.0), atol=1e-6, rtol=1e-4)


def test_the_straight_through_estimate_is_autograd_s_through_the_relaxation(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    problem = make_problem(tiny_space, tmp_path)
    search = _Search(problem, DifferentiableConfig(gradient="straight_through", pretrain_epochs=0, batch_size=20))
    ((loss, found),) = search._path_gradients(0, 3, 0)
    ((_, x, y),) = search.parts_of(search.choice_batches, 0, 3)  # which seeds torch's generator anew
    soft = search.logits.relaxed(search.temperature(0), gumbel=True)
    certain = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
    through = certain - soft.detach() + soft
    expected = F.cross_entropy(search.supernet.mix(search.logits.rows(through))(x), y)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(found, torch.autograd.grad(expected, search.logits.logits)[0], rtol=1e-3, atol=1e-6)
    assert found.abs().sum() > 0
    picked = search.logits.architecture(soft.argmax(1))
    torch.testing.assert_close(F.cross_entropy(search.supernet.activate(picked)(x), y), expected)
