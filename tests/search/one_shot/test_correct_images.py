"""The guesses on single images have the inherited accuracy as their mean, and are kept under their conditions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from se_nas.errors import ArchitectureError
from se_nas.search.one_shot import correct_images as inherited_guesses
from se_nas.search.one_shot.correct_images import InheritedGuesses
from se_nas.search.one_shot.inheritance import SupernetEvaluator
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.supernet.supernet import SuperNet
from tests.search.problems import make_problem


@pytest.fixture(scope="module")
def problem(tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> SearchProblem:
    return make_problem(tiny_space, tmp_path_factory.mktemp("search"))


def supernet(problem: SearchProblem, seed: int = 0) -> SuperNet:
    torch.manual_seed(seed)
    return SuperNet(problem.space)


def networks(problem: SearchProblem, count: int) -> list[Architecture]:
    return [problem.space.sample(np.random.default_rng(i)) for i in range(count)]


def test_the_mean_is_the_inherited_accuracy_also_from_disk(problem: SearchProblem, tmp_path: Path) -> None:
    net = supernet(problem)
    evaluator = SupernetEvaluator(problem, net, 50)
    guesses = InheritedGuesses(problem, net, 50, tmp_path / "new")
    for architecture in networks(problem, 3):
        first, again = guesses(architecture), guesses(architecture)
        assert first.shape == (guesses.images,) == (len(problem.parts["validation"]),)
        assert first.mean() == pytest.approx(evaluator(architecture))
        assert np.array_equal(first, again)
        assert first.dtype == again.dtype == np.bool_


def test_what_is_known_is_not_computed_again(
    problem: SearchProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = networks(problem, 2)
    known = InheritedGuesses(problem, supernet(problem), 50, tmp_path)(first)
    calls: list[Architecture] = []
    inherit = inherited_guesses.inherit

    def counted(net: SuperNet, architecture: Architecture, *rest: object) -> object:
        calls.append(architecture)
        return inherit(net, architecture, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(inherited_guesses, "inherit", counted)
    resumed = InheritedGuesses(problem, supernet(problem), 50, tmp_path)
    assert np.array_equal(resumed(first), known)
    assert calls == []
    resumed(second)
    assert calls == [second]


def test_other_conditions_find_nothing_of_these(problem: SearchProblem, tmp_path: Path) -> None:
    (architecture,) = networks(problem, 1)
    parts = {**problem.parts, "validation": problem.parts["validation"][1:]}
    fewer = make_problem(problem.space, tmp_path, parts=parts)
    others = [
        InheritedGuesses(problem, supernet(problem), 50, tmp_path),
        InheritedGuesses(problem, supernet(problem, 1), 50, tmp_path),
        InheritedGuesses(problem, supernet(problem), 40, tmp_path),
        InheritedGuesses(make_problem(problem.space, tmp_path, seed=1), supernet(problem), 50, tmp_path),
        InheritedGuesses(fewer, supernet(problem), 50, tmp_path),
    ]
    for count, guesses in enumerate(others, 1):
        assert len(guesses(architecture)) == guesses.images
        assert len(list(tmp_path.glob("*.bits"))) == count


def test_an_architecture_of_another_space_is_refused(problem: SearchProblem, tmp_path: Path) -> None:
    other = Architecture("0" * 16, networks(problem, 1)[0].picks)
    with pytest.raises(ArchitectureError, match="must be of this space"):
        InheritedGuesses(problem, supernet(problem), 50, tmp_path)(other)
