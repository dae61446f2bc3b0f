"""Every shipped space passes a search of two steps, at a reduced size, and published networks are points of spaces."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from se_nas.cost.budget import Budget
from se_nas.cost.counts import network_counts
from se_nas.layers.network import Network
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.strategy import search_optuna
from se_nas.search.budgets.decode import decode, greatest_cost, least_cost
from se_nas.search.differentiable.search import DifferentiableConfig, search_differentiable
from se_nas.search.one_shot.config import OneShotConfig
from se_nas.search.problem import SearchProblem
from se_nas.space.choice import Option
from se_nas.space.slots.slot import Slot
from se_nas.space.specs import BlockSpec, NetworkSpec
from se_nas.space.yaml.file import load_space
from tests.laws.shipped import BASELINES, SHIPPED, reduced
from tests.search.problems import make_problem

#: Eight images for the weights and eight for the choices: two batches of each.
BATCH = 4
PARTS = {part: torch.arange(start, start + 2 * BATCH) for start, part in ((0, "weights"), (8, "choices"))}

#: The published network that lies in a space where every stage is as deep as it can be, or as shallow.
INSIDE = {
    "resnet_se": ("se_resnet50", max),
    "resnext_se": ("se_resnext50_32x4d", max),
    "vgg_se": ("se_vgg16_bn", max),
    "inception_se": ("se_bn_inception", min),
    "mobilenet_v1_se": ("se_mobilenetv1", max),
    "shufflenet_se": ("se_shufflenetv1", max),
    "cifar_resnet_se": ("se_resnet110", max),
    "cifar_resnet_se_dims": ("se_resnet110", max),
}


@pytest.fixture(params=SHIPPED, ids=lambda path: path.stem)
def problem(request: pytest.FixtureRequest, tmp_path: Path) -> SearchProblem:
    """A shipped space at a reduced size, with half of the way from the fewest to the most MACs as a budget."""
    made = make_problem(reduced(load_space(request.param)), tmp_path / "search")
    macs = [find(made.space, made.tables, "macs").costs["macs"] for find in (least_cost, greatest_cost)]
    parts = {**PARTS, "validation": torch.arange(16, 24)}
    return dataclasses.replace(made, budgets=(Budget("macs", sum(macs) / 2),), parts=parts)


def check_answer(problem: SearchProblem, network: NetworkSpec) -> None:
    assert network_counts(network).macs <= problem.budgets[0].limit
    with torch.no_grad():
        logits = Network(network).eval()(torch.randn(1, problem.info.channels, 8, 8))
    assert logits.isfinite().all()


def test_a_differentiable_search_of_two_steps_teaches_every_choice(problem: SearchProblem) -> None:
    config = DifferentiableConfig(pretrain_epochs=0, epochs=1, batch_size=BATCH, calibration_images=8)
    found = search_differentiable(problem, config)
    assert found.images == 2 * 2 * BATCH
    # on so few pixels one kernel sees what another sees
    alike = {op.axis("kernel").choice for slot in problem.space.slots for op in slot.ops if max(op.side.values) < 3}
    assert {name for name, scores in found.scores.items() if not any(scores)} <= alike
    answer = decode(problem.space, problem.tables, problem.budgets, found.scores)
    check_answer(problem, problem.space.resolve(answer.architecture))


def test_an_optuna_driven_search_of_two_steps_evaluates(problem: SearchProblem) -> None:
    supernet = OneShotConfig(sampling="uniform", epochs=1, batch_size=2 * BATCH, calibration_images=8)
    found = search_optuna(problem, OptunaConfig(max_evaluations=2, supernet=supernet))
    rows = json.loads((problem.folder / "evaluations.json").read_text())["evaluations"]
    assert [row["state"] for row in rows] == ["complete"] * 2
    assert all(row["costs"]["macs"] <= problem.budgets[0].limit for row in rows)
    assert found.images == 2 * 2 * BATCH


@pytest.mark.parametrize("name", INSIDE)
def test_a_published_network_is_inside_its_space(name: str) -> None:
    space = load_space(next(path for path in SHIPPED if path.stem == name))
    baseline_name, depth = INSIDE[name]
    baseline = load_space(next(path for path in BASELINES if path.stem == baseline_name))
    published = baseline.resolve(baseline.architecture({}))
    picks: dict[str, Option] = {choice.name: choice.options[0] for choice in space.choices}
    blocks = iter(published.blocks)
    for slot in space.slots:
        deep = depth(space.stages[slot.stage].depths)
        picks |= {} if slot.depth.choice is None else {slot.depth.choice: deep}
        if slot.index < deep:
            picks |= picks_that_build(next(blocks), slot)
    assert space.resolve(space.architecture(picks)) == published


def picks_that_build(block: BlockSpec, slot: Slot) -> dict[str, Option]:
    for name, op in zip(slot.op.options, slot.ops, strict=True):
        for options in op.combinations():
            if op.block(**options) == block:
                axes = zip((slot.op, *op.axes), (name, *options.values()), strict=True)
                return {axis.choice: option for axis, option in axes if axis.choice is not None}
    raise AssertionError(f"no options of stage {slot.stage + 1}, block {slot.index + 1} build {block.words()}")
