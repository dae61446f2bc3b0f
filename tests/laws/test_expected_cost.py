"""Law 3: an expected cost is the sum over every architecture, weighed by how likely it is to be drawn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from se_nas.cost.metrics import METRICS, PEAK
from se_nas.cost.table import CostTable, build_table, count_tables
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec
from tests.helpers.probabilities import one_hot, soft
from tests.helpers.strategies import spaces, spaces_with_architectures


def odd_cost(block: BlockSpec) -> float:
    """A metric in which nothing cancels or factors, as a measured latency."""
    return math.sin(block.kernel * 7 + block.expanded) + 0.3 * math.sqrt(block.se_hidden + block.in_channels)


def tables(space: SearchSpace) -> list[CostTable]:
    return [*count_tables(space).values(), build_table(space, "latency_ms", 0.25, odd_cost)]


@given(spaces_with_architectures())
def test_certain_probabilities_cost_what_the_architecture_costs(drawn: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = drawn
    for table in tables(space):
        if not space.choices:  # nothing to be uncertain about
            assert float(table.expected_cost({})) == pytest.approx(table.cost(architecture))
        else:
            expected = table.expected_cost(one_hot(space, architecture))
            assert expected.item() == pytest.approx(table.cost(architecture), rel=1e-12)
            if table.metric != "latency_ms":  # integers below 2**53 are exact
                assert expected.item() == table.cost(architecture)


@given(spaces(most_picks=400), st.integers(0, 999))
def test_the_expectation_is_the_weighted_sum_over_all_picks(space: SearchSpace, seed: int) -> None:
    probabilities = soft(space, seed)
    names = [choice.name for choice in space.choices]
    counted = {name: metric for name, metric in METRICS.items() if metric.counted}
    expected = dict.fromkeys((*counted, "latency_ms"), 0.0)
    limit, above = count_tables(space)[PEAK].cost(space.sample(np.random.default_rng(seed))) - 1, 0.0
    for options in itertools.product(*(choice.options for choice in space.choices)):
        picks = dict(zip(names, options, strict=True))
        weight = math.prod(
            float(probabilities[choice.name][choice.index(picks[choice.name])]) for choice in space.choices
        )
        network = space.resolve(space.architecture(picks))
        for name, metric in counted.items():
            expected[name] += weight * metric.of(network)
        above += weight * (METRICS[PEAK].of(network) > limit)
        expected["latency_ms"] += weight * (0.25 + sum(map(odd_cost, network.blocks)))
    for table in tables(space):
        found = table.expected_cost(probabilities).item()
        if table.parts == "sum":
            assert found == pytest.approx(expected[table.metric], rel=1e-9)
        else:  # the greatest of expectations is at most that of the greatest
            assert found <= expected[table.metric] * (1 + 1e-9)
            # and the number of parts above a limit at least how likely it is that one is
            assert table.above(limit).expected_cost(probabilities).item() >= above * (1 - 1e-9)


@given(spaces_with_architectures(), st.integers(-1, 1))
def test_of_a_greatest_part_no_part_is_above_a_limit_that_is_kept(
    drawn: tuple[SearchSpace, Architecture], more: int
) -> None:
    space, architecture = drawn
    table = count_tables(space)[PEAK]
    limit = table.cost(architecture) + more
    certain = table.above(limit).expected_cost(one_hot(space, architecture)).item()
    assert (certain == 0) == (table.above(limit).cost(architecture) == 0) == (more >= 0)


@given(spaces_with_architectures(), st.integers(0, 999))
def test_the_gradient_is_the_cost_of_each_option_given_the_others(
    drawn: tuple[SearchSpace, Architecture], seed: int
) -> None:
    """At certainty, the derivative by an option's probability compares the costs of the architectures that have it."""
    space, architecture = drawn
    if not space.choices:
        return
    table = build_table(space, "latency_ms", 0.25, odd_cost)
    choice = space.choices[seed % len(space.choices)]
    probabilities = one_hot(space, architecture)
    probabilities[choice.name].requires_grad_()
    expected = table.expected_cost(probabilities)
    gradient = None
    if expected.requires_grad:  # else the choice makes no difference to any block's cost
        (gradient,) = torch.autograd.grad(expected, probabilities[choice.name], allow_unused=True)
    moved = []
    for option in choice.options:
        moved.append(table.cost(space.architecture({**architecture.as_dict(), choice.name: option})))
    found = np.zeros(len(moved)) if gradient is None else gradient.numpy()
    np.testing.assert_allclose(found - found[0], np.array(moved) - moved[0], atol=1e-9)


@given(spaces_with_architectures(), st.integers(0, 2**16))
def test_costs_of_many_are_the_costs_of_each(drawn: tuple[SearchSpace, Architecture], seed: int) -> None:
    """Also for picks that are not canonical: what a choice without effect takes changes no cost."""
    space, _ = drawn
    rng = np.random.default_rng(seed)
    sizes = [len(choice.options) for choice in space.choices]
    picks = rng.integers(np.array(sizes, dtype=np.intp), size=(7, len(sizes)), dtype=np.intp)
    members = [
        space.architecture({c.name: c.options[i] for c, i in zip(space.choices, row, strict=True)}) for row in picks
    ]
    for table in tables(space):
        np.testing.assert_allclose(table.costs(picks), [table.cost(member) for member in members], rtol=1e-12)
