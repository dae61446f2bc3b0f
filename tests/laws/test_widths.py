"""Laws 1 to 3 where widths are choices: every kind of block is one function, sizes and decodes are exact."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from se_nas.cost.budget import Budget
from se_nas.cost.counts import network_counts
from se_nas.cost.table import CostTable, build_table, count_tables
from se_nas.errors import InfeasibleBudgetError
from se_nas.search.budgets.decode import decode, least_cost
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from tests.helpers.outputs import outputs
from tests.helpers.own_kinds import added
from tests.helpers.probabilities import one_hot, soft
from tests.laws.test_counts import check_every_count
from tests.laws.test_decode import BruteForce
from tests.laws.test_one_supernet import images, lively_supernet, run

POSITIONS = ("inside", "standard", "pre", "post", "identity")
SE = {"options": ["none", 2, "eca", "cbam/2"], "divisor": 1, "gate": "sigmoid"}

#: A block of every kind that may stand where widths are choices, with what each of its variants does to channels.
BLOCKS: dict[str, dict[str, Any]] = {
    "mbconv": {"kind": "mbconv", "kernel": [3, 5], "expansion": [1, 2]},
    "mbconv that always expands": {"kind": "mbconv", "expansion": [2, 3]},
    "fused_mbconv": {"kind": "fused_mbconv", "expansion": [1, 2]},
    "residual_conv": {"kind": "residual_conv", "kernel": [3, 5], "se": SE},
    "basic": {"kind": "basic", "expansion": [0.5, 1]},
    "pre-activation": {"kind": "basic", "preactivation": True},
    "bottleneck": {"kind": "bottleneck", "kernel": [3, 5], "expansion": [0.5, 1]},
    "pre-activation bottleneck": {"kind": "bottleneck", "expansion": 0.5, "preactivation": True},
    "grouped": {"kind": "bottleneck", "expansion": [1, 2], "group_width": 4, "entry": 0.5},
    "conv": {"kind": "conv"},
    "separable": {"kind": "separable", "kernel": [3, 5]},
    "identity": {"kind": "identity"},
    **{
        f"mbconv, SE at {at}": {"kind": "mbconv", "expansion": [1, 2], "se": {**SE, "position": at}} for at in POSITIONS
    },
    **{f"basic, SE at {at}": {"kind": "basic", "se": {**SE, "position": at}} for at in POSITIONS},
    "pre-activation, SE on the shortcut": {
        "kind": "basic",
        "preactivation": True,
        "se": {**SE, "position": "identity"},
    },
    "conv with SE": {"kind": "conv", "se": {"options": [2, "ese", "spatial"], "divisor": 1}},
    "SE of a share of the input": {"kind": "mbconv", "expansion": 2, "se": {**SE, "ratio_of": "block_input"}},
}
HEADS: tuple[dict[str, Any], ...] = (
    {},
    {"width": [12, 16], "hidden": [5, 9], "hidden_layers": 2},
    {"norm": True, "flatten": True, "hidden": [5, 9], "hidden_bias": False},
)


def space_of(
    *blocks: dict[str, Any], stride: int = 1, depth: Any = 2, width: Any = (8, 12), **more: Any
) -> SearchSpace:
    """A stage whose first block may keep its input's shape or may not, which the later ones do."""
    named = [{**block, "name": f"block{i}"} for i, block in enumerate(blocks)]
    stage = {"width": width, "stride": stride, "depth": depth, "activation": "silu", "blocks": named}
    stem = {"width": [8, 12], "activation": "hard_swish"}
    data = {"name": "wide", "resolution": 6, "channels": 2, "channel_divisor": 1, "stem": stem, "stages": [stage]}
    return parse_space({**data, **more}, "wide")


@pytest.mark.parametrize("name", BLOCKS)
def test_every_kind_of_block_is_one_function_at_every_width(name: str) -> None:
    number = list(BLOCKS).index(name)
    space = space_of(BLOCKS[name], stride=1 + number % 3 // 2, head=HEADS[number % len(HEADS)])
    supernet, x, rng = lively_supernet(space, number), images(space), np.random.default_rng(number)
    for training, _ in itertools.product((False, True), range(3)):
        architecture = space.sample(rng)
        supernet.train(training)
        expected = run(supernet.export(architecture), x)
        mixture = copy.deepcopy(supernet).mix(one_hot(space, architecture))
        torch.testing.assert_close(run(mixture, x), expected)
        torch.testing.assert_close(run(copy.deepcopy(supernet).activate(architecture), x), expected)


@pytest.mark.parametrize(
    ("stem", "width", "block"),
    [
        *((12, [8, 12], BLOCKS[name]) for name in ("basic", "pre-activation", "identity", "mbconv, SE at identity")),
        *(([8, 12], 8, BLOCKS[name]) for name in ("basic", "bottleneck", "identity", "mbconv, SE at identity")),
        ([8, 12], 12, {"kind": "basic", "shortcut": "pad", "preactivation": True}),
        # the channels that attention sees are none of the output's
        (8, [8, 12], {"kind": "mbconv", "expansion": 3, "se": {"options": ["spatial", 2], "divisor": 1}}),
        # 30 channels times 1.1 are 32, which need a convolution; 32 are 32
        ([30, 32], [24, 32], {"kind": "mbconv", "expansion": 1.1}),
    ],
)
def test_what_only_some_pairs_of_widths_have_is_there_for_them(stem: Any, width: Any, block: dict[str, Any]) -> None:
    divisor = 8 if block.get("expansion") == 1.1 else 1
    space = space_of(block, channel_divisor=divisor, stem={"width": stem}, width=width)
    supernet, x, rng = lively_supernet(space, 0), images(space), np.random.default_rng(0)
    for _ in range(5):
        architecture = space.sample(rng)
        expected = run(supernet.export(architecture), x)
        torch.testing.assert_close(run(copy.deepcopy(supernet).mix(one_hot(space, architecture)), x), expected)
        torch.testing.assert_close(run(copy.deepcopy(supernet).activate(architecture), x), expected)


def test_a_block_of_one_s_own_has_a_module_for_each_pair_of_widths() -> None:
    se = {"options": ["none", 2, "spatial", "contrast/2"], "divisor": 1}
    with added():
        space = space_of({"kind": "ghost", "kernel": [3, 5], "se": se}, BLOCKS["identity"])
        supernet, x, rng = lively_supernet(space, 0).eval(), images(space), np.random.default_rng(0)
        for _ in range(6):
            architecture = space.sample(rng)
            expected = run(supernet.export(architecture), x)
            torch.testing.assert_close(run(supernet.mix(one_hot(space, architecture)), x), expected)
            torch.testing.assert_close(run(supernet.activate(architecture), x), expected)


def test_one_multiplier_of_all_widths_is_one_function_too() -> None:
    blocks = (BLOCKS["mbconv, SE at inside"], BLOCKS["identity"])
    space = parse_space(
        {
            "name": "tied",
            "resolution": 6,
            "channel_divisor": 1,
            "width_multiplier": [0.5, 1, 1.25],
            "stem": {"width": 6, "bias": True, "norm": False, "then": [{"width": 8}]},
            "stages": [
                {"width": 8, "depth": [1, 2], "blocks": [{**b, "name": f"block{i}"} for i, b in enumerate(blocks)]},
                {"width": 12, "stride": 2, "expansion": [1, 2]},
            ],
            "head": {"width": 20, "hidden": 9},
        },
        "tied",
    )
    multiplier, *_ = space.choices
    widths = [[width.picked({multiplier.name: by}) for width in space.widths] for by in multiplier.options]
    assert widths == [[3, 4, 4, 6, 10, 9], [6, 8, 8, 12, 20, 9], [8, 10, 10, 15, 25, 9]]  # 7.5 to the even
    supernet, x = lively_supernet(space, 0).eval(), images(space)
    for architecture in map(space.sample, map(np.random.default_rng, range(6))):
        check_every_count(space, architecture)
        expected = run(supernet.export(architecture), x)
        torch.testing.assert_close(run(supernet.activate(architecture), x), expected)
        torch.testing.assert_close(run(supernet.mix(one_hot(space, architecture)), x), expected)


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [
        (1, (BLOCKS["mbconv, SE at identity"], BLOCKS["identity"])),  # a stage's second identity would be none
        ([1, 2], (BLOCKS["conv"], {"kind": "basic", "se": {"options": ["none", 2, 3], "divisor": 4}})),
    ],
    ids=("inverted", "plain"),
)
def test_a_space_of_widths_is_as_large_as_its_networks_are_many(depth: Any, blocks: tuple[dict[str, Any], ...]) -> None:
    space = space_of(*blocks, depth=depth)
    assert len(outputs(space)) == space.size == len(set(space.enumerate()))


def tables_of(space: SearchSpace) -> dict[str, CostTable]:
    """Counts, and a latency that stem, head and every block have a part of that follows from nothing else."""
    ms = build_table(
        space,
        "latency_ms",
        lambda stem, head: (stem[-1].out_channels * head.width) ** 0.5,  # no sum of a stem's part and a head's
        lambda block: (block.in_channels * 7919 + block.expanded * 104729 + block.out_channels * 1299709) % 89,
    )
    return {**count_tables(space), "latency_ms": ms}


def test_a_decode_over_widths_is_the_best_under_three_budgets() -> None:
    space = parse_space(
        {
            "name": "chain",
            "resolution": 8,
            "channel_divisor": 1,
            "stem": {"width": [4, 6]},
            "stages": [
                {"width": [4, 6, 9], "depth": [1, 2], "expansion": [1, 2]},
                {"width": [6, 8], "stride": 2, "expansion": [1, 3], "se": {"options": ["none", 2], "divisor": 1}},
            ],
            "head": {"width": [10, 14]},
        },
        "chain",
    )
    tables, rng = tables_of(space), np.random.default_rng(0)
    for _ in range(20):
        scores = {c.name: rng.normal(size=len(c.options)).tolist() for c in space.choices}
        brute = BruteForce(space, tables, scores)
        limits = {metric: float(np.quantile(costs, rng.uniform(0.02, 0.6))) for metric, costs in brute.costs.items()}
        budgets = [Budget(metric, limit) for metric, limit in limits.items()]
        kept = brute.kept(budgets)
        if not kept.any():
            with pytest.raises(InfeasibleBudgetError):
                decode(space, tables, budgets, scores)
            continue
        found = decode(space, tables, budgets, scores)
        assert found.score == pytest.approx(brute.score[kept].max(), abs=1e-5)
        assert all(budget.holds(found.costs[budget.metric]) for budget in budgets)
        network = network_counts(space.resolve(found.architecture))
        assert (found.costs["macs"], found.costs["params"]) == (network.macs, network.params)
        least = least_cost(space, tables, "latency_ms", budgets[:2])
        assert least.costs["latency_ms"] == pytest.approx(brute.least("latency_ms", budgets[:2]))


def test_the_expected_cost_over_widths_is_the_mean_over_all_picks() -> None:
    space = space_of(BLOCKS["mbconv"], depth=1, head={"width": [12, 16]})
    probabilities = soft(space, 3)
    for table in [table for table in tables_of(space).values() if table.parts == "sum"]:
        mean = 0.0
        for options in itertools.product(*(choice.options for choice in space.choices)):
            picks = dict(zip((choice.name for choice in space.choices), options, strict=True))
            chance = float(np.prod([float(probabilities[c.name][c.index(picks[c.name])]) for c in space.choices]))
            mean += chance * table.cost(space.architecture(picks))
        assert float(table.expected_cost(probabilities)) == pytest.approx(mean, rel=1e-6)
