"""Laws 3 and 5: a decode is the brute-force optimum under any budgets, or the error says what is reachable."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from se_nas.cost.budget import Budget, format_cost, parse_budgets
from se_nas.cost.counts import block_counts, head_counts, network_counts, stem_counts
from se_nas.cost.metrics import PEAK
from se_nas.cost.table import CostTable, build_table, count_tables
from se_nas.errors import InfeasibleBudgetError
from se_nas.search.budgets.decode import decode, greatest_cost, least_cost
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec
from se_nas.space.yaml.file import load_space, parse_space
from tests.helpers.strategies import spaces
from tests.helpers.tied_spaces import tied_tables
from tests.laws.shipped import SHIPPED

#: HiGHS stops within 1e-6 of the best score.
GAP = 2e-6
METRICS = ("macs", "params", "latency_ms", PEAK)


def random_tables(space: SearchSpace, seed: int) -> dict[str, CostTable]:
    """Exact MACs and parameters, and a latency in which every distinct block costs something of its own."""

    def block_ms(block: BlockSpec) -> float:
        # the SE ratio and its reference are no part of what runs, only the hidden width is
        se = None if block.se is None else dataclasses.replace(block.se, ratio=1, ratio_of="expanded")
        words = [ord(c) for c in repr((dataclasses.replace(block, se=se), block.se_hidden))]
        return float(np.random.default_rng([seed, *words]).uniform(0.01, 1.0))

    return {**count_tables(space), "latency_ms": build_table(space, "latency_ms", 0.125, block_ms)}


def random_scores(space: SearchSpace, seed: int) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    return {c.name: rng.normal(size=len(c.options)).tolist() for c in space.choices}


class BruteForce:
    """Every raw pick of a space with its score and costs."""

    def __init__(self, space: SearchSpace, tables: dict[str, CostTable], scores: dict[str, list[float]]) -> None:
        sizes = [len(c.options) for c in space.choices]
        picks = np.array(list(itertools.product(*map(range, sizes))), dtype=np.intp)  # without choices, one empty row
        self.score = np.zeros(len(picks))
        for column, choice in enumerate(space.choices):
            values = np.array(scores[choice.name])
            self.score += (values - values.max())[picks[:, column]]
        self.costs = {metric: table.costs(picks) for metric, table in tables.items()}

    def kept(self, budgets: list[Budget]) -> np.ndarray:
        return np.all([np.ones(len(self.score), bool), *(self.costs[b.metric] <= b.limit for b in budgets)], axis=0)

    def least(self, metric: str, held: list[Budget]) -> float:
        return float(self.costs[metric][self.kept(held)].min())

    def named(self, budgets: list[Budget]) -> list[str]:
        """What the error of infeasible budgets must name."""
        alone = [(b, self.least(b.metric, [])) for b in budgets]
        broken = [format_cost(b.metric, least, up=True) for b, least in alone if least > b.limit]
        if broken:
            return broken
        number = next(n for n in range(1, len(budgets) + 1) if not self.kept(budgets[:n]).any())
        # of each what is reachable beside the others, where these can be kept
        together = budgets[:number][::-1]
        beside = [(one, [other for other in together if other != one]) for one in together]
        return [
            format_cost(one.metric, self.least(one.metric, others), up=True)
            for one, others in beside
            if self.kept(others).any()
        ]


@settings(max_examples=40)
@given(st.data(), spaces(most_picks=1500), st.integers(0, 2**16))
def test_a_decode_is_the_brute_force_optimum(data: st.DataObject, space: SearchSpace, seed: int) -> None:
    tables, scores = random_tables(space, seed), random_scores(space, seed)
    brute = BruteForce(space, tables, scores)
    rng = np.random.default_rng(seed)
    for metrics in data.draw(st.lists(st.lists(st.sampled_from(METRICS), unique=True), min_size=4, max_size=4)):
        budgets = []
        for metric in metrics:
            costs = brute.costs[metric]
            kind = rng.choice(["at one", "at the least", "between", "below"], p=[0.4, 0.2, 0.3, 0.1])
            limit = {
                "at one": float(rng.choice(costs)),
                "at the least": float(costs.min()),
                "between": float(np.quantile(costs, rng.uniform(0, 1))) * (1 + 1e-9),
                "below": float(costs.min()) * rng.uniform(0.2, 0.999),
            }[kind]
            budgets.append(Budget(metric, limit))
        kept = brute.kept(budgets)
        if not kept.any():
            with pytest.raises(InfeasibleBudgetError) as error:
                decode(space, tables, budgets, scores)
            message = str(error.value)
            assert "\n" not in message
            assert re.findall(r"least reachable(?: with .*?)? is ([^;]*)", message) == brute.named(budgets)
            continue
        found = decode(space, tables, budgets, scores)
        assert found.score == pytest.approx(brute.score[kept].max(), abs=GAP)
        network = network_counts(space.resolve(found.architecture))
        assert (found.costs["macs"], found.costs["params"]) == (network.macs, network.params)
        assert found.costs == {metric: table.cost(found.architecture) for metric, table in tables.items()}
        assert all(budget.holds(found.costs[budget.metric]) for budget in budgets)
        assert space.architecture(found.architecture.as_dict()) == found.architecture


@settings(max_examples=40)
@given(tied_tables(METRICS), st.integers(1, 3), st.sampled_from((0.0, 0.02, 0.3)), st.integers(0, 2**16))
def test_a_decode_of_tied_blocks_is_the_brute_force_optimum(
    drawn: tuple[SearchSpace, dict[str, CostTable]], many: int, share: float, seed: int
) -> None:
    space, tables = drawn
    scores = random_scores(space, seed)
    if seed % 2:  # many architectures are worth the same
        scores = {name: np.round(values).tolist() for name, values in scores.items()}
    brute = BruteForce(space, tables, scores)
    for metrics in itertools.islice(itertools.permutations(METRICS, many), 3):
        budgets = [Budget(metric, float(np.quantile(brute.costs[metric], share))) for metric in metrics]
        kept = brute.kept(budgets)
        if not kept.any():
            with pytest.raises(InfeasibleBudgetError) as error:
                decode(space, tables, budgets, scores)
            assert re.findall(r"least reachable(?: with .*?)? is ([^;]*)", str(error.value)) == brute.named(budgets)
            continue
        found = decode(space, tables, budgets, scores)
        assert found.score == pytest.approx(brute.score[kept].max(), abs=GAP)
        assert all(budget.holds(tables[budget.metric].cost(found.architecture)) for budget in budgets)
        assert decode(space, tables, budgets, scores) == found


@settings(max_examples=30)
@given(spaces(most_picks=1500), st.integers(0, 2**16))
def test_least_and_greatest_are_brute_force_s(space: SearchSpace, seed: int) -> None:
    tables = random_tables(space, seed)
    brute = BruteForce(space, tables, random_scores(space, seed))
    for metric in METRICS[:3]:
        costs = brute.costs[metric]
        assert least_cost(space, tables, metric).costs[metric] == pytest.approx(costs.min(), rel=GAP)
        assert greatest_cost(space, tables, metric).costs[metric] == pytest.approx(costs.max(), rel=GAP)
    held = [Budget("params", float(np.quantile(brute.costs["params"], 0.3)))]
    found = least_cost(space, tables, "latency_ms", held)
    assert held[0].holds(found.costs["params"])
    assert found.costs["latency_ms"] == pytest.approx(brute.least("latency_ms", held), rel=GAP)
    with pytest.raises(InfeasibleBudgetError, match="least reachable"):
        least_cost(space, tables, "latency_ms", [Budget("params", 1e-3)])


@settings(max_examples=15)
@given(spaces(most_picks=1500), st.integers(0, 2**16))
def test_the_least_and_the_greatest_of_a_greatest_part_are_brute_force_s(space: SearchSpace, seed: int) -> None:
    tables = random_tables(space, seed)
    brute = BruteForce(space, tables, random_scores(space, seed))
    peaks = brute.costs[PEAK]
    macs = Budget("macs", float(np.quantile(brute.costs["macs"], 0.4)))
    own = Budget(PEAK, float(np.quantile(peaks[brute.kept([macs])], 0.6)))
    for held in ([], [macs], [macs, own]):
        for find, best in ((least_cost, min), (greatest_cost, max)):
            assert find(space, tables, PEAK, held).costs[PEAK] == best(peaks[brute.kept(held)])
    with pytest.raises(InfeasibleBudgetError, match="least reachable"):
        least_cost(space, tables, PEAK, [Budget("params", 1e-3)])


@settings(max_examples=15)
@given(spaces(most_picks=300), st.integers(0, 2**16))
def test_a_limit_at_an_architecture_s_costs_lets_it_be_found(space: SearchSpace, seed: int) -> None:
    """Scored best, it is the answer; and with its limits lowered by a hair it is not."""
    tables = random_tables(space, seed)
    wanted = space.sample(np.random.default_rng(seed))
    scores = {c.name: [1.0 if o == wanted[c.name] else 0.0 for o in c.options] for c in space.choices}
    costs = {metric: table.cost(wanted) for metric, table in tables.items()}
    found = decode(space, tables, [Budget(metric, cost) for metric, cost in costs.items()], scores)
    assert (found.architecture, found.score) == (wanted, 0.0)
    for metric in METRICS:
        below = Budget(metric, math.nextafter(costs[metric], 0))
        try:
            assert decode(space, tables, [below], scores).costs[metric] < costs[metric]
        except InfeasibleBudgetError:
            assert costs[metric] == min(t.cost(a) for t in [tables[metric]] for a in space.enumerate())


def test_a_budget_that_leaves_room_for_identities_alone_is_kept_by_them() -> None:
    """No room at all beside the constant, where a block would cost millions."""
    block = [{"kind": "identity"}, {"kind": "mbconv", "expansion": [2, 6], "kernel": [3, 5]}]
    stages = [{"width": 16, "blocks": block}, {"width": 16, "stride": 1, "blocks": block[:1]}]
    space = parse_space({"name": "wide", "resolution": 32, "stem": {"width": 16}, "stages": stages}, "wide")
    tables = count_tables(space)
    scores = {c.name: [float(i) for i in range(len(c.options))] for c in space.choices}
    for metric in ("macs", "params"):
        least = tables[metric].constant
        for limit in (least, least + 1e-7, least + 1):
            assert decode(space, tables, [Budget(metric, limit)], scores).costs[metric] == least
        with pytest.raises(InfeasibleBudgetError, match="least reachable"):
            decode(space, tables, [Budget(metric, least - 1)], scores)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=pytest.mark.slow if p.stem.endswith(("_widths", "_dims")) else (), id=p.stem)
        for p in SHIPPED
        if "imagenet" not in p.name
    ],
)
def test_the_least_of_a_shipped_space_is_the_sum_of_its_stages_least(path) -> None:
    space = load_space(path)
    tables = count_tables(space)
    for metric in ("macs", "params"):
        for extreme, best in ((least_cost, min), (greatest_cost, max)):
            sizes = (space.side, *space.widths)
            picks = {size.axis.choice: best(size.axis.options) for size in sizes if size.axis.choice is not None}
            total = getattr(stem_counts(space.stem_of(picks)) + head_counts(space.head_of(picks)), metric)
            for number, stage in enumerate(space.stages):
                block = [
                    best(
                        getattr(block_counts(op.block(**options)), metric)
                        for op in slot.ops
                        for options in op.combinations()
                    )
                    for slot in space.slots
                    if slot.stage == number
                ]
                total += best(sum(block[:depth]) for depth in stage.depths)
            assert extreme(space, tables, metric).costs[metric] == pytest.approx(total, rel=GAP)


@pytest.fixture(scope="module")
def cifar() -> SearchSpace:
    return load_space(next(p for p in SHIPPED if p.stem == "mbconv_cifar"))


@pytest.mark.slow
def test_five_hundred_pairs_of_budgets_on_the_main_space(cifar: SearchSpace) -> None:
    tables, rng = count_tables(cifar), np.random.default_rng(0)
    spans = {
        metric: (least_cost(cifar, tables, metric).costs[metric], greatest_cost(cifar, tables, metric).costs[metric])
        for metric in ("macs", "params")
    }
    refused: set[tuple[str, ...]] = set()
    answered = 0
    for _ in range(500):
        limits = [
            (m, math.exp(rng.uniform(math.log(low / 1.5), math.log(high * 1.2)))) for m, (low, high) in spans.items()
        ]
        budgets = [Budget(metric, limit) for metric, limit in limits][:: rng.choice([1, -1])]
        scores = {c.name: rng.normal(size=len(c.options)) for c in cifar.choices}
        try:
            found = decode(cifar, tables, budgets, scores)
        except InfeasibleBudgetError as error:
            named = re.findall(
                r"(macs|params) <= [^,]*, where the least reachable(?: with .*?)? is ([^;]*)", str(error)
            )
            loosened = {b.metric: b for b in budgets}
            for metric, cost in named:
                reachable = parse_budgets({metric: typed(cost)}, "message")[0]
                assert not loosened[metric].holds(reachable.limit)
                loosened[metric] = reachable
            # what can be had alone is said of each alone, the rest of all together
            unreachable = any(spans[b.metric][0] > b.limit for b in budgets)
            groups = [[loosened[metric]] for metric, _ in named] if unreachable else [list(loosened.values())]
            for group in groups:
                flat = {c.name: [0.0] * len(c.options) for c in cifar.choices}
                counts = network_counts(cifar.resolve(decode(cifar, tables, group, flat).architecture))
                assert all(budget.holds(getattr(counts, budget.metric)) for budget in group)
            refused.add(tuple(sorted(metric for metric, _ in named)))
        else:
            answered += 1
            counts = network_counts(cifar.resolve(found.architecture))
            assert all(budget.holds(getattr(counts, budget.metric)) for budget in budgets)
    assert 200 < answered < 490
    assert refused == {("macs",), ("params",), ("macs", "params")}


def typed(cost: str) -> str:
    """What a user who reads `5.911 M MACs` writes into a file."""
    return cost.replace(" MACs", "").replace(" parameters", "").replace(" ", "")
