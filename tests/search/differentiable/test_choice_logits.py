from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from se_nas.search.differentiable.choice_logits import ChoiceLogits
from se_nas.space.search_space import SearchSpace
from tests.helpers.strategies import spaces

DRAWS = 4000


def random_logits(space: SearchSpace, seed: int) -> ChoiceLogits:
    logits = ChoiceLogits(space)
    with torch.no_grad():
        logits.logits.normal_(generator=torch.Generator().manual_seed(seed))
    return logits


def chi_square_is_likely(counts: np.ndarray, expected: np.ndarray) -> bool:
    """Against the 0.9999 quantile; a real difference of some per cent is far beyond it."""
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return statistic < chi2.ppf(0.9999, len(counts) - 1)


@given(spaces(), st.integers(0, 2**16), st.sampled_from([0.05, 1.0, 5.0]), st.booleans())
def test_probabilities_sum_to_one_over_each_choice_s_own_options(
    space: SearchSpace, seed: int, temperature: float, gumbel: bool
) -> None:
    logits = random_logits(space, seed)
    torch.manual_seed(seed)
    for found in (logits.probabilities(), logits.rows(logits.relaxed(temperature, gumbel))):
        assert list(found) == [choice.name for choice in space.choices]
        for choice in space.choices:
            p = found[choice.name]
            assert p.shape == (len(choice.options),)
            assert p.sum().item() == pytest.approx(1, abs=1e-5)
            assert (p >= 0).all()


def test_probabilities_are_the_softmax_of_the_scores(tiny_space: SearchSpace) -> None:
    logits = random_logits(tiny_space, 0)
    for name, p in logits.probabilities().items():
        torch.testing.assert_close(p, torch.tensor(logits.scores()[name]).softmax(0))
    for name, p in logits.rows(logits.relaxed(2.0, gumbel=False)).items():
        torch.testing.assert_close(p, (torch.tensor(logits.scores()[name]) / 2).softmax(0))


def test_uniform_at_first_and_then_as_decided_as_the_entropy_says(tiny_space: SearchSpace) -> None:
    logits = ChoiceLogits(tiny_space)
    for choice in tiny_space.choices:
        assert logits.probabilities()[choice.name].tolist() == pytest.approx(
            [1 / len(choice.options)] * len(choice.options)
        )
    assert list(logits.entropy().values()) == pytest.approx([1.0] * len(tiny_space.choices))
    with torch.no_grad():
        logits.logits[:, 0] = 1000.0
    assert list(logits.entropy().values()) == [0.0] * len(tiny_space.choices)
    with torch.no_grad():
        logits.logits.zero_()[:, 0] = math.log(3)  # of two options: 3/4 and 1/4
    two = next(c.name for c in tiny_space.choices if len(c.options) == 2)
    assert logits.entropy()[two] == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2))


def test_a_low_temperature_makes_one_option_certain(tiny_space: SearchSpace) -> None:
    logits = random_logits(tiny_space, 1)
    torch.manual_seed(0)
    for gumbel in (False, True):
        for p in logits.rows(logits.relaxed(1e-3, gumbel)).values():
            assert p.max().item() > 0.999
    for name, p in logits.rows(logits.relaxed(1e-3, gumbel=False)).items():
        assert p.argmax() == logits.probabilities()[name].argmax()
    for p in logits.rows(logits.relaxed(1e3, gumbel=True)).values():
        assert (p - 1 / len(p)).abs().max().item() < 0.01


def test_gumbel_noise_makes_each_option_win_as_often_as_it_is_probable(tiny_space: SearchSpace) -> None:
    logits = random_logits(tiny_space, 2)
    wins = {c.name: np.zeros(len(c.options)) for c in tiny_space.choices}
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(DRAWS):
            for name, p in logits.rows(logits.relaxed(1.0, gumbel=True)).items():
                wins[name][int(p.argmax())] += 1
    for name, p in logits.probabilities().items():
        assert chi_square_is_likely(wins[name], DRAWS * p.detach().double().numpy()), name


def test_samples_follow_the_probabilities_also_jointly(tiny_space: SearchSpace) -> None:
    logits = random_logits(tiny_space, 3)
    rng = np.random.default_rng(0)
    found = [logits.sample(rng) for _ in range(DRAWS)]
    p = {name: row.detach().double().numpy() for name, row in logits.probabilities().items()}
    # what depth or kind may switch off is canonical there, so only the choices in force everywhere are looked at
    first, second = "stage1.depth", "stage2.block1.block"
    joint = np.outer(p[first], p[second]).ravel()
    counts = np.zeros_like(joint)
    for architecture in found:
        i = tiny_space.choice_by_name[first].index(architecture[first])
        j = tiny_space.choice_by_name[second].index(architecture[second])
        counts[i * len(p[second]) + j] += 1
    assert chi_square_is_likely(counts, DRAWS * joint)
    again = np.random.default_rng(0)
    assert [logits.sample(again) for _ in range(5)] == found[:5]


def test_an_option_of_no_probability_is_never_drawn(tiny_space: SearchSpace) -> None:
    logits = ChoiceLogits(tiny_space)
    wanted = tiny_space.sample(np.random.default_rng(4))
    with torch.no_grad():
        for row, choice in enumerate(tiny_space.choices):
            logits.logits[row, choice.index(wanted[choice.name])] = 1000.0
    rng = np.random.default_rng(0)
    assert {logits.sample(rng) for _ in range(50)} == {wanted}


def test_the_gradient_reaches_every_option_and_no_absent_one(tiny_space: SearchSpace) -> None:
    logits = random_logits(tiny_space, 5)
    torch.manual_seed(0)
    for found in (logits.probabilities(), logits.rows(logits.relaxed(0.7, gumbel=True))):
        loss = sum((p.square().sum() for p in found.values()), torch.zeros(()))
        (gradient,) = torch.autograd.grad(loss, [logits.logits])
        assert gradient.isfinite().all()
        for row, choice in enumerate(tiny_space.choices):
            assert (gradient[row, : len(choice.options)] != 0).all()
            assert (gradient[row, len(choice.options) :] == 0).all()


def test_state_holds_the_logits_alone(tiny_space: SearchSpace) -> None:
    logits = random_logits(tiny_space, 6)
    other = ChoiceLogits(tiny_space)
    other.load_state_dict(logits.state_dict())
    assert list(logits.state_dict()) == ["logits"]
    assert other.scores() == logits.scores()
