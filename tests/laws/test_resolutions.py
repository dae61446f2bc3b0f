"""Laws 1 to 3 and 5 where the resolution is a choice: one supernet, exact counts, decodes at all and at each."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from se_nas.cost.budget import Budget
from se_nas.cost.counts import network_counts
from se_nas.errors import InfeasibleBudgetError
from se_nas.search.budgets.decode import Decoder, decode
from se_nas.search.budgets.repair import Repair
from se_nas.search.budgets.resolutions import decoded_at_each, resolutions_within, with_resolutions
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from tests.helpers.probabilities import one_hot, soft
from tests.laws.test_counts import check_every_count
from tests.laws.test_decode import BruteForce
from tests.laws.test_one_supernet import images, lively_supernet, run
from tests.laws.test_widths import tables_of


def space_of(**more: Any) -> SearchSpace:
    """Two stages whose widths are choices, at three resolutions of which one halves to an odd side."""
    return parse_space(
        {
            "name": "sides",
            "resolution": [6, 8, 10],
            "channel_divisor": 1,
            "stem": {"width": [4, 6], "stride": 2},
            "stages": [
                {"width": [4, 6], "depth": [1, 2], "expansion": [1, 2]},
                {"width": 6, "stride": 2, "kernel": [3, 5], "se": {"options": ["none", 2], "divisor": 1}},
            ],
            "head": {"width": [10, 14]},
            **more,
        },
        "sides",
    )


def at(space: SearchSpace, resolution: int) -> SearchSpace:
    """The space of one resolution alone."""
    return dataclasses.replace(space, resolution=resolution)


def test_a_space_of_resolutions_is_the_union_of_those_of_one() -> None:
    space = space_of()
    ones = {resolution: at(space, resolution) for resolution in space.resolutions}
    assert space.size == len(set(space.enumerate())) == sum(one.size for one in ones.values())
    for architecture in itertools.islice(space.enumerate(), 0, None, 101):
        resolution, *others = architecture.picks
        one = ones[int(resolution[1])]
        assert space.resolve(architecture) == one.resolve(one.architecture(dict(others)))
        check_every_count(space, architecture)


def test_a_network_is_one_function_in_the_supernet_at_its_resolution() -> None:
    space = space_of()
    supernet = lively_supernet(space, 0).eval()
    for architecture in map(space.sample, map(np.random.default_rng, range(6))):
        x = images(space, architecture=architecture)
        expected = run(supernet.export(architecture), x)
        torch.testing.assert_close(run(supernet.activate(architecture), x), expected)
        torch.testing.assert_close(run(supernet.mix(one_hot(space, architecture)), x), expected)


def test_a_decode_over_widths_and_resolutions_is_the_best_under_three_budgets() -> None:
    space = space_of()
    tables, rng = tables_of(space), np.random.default_rng(0)
    picked = set()
    for _ in range(12):
        scores = {c.name: rng.normal(size=len(c.options)).tolist() for c in space.choices}
        brute = BruteForce(space, tables, scores)
        limits = {metric: float(np.quantile(costs, rng.uniform(0.02, 0.9))) for metric, costs in brute.costs.items()}
        budgets = [Budget(metric, limits[metric]) for metric in ("macs", "params", "latency_ms")]
        kept = brute.kept(budgets)
        if not kept.any():
            with pytest.raises(InfeasibleBudgetError):
                decode(space, tables, budgets, scores)
            continue
        decoder = Decoder(space, tables, budgets)
        found = decoder.decode(scores)
        assert found.score == pytest.approx(brute.score[kept].max(), abs=1e-5)
        assert all(budget.holds(found.costs[budget.metric]) for budget in budgets)
        network = network_counts(space.resolve(found.architecture))
        assert (found.costs["macs"], found.costs["params"]) == (network.macs, network.params)
        picked.add(found.architecture["resolution"])
        # at each resolution the best of a space of that one alone
        each = decoded_at_each(decoder, scores)
        for resolution in space.resolutions:
            one = at(space, resolution)
            alone = Decoder(one, {name: slice_of(table, one) for name, table in tables.items()}, budgets)
            expected = alone.decoded({name: row for name, row in scores.items() if name != "resolution"})
            assert (resolution in each) == (expected is not None)
            if expected is not None:
                assert each[resolution].score == pytest.approx(expected.score, abs=1e-5)
                assert each[resolution].architecture["resolution"] == resolution
    assert len(picked) == len(space.resolutions)


def slice_of(table: Any, one: SearchSpace) -> Any:
    """The same metric's table of a space of one resolution."""
    return tables_of(one)[table.metric]


def test_the_expected_cost_over_resolutions_is_the_mean_over_them() -> None:
    space = space_of()
    probabilities = soft(space, 3)
    chances = probabilities["resolution"].tolist()
    for name, table in tables_of(space).items():
        ones = [tables_of(at(space, resolution))[name].expected_cost(probabilities) for resolution in space.resolutions]
        if table.parts == "sum":
            mean = sum(chance * float(cost) for chance, cost in zip(chances, ones, strict=True))
            assert float(table.expected_cost(probabilities)) == pytest.approx(mean, rel=1e-9)


def test_resolutions_at_which_nothing_keeps_the_budgets_are_known() -> None:
    space = space_of()
    table = tables_of(space)["macs"]
    least = {r: min(table.cost(a) for a in space.enumerate() if a["resolution"] == r) for r in space.resolutions}
    for limit in (least[6], least[8], least[10]):
        decoder = Decoder(space, {"macs": table}, [Budget("macs", limit)])
        assert resolutions_within(decoder) == tuple(r for r in space.resolutions if least[r] <= limit)
    assert resolutions_within(Decoder(space, {"macs": table}, [Budget("macs", 0.9 * least[6])])) == ()


def test_the_resolution_of_the_greatest_worth_is_taken_if_something_keeps_the_budgets_there() -> None:
    space = space_of()
    tables, rng = tables_of(space), np.random.default_rng(1)
    scores = {c.name: (3 * rng.normal(size=len(c.options))).tolist() for c in space.choices}
    ranked = with_resolutions(space, scores, {6: 0.5, 8: 0.7, 10: 0.6})
    loose = Budget("macs", 1e9)
    assert decode(space, tables, [loose], ranked).architecture["resolution"] == 8
    least = {r: min(tables["macs"].cost(a) for a in space.enumerate() if a["resolution"] == r) for r in (6, 8)}
    tight = Budget("macs", (least[6] + least[8]) / 2)
    assert decode(space, tables, [tight], ranked).architecture["resolution"] == 6
    at_eight = decoded_at_each(Decoder(space, tables, [loose]), scores)[8]
    assert decode(space, tables, [loose], ranked).architecture == at_eight.architecture
    # of equals the least, and what is not known last
    equal = with_resolutions(space, scores, {8: 0.5, 10: 0.5})
    assert decode(space, tables, [loose], equal).architecture["resolution"] == 8


def test_a_repair_may_change_the_resolution() -> None:
    space = space_of()
    tables = tables_of(space)
    largest = max(space.enumerate(), key=tables["macs"].cost)
    least_at_ten = min(tables["macs"].cost(a) for a in space.enumerate() if a["resolution"] == 10)
    repair = Repair(space, tables, [Budget("macs", 0.9 * least_at_ten)])
    for seed in range(5):
        nearest = repair.nearest(largest.as_dict(), np.random.default_rng(seed))
        assert nearest["resolution"] != 10
        assert tables["macs"].cost(nearest) <= 0.9 * least_at_ten
