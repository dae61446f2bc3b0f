"""A baseline places SE as its name says, keeps the budgets, and is as large as brute force finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.errors import ConfigError, InfeasibleBudgetError
from se_nas.search.budgets.baselines import GAP, baseline, known_baselines
from se_nas.space.architecture import Architecture
from se_nas.space.channels import round_channels
from se_nas.space.choice import SE_PARTS
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec
from se_nas.space.templates import NO_SE
from se_nas.space.yaml.file import load_space, parse_space
from tests.helpers.strategies import spaces

SPACES = Path(__file__).parents[3] / "search_spaces"


def hidden_widths(name: str, space: SearchSpace, network: NetworkSpec, architecture: Architecture) -> bool:
    """Whether every block in use that has a choice of SE has the hidden width that a baseline's name asks for.

    And all that is chosen beside it as it is listed first.
    """
    picks = architecture.as_dict()
    used = [slot for slot in space.slots if slot.index < int(slot.depth.picked(picks))]
    for slot, block in zip(used, network.blocks, strict=True):
        op = slot.ops[slot.op.options.index(slot.op.picked(picks))]
        beside = [axis for axis in op.axes if axis.part in SE_PARTS[1:]]
        if any(axis.picked(picks) != axis.options[0] for axis in beside):
            return False
        if op.axis("se").choice is None:
            continue
        if name == "no_se":
            if block.se is not None and NO_SE in op.axis("se").options:
                return False
            wanted = block.se_hidden
        else:
            asked = op.template.se.spec(float(name.removeprefix("se_r")))
            assert asked is not None
            if block.se is None or block.se.kind != asked.kind:  # a relative may have the same hidden width
                return False
            wanted = asked.hidden(block.in_channels, block.expanded, block.out_channels)
        if block.se_hidden != wanted:
            return False
    return True


def offered_everywhere(name: str, space: SearchSpace) -> bool:
    """Whether no block has to take the nearest of other ratios."""
    templates = [op.template.se for slot in space.slots for op in slot.ops if op.axis("se").choice is not None]
    return name == "no_se" or all(float(name.removeprefix("se_r")) in template.options for template in templates)


@settings(max_examples=60)
@given(spaces(most_picks=200), st.integers(0, 2**16))
def test_a_baseline_is_the_largest_of_its_placement_that_keeps_the_budgets(space: SearchSpace, seed: int) -> None:
    rng, tables = np.random.default_rng(seed), count_tables(space)
    every = list(space.enumerate())
    limits = every[rng.integers(len(every))]
    budgets = [Budget(metric, table.cost(limits) * 1.1) for metric, table in tables.items()]
    feasible = [a for a in every if all(b.holds(tables[b.metric].cost(a)) for b in budgets)]
    for name in known_baselines(space):
        if not offered_everywhere(name, space):
            continue
        sizes = [tables["macs"].cost(a) for a in feasible if hidden_widths(name, space, space.resolve(a), a)]
        if not sizes:
            with pytest.raises(InfeasibleBudgetError, match=f"^baseline {name}: .* least reachable"):
                baseline(name, space, tables, budgets)
            continue
        found = baseline(name, space, tables, budgets)
        assert found in feasible
        assert hidden_widths(name, space, space.resolve(found), found)
        assert tables["macs"].cost(found) >= max(sizes) * (1 - GAP)


def test_the_main_space_s_baselines() -> None:
    space = load_space(SPACES / "mbconv_cifar.yaml")
    tables, budgets = count_tables(space), [Budget("macs", 20e6), Budget("params", 8e5)]
    assert known_baselines(space) == ("no_se", "se_r2", "se_r4", "se_r8", "se_r16", "se_r32")
    without = space.resolve(baseline("no_se", space, tables, budgets))
    assert all(block.se is None for block in without.blocks)
    found = baseline("se_r16", space, tables, budgets)
    blocks = space.resolve(found).blocks
    assert [b.se_hidden for b in blocks] == [round_channels(b.expanded / 16, 8) for b in blocks]
    assert 19.98e6 < tables["macs"].cost(found) <= 20e6


def test_a_ratio_that_has_no_option_of_its_own_takes_the_one_of_the_same_width() -> None:
    stage = {"width": 8, "kernel": 3, "expansion": [1], "se": {"options": ["none", 4, 8, 16]}}
    space = parse_space({"name": "narrow", "resolution": 8, "stem": {"width": 8}, "stages": [stage]}, "narrow")
    assert [c.options for c in space.choices] == [("none", "r4")]
    assert known_baselines(space) == ("no_se", "se_r4", "se_r8", "se_r16")
    assert baseline("se_r16", space, count_tables(space), [])["stage1.block1.se"] == "r4"


def test_a_ratio_that_a_stage_does_not_offer_takes_the_nearest_width_there() -> None:
    stages = [
        {"width": 64, "se": {"options": ["none", 4, 16], "divisor": 1}},
        {"width": 64, "stride": 2, "se": {"options": ["none", 2, 32], "divisor": 1}},
    ]
    space = parse_space({"name": "two", "resolution": 8, "stem": {"width": 64}, "stages": stages}, "two")
    found = baseline("se_r16", space, count_tables(space), [])
    assert (found["stage1.block1.se"], found["stage2.block1.se"]) == ("r16", "r32")  # 4 units: 2 are nearer than 32


def test_an_unknown_name_is_told_the_known_ones() -> None:
    space = load_space(SPACES / "mbconv_digits.yaml")
    tables = count_tables(space)
    with pytest.raises(ConfigError, match=r"must be one of no_se, se_r2, se_r4, se_r8, but got 'se_r3'"):
        baseline("se_r3", space, tables, [])
    without = load_space(SPACES / "nas_bench_macro.yaml")
    assert known_baselines(without) == ()
    with pytest.raises(ConfigError, match="leaves SE no choice"):
        baseline("no_se", without, count_tables(without), [])


def test_a_placement_that_breaks_a_budget_says_what_it_could_reach() -> None:
    space = load_space(SPACES / "mbconv_digits.yaml")
    tables = count_tables(space)
    with pytest.raises(InfeasibleBudgetError, match=r"^baseline se_r2: .*params <= .*the least reachable is"):
        baseline("se_r2", space, tables, [Budget("params", 9000.0)])
    assert tables["params"].cost(baseline("no_se", space, tables, [Budget("params", 9000.0)])) <= 9000
