from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from se_nas.data import search_images
from se_nas.data.in_memory.batches import DeviceImages
from se_nas.search.black_box.evaluation import evaluate_with
from se_nas.search.one_shot.inheritance import SupernetEvaluator, inherited_accuracy
from se_nas.search.problem import SearchProblem
from se_nas.space.search_space import SearchSpace
from se_nas.supernet.supernet import SuperNet
from tests.search.problems import make_problem


@pytest.fixture(scope="module")
def problem(tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> SearchProblem:
    return make_problem(tiny_space, tmp_path_factory.mktemp("search"))


@pytest.fixture(scope="module")
def supernet(problem: SearchProblem) -> SuperNet:
    torch.manual_seed(0)
    return SuperNet(problem.space)


@given(data=st.data())
def test_an_accuracy_is_the_inherited_one_whatever_was_evaluated_before(
    problem: SearchProblem, supernet: SuperNet, data: st.DataObject
) -> None:
    networks = list(problem.space.enumerate())
    asked = data.draw(st.lists(st.sampled_from(networks), min_size=2, max_size=4))
    evaluator = SupernetEvaluator(problem, supernet, 50)
    first = [evaluator(architecture) for architecture in asked]
    assert [evaluator(architecture) for architecture in reversed(asked)] == first[::-1]
    images = DeviceImages(problem.info, problem.train, problem.device)
    assert inherited_accuracy(supernet, asked[0], images, problem, 50) == first[0]


def test_architectures_differ(problem: SearchProblem, supernet: SuperNet) -> None:
    evaluator = SupernetEvaluator(problem, supernet, 50)
    found = {evaluate_with(evaluator, architecture, lambda *_: None) for architecture in problem.space.enumerate()}
    assert len(found) > 3
    assert all(0 <= accuracy <= 1 for accuracy in found)


def test_the_images_are_put_on_the_device_once(
    problem: SearchProblem, supernet: SuperNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(*arguments: object) -> DeviceImages:
        made.append(arguments)
        return DeviceImages(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(search_images, "DeviceImages", counted)
    evaluator = SupernetEvaluator(problem, supernet, 50)
    for architecture in list(problem.space.enumerate())[:3]:
        evaluator(architecture)
    assert len(made) == 1


def test_the_accuracy_does_not_hang_on_the_folder_or_the_choices_part(
    problem: SearchProblem, supernet: SuperNet, tiny_space: SearchSpace, tmp_path: Path
) -> None:
    architecture = next(problem.space.enumerate())
    fewer = {name: part for name, part in problem.parts.items() if name != "choices"}
    other = make_problem(tiny_space, tmp_path, parts=fewer)
    assert SupernetEvaluator(other, supernet, 50)(architecture) == SupernetEvaluator(problem, supernet, 50)(
        architecture
    )
