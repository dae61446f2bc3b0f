"""The gain of each option is what brute force finds over the contexts, with the costs that the tables have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from se_nas.cost.table import count_tables
from se_nas.evidence.statistics import paired_difference
from se_nas.evidence.where_se_pays import where_se_pays
from se_nas.search.one_shot import correct_images as inherited_guesses
from se_nas.search.one_shot.inheritance import SupernetEvaluator
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from se_nas.supernet.supernet import SuperNet
from tests.search.problems import make_problem

MBCONV = {
    "stage2.block1.block": "mbconv k3 e2-3",
    "stage2.block1.mbconv_k3_e2-3.expansion": 2,
    "stage2.block1.mbconv_k3_e2-3.se": "r4",
}
PICKS = {
    "stage1.depth": 1,
    "stage1.block1.kernel": 3,
    "stage1.block1.se": "r2",
    "stage1.block2.kernel": 3,
    "stage1.block2.se": "none",
}


@pytest.fixture(scope="module")
def problem(tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> SearchProblem:
    return make_problem(tiny_space, tmp_path_factory.mktemp("search"))


@pytest.fixture(scope="module")
def supernet(problem: SearchProblem) -> SuperNet:
    torch.manual_seed(0)
    return SuperNet(problem.space)


def architecture(problem: SearchProblem, **changes: Any) -> Architecture:
    return problem.space.architecture({**PICKS, **MBCONV, **changes})


def test_gains_costs_and_intervals_by_brute_force(problem: SearchProblem, supernet: SuperNet, tmp_path: Path) -> None:
    answer = architecture(problem)
    deeper = architecture(
        problem, **{"stage1.depth": 2, "stage1.block1.kernel": 5, "stage2.block1.mbconv_k3_e2-3.expansion": 3}
    )
    told: list[tuple[int, int]] = []
    found = where_se_pays(
        problem,
        supernet,
        answer,
        [deeper, answer],
        calibration_images=50,
        folder=tmp_path,
        progress=lambda done, total: told.append((done, total)),
    )
    json.dumps(found.plain(), allow_nan=False)
    assert (found.images, found.contexts) == (len(problem.parts["validation"]), 2)
    blocks = {block.block: block for block in found.blocks}
    assert list(blocks) == ["stage1.block1", "stage1.block2", "stage2.block1.mbconv_k3_e2-3"]
    assert [block.chosen for block in blocks.values()] == ["r2", None, "r4"]
    assert {block.reference for block in blocks.values()} == {"none"}
    assert [len(block.options) for block in blocks.values()] == [1, 1, 2]

    evaluator = SupernetEvaluator(problem, supernet, 50)
    tables = count_tables(problem.space)
    uses = {
        "stage1.block1": [answer, deeper],
        "stage1.block2": [deeper],
        "stage2.block1.mbconv_k3_e2-3": [answer, deeper],
    }
    for name, block in blocks.items():
        for option in block.options:
            pairs = [
                tuple(problem.space.architecture({**a.as_dict(), f"{name}.se": o}) for o in (option.option, "none"))
                for a in uses[name]
            ]
            gains = [evaluator(ours) - evaluator(theirs) for ours, theirs in pairs]
            assert option.gain == pytest.approx(np.mean(gains), abs=1e-9)
            assert option.low <= option.gain <= option.high
            for metric in ("macs", "params"):
                ours, theirs = pairs[0]
                assert getattr(option, metric) == tables[metric].cost(ours) - tables[metric].cost(theirs) > 0
            assert option.latency_ms is None
    # r2 of 32 expanded channels
    wide = blocks["stage2.block1.mbconv_k3_e2-3"]
    assert (wide.channels, wide.resolution) == (16, 4)
    assert [(o.option, o.hidden) for o in wide.options] == [("r2", 8), ("r4", 4)]
    # two networks for either of the first and third choice in each context, three for the last; some are the same
    total = told[-1][1]
    assert told == [(i + 1, total) for i in range(total)]
    assert total == len(list(tmp_path.glob("*.bits"))) < (2 + 3) + (2 + 2 + 3)


def test_the_interval_is_students_of_the_images(problem: SearchProblem, supernet: SuperNet, tmp_path: Path) -> None:
    answer = architecture(problem)
    found = where_se_pays(problem, supernet, answer, [], calibration_images=50, folder=tmp_path)
    guesses = inherited_guesses.InheritedGuesses(problem, supernet, 50, tmp_path)
    off = problem.space.architecture({**answer.as_dict(), "stage1.block1.se": "none"})
    expected = paired_difference(guesses(answer).astype(float), guesses(off).astype(float))
    option = found.blocks[0].options[0]
    assert (option.gain, option.low, option.high) == (expected.value, expected.low, expected.high)


def test_a_killed_call_goes_on_where_it_was(
    problem: SearchProblem, supernet: SuperNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = architecture(problem)
    whole = where_se_pays(problem, supernet, answer, [], calibration_images=50, folder=tmp_path / "whole")
    calls: list[int] = []
    inherit = inherited_guesses.inherit

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return inherit(*arguments)

    def killed(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(inherited_guesses, "inherit", counted)
    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        where_se_pays(problem, supernet, answer, [], calibration_images=50, folder=folder, progress=killed)
    assert where_se_pays(problem, supernet, answer, [], calibration_images=50, folder=folder) == whole
    assert len(calls) == len(list((tmp_path / "whole").glob("*.bits")))


def test_planted_gain_and_loss_are_found(
    problem: SearchProblem, supernet: SuperNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of the supernet: every SE of stage 1 mends one image in four, r2 of stage 2 breaks one in five."""
    numbers = np.arange(len(problem.parts["validation"]))

    def planted(self: object, network: Architecture) -> Any:
        right = numbers % 2 == 0
        if network["stage1.block1.se"] == "r2":
            right = right | (numbers % 4 == 1)
        if network["stage2.block1.mbconv_k3_e2-3.se"] == "r2":
            right = right & (numbers % 5 != 0)
        return right

    monkeypatch.setattr(inherited_guesses.InheritedGuesses, "__call__", planted)
    found = where_se_pays(problem, supernet, architecture(problem), [], calibration_images=50, folder=tmp_path)
    (first,), (second, third) = (block.options for block in found.blocks)
    assert first.gain == pytest.approx(0.25)
    assert first.low > 0
    assert second.gain < 0
    assert second.high < 0
    assert (third.gain, third.low, third.high) == (0, 0, 0)


def test_blocks_that_cannot_be_without_are_compared_with_the_least(tmp_path: Path) -> None:
    stages = [
        {"width": 8, "expansion": [2], "se": {"options": [2, 4], "divisor": 4}},
        {"width": 16, "expansion": [1, 6], "se": {"options": [2, 4]}},
    ]
    data = {"name": "always", "resolution": 8, "stem": {"width": 8}, "stages": stages}
    problem = make_problem(parse_space(data, "always"), tmp_path)
    torch.manual_seed(0)
    picks = {"stage1.block1.se": "r2", "stage2.block1.expansion": 1, "stage2.block1.se": "r2"}
    answer, net = problem.space.architecture(picks), SuperNet(problem.space)
    found = where_se_pays(problem, net, answer, [], calibration_images=50, folder=tmp_path / "bits")
    # without expansion the second block has 8 hidden units at either ratio: there is nothing to compare
    (block,) = found.blocks
    assert (block.block, block.reference) == ("stage1.block1", "r4")
    assert [(option.option, option.hidden) for option in block.options] == [("r2", 8)]
    assert block.options[0].macs == 2 * 16 * (8 - 4)
    wider = problem.space.architecture({**picks, "stage2.block1.expansion": 6})
    found = where_se_pays(problem, net, answer, [wider], calibration_images=50, folder=tmp_path / "bits")
    assert [(block.block, block.chosen) for block in found.blocks] == [
        ("stage1.block1", "r2"),
        ("stage2.block1", "r2"),
    ]
