"""Comparisons with the answer: twins do not differ, a planted better network is found, and only shared seeds count."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import ttest_rel

from se_nas.evidence.comparisons import compare
from se_nas.evidence.controls import Control, ControlKind
from se_nas.evidence.statistics import crossed_difference, holm, paired_difference
from se_nas.records.models.plan import Rival
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec

SEEDS = (0, 1, 2, 3, 4)


@pytest.fixture
def spec(tiny_space: SearchSpace) -> NetworkSpec:
    return tiny_space.resolve(tiny_space.sample(np.random.default_rng(0)))


def named(spec: NetworkSpec, **kinds: ControlKind) -> list[Control]:
    return [Control(name, kind, f"the {name} one", None, spec) for name, kind in kinds.items()]


def noisy(mean: float, seed: int, spread: float = 0.002) -> dict[int, float]:
    return dict(zip(SEEDS, mean + spread * np.random.default_rng(seed).standard_normal(len(SEEDS)), strict=True))


def test_identical_twins_do_not_differ(spec: NetworkSpec) -> None:
    accuracies = {name: noisy(0.7, 1) for name in ("answer", "twin", "random_1", "random_2")}
    kinds: dict[str, ControlKind] = {"twin": "baseline", "random_1": "random", "random_2": "random"}
    found = compare(named(spec, answer="answer", **kinds), accuracies, SEEDS, 10_000)
    assert len(found) == 3
    for entry in found:
        assert (entry.value, entry.low, entry.high) == (0, 0, 0)
        assert (entry.p, entry.p_holm, entry.excludes_zero, entry.n) == (1, 1, False, 5)


def test_a_planted_better_network_is_found_and_an_equal_one_is_not(spec: NetworkSpec) -> None:
    accuracies = {"answer": noisy(0.75, 1), "worse": noisy(0.72, 2), "equal": noisy(0.75, 3), "better": noisy(0.78, 4)}
    controls = named(spec, answer="answer", worse="baseline", equal="published", better="other_answer")
    worse, equal, better = compare(controls, accuracies, SEEDS, 10_000)
    assert worse.excludes_zero
    assert 0 < worse.low < 0.03 < worse.high < 0.05
    assert not equal.excludes_zero
    assert better.high < 0
    mine, other = ([accuracies[name][seed] for seed in SEEDS] for name in ("answer", "worse"))
    assert worse.value == pytest.approx(np.mean(mine) - np.mean(other))
    assert worse.p == pytest.approx(ttest_rel(mine, other).pvalue)
    # Holm 1979, of three: the least p times 3, the next times 2, and never less than the one before
    least, middle, greatest = sorted((worse, equal, better), key=lambda entry: entry.p)
    assert least.p_holm == pytest.approx(3 * least.p)
    assert middle.p_holm == pytest.approx(max(3 * least.p, 2 * middle.p))
    assert greatest.p_holm == pytest.approx(max(middle.p_holm, greatest.p))


def test_random_networks_are_one_comparison_and_the_first(spec: NetworkSpec) -> None:
    accuracies = {"answer": noisy(0.75, 1), "no_se": noisy(0.75, 2)}
    accuracies |= {f"random_{i}": noisy(0.7 + i / 100, 10 + i) for i in range(3)}
    kinds: dict[str, ControlKind] = {f"random_{i}": "random" for i in range(3)}
    found = compare(named(spec, answer="answer", no_se="baseline", **kinds), accuracies, SEEDS, 10_000)
    names = ["random_0", "random_1", "random_2"]
    assert [list(entry.theirs) for entry in found] == [names, names, ["no_se"]]
    assert [entry.networks for entry in found] == [3, 3, 1]
    assert [entry.label for entry in found] == [
        "the mean of 3 random networks",
        "the best of 3 random networks by training",
        "the no_se one",
    ]
    assert [entry.selected for entry in found] == [None, True, None]
    rows = np.array([list(accuracies[name].values()) for name in found[0].theirs])
    expected = crossed_difference(list(accuracies["answer"].values()), rows)
    assert found[0].plain().items() >= expected.entry.plain().items()
    for entry in found:
        assert list(entry.by_seed) == [str(seed) for seed in SEEDS]
        assert np.mean(list(entry.by_seed.values())) == pytest.approx(entry.value)


def test_random_networks_of_the_answers_size_are_a_sample_of_their_own(spec: NetworkSpec) -> None:
    kinds: dict[str, ControlKind] = {"answer": "answer", "random_1": "random", "of_size_1": "of_size"}
    kinds |= {"of_size_2": "of_size", "of_size_3": "of_size"}
    accuracies = {name: noisy(0.75, i, 0.01) for i, name in enumerate(kinds)}
    del accuracies["of_size_2"]
    one, alike = compare(named(spec, **kinds), accuracies, SEEDS, 10_000)
    assert (one.label, alike.label) == ("one random network", "the mean of 2 random networks of its size")
    assert (alike.theirs, alike.left_out) == (("of_size_1", "of_size_3"), ("of_size_2",))
    rows = np.array([list(accuracies[name].values()) for name in alike.theirs])
    assert alike.value == crossed_difference(list(accuracies["answer"].values()), rows).value


@pytest.mark.parametrize("claim", ["random_mean", "random_best", "of_size_mean"])
def test_the_planned_comparison_is_tested_alone_and_the_others_together(spec: NetworkSpec, claim: Rival) -> None:
    kinds: dict[str, ControlKind] = {"answer": "answer", "random_1": "random", "random_2": "random"}
    kinds |= {"of_size_1": "of_size", "of_size_2": "of_size", "plain": "baseline"}
    accuracies = {name: noisy(0.75, i, 0.01) for i, name in enumerate(kinds)}
    controls = named(spec, **kinds)
    entries = compare(controls, accuracies, SEEDS, 10_000, claim)
    planned = entries[["random_mean", "random_best", "of_size_mean"].index(claim)]
    others = [entry for entry in entries if entry is not planned]
    assert [entry.primary for entry in entries].count(True) == 1
    assert planned.primary
    assert planned.p_holm is None
    assert [entry.p_holm for entry in others] == holm([entry.p for entry in others])
    assert [entry.p for entry in entries] == [entry.p for entry in compare(controls, accuracies, SEEDS, 10_000)]


def test_the_best_random_network_is_chosen_by_the_other_seeds(spec: NetworkSpec) -> None:
    kinds: dict[str, ControlKind] = {"random_0": "random", "random_1": "random"}
    # by the seeds 1 and 2 the first is better, by 0 and 2 and by 0 and 1 the second
    accuracies = {
        "answer": {0: 0.8, 1: 0.8, 2: 0.8},
        "random_0": {0: 0.1, 1: 0.7, 2: 0.6},
        "random_1": {0: 0.5, 1: 0.6, 2: 0.5},
    }
    _, best = compare(named(spec, answer="answer", **kinds), accuracies, (0, 1, 2), 10_000)
    assert list(best.by_seed.values()) == pytest.approx([0.7, 0.2, 0.3])
    expected = paired_difference([0.8, 0.8, 0.8], [0.1, 0.6, 0.5])
    assert (best.low, best.high, best.n) == (expected.low, expected.high, 3)


def test_choosing_the_best_of_equal_networks_wins_nothing(spec: NetworkSpec) -> None:
    rng = np.random.default_rng(0)
    kinds: dict[str, ControlKind] = {f"random_{i}": "random" for i in range(5)}
    controls = named(spec, answer="answer", **kinds)
    values = []
    for _ in range(300):
        table = 0.7 + 0.01 * rng.standard_normal((6, 3))
        accuracies = {c.name: dict(enumerate(row)) for c, row in zip(controls, table, strict=True)}
        values.append(compare(controls, accuracies, (0, 1, 2), 10_000)[1].value)
    # the best by all three seeds would be ahead by 1.16 standard errors of a mean, 0.0067
    assert abs(np.mean(values)) < 0.0015


@pytest.mark.parametrize(
    ("trained", "names", "seeds"),
    [
        ({1: (0, 1, 2), 2: (0, 1, 2), 3: (0, 2)}, (1, 2), (0, 1, 2)),  # one of three diverged once: 2 x 3 of 3 x 2
        ({1: (0, 1, 2), 2: (0,), 3: (0,), 4: (0,)}, (1, 2, 3, 4), (0,)),  # still going on
        ({1: (), 2: (0, 1)}, (2,), (0, 1)),
        ({1: (7,), 2: ()}, (1, 2), ()),  # no seed of the answer's
    ],
)
def test_a_random_network_that_lacks_a_training_costs_as_little_as_can_be(
    spec: NetworkSpec, trained: dict[int, tuple[int, ...]], names: tuple[int, ...], seeds: tuple[int, ...]
) -> None:
    kinds: dict[str, ControlKind] = {f"random_{i}": "random" for i in trained}
    accuracies = {f"random_{i}": dict.fromkeys(done, 0.7) for i, done in trained.items()}
    accuracies["answer"] = {0: 0.7, 1: 0.7, 2: 0.7}
    found = compare(named(spec, answer="answer", **kinds), accuracies, (0, 1, 2), 10_000)[0]
    assert found.theirs == tuple(f"random_{i}" for i in names)
    assert found.left_out == tuple(f"random_{i}" for i in trained if i not in names)
    assert list(found.by_seed) == [str(seed) for seed in seeds]
    assert found.n == len(seeds)


def test_differences_that_agree_by_chance_are_no_surer_than_their_step(spec: NetworkSpec) -> None:
    accuracies = {"answer": {0: 0.71, 1: 0.72}, "other": {0: 0.70, 1: 0.71}}
    (found,) = compare(named(spec, answer="answer", other="baseline"), accuracies, (0, 1), 100)
    assert found.low < 0 < found.value
    assert not found.excludes_zero


def test_only_seeds_that_all_sides_have_count(spec: NetworkSpec) -> None:
    accuracies = {"answer": noisy(0.75, 1), "late": noisy(0.7, 2), "random_1": noisy(0.7, 3), "random_2": {}}
    accuracies["late"] = {seed: accuracies["late"][seed] for seed in (3, 1)}
    kinds: dict[str, ControlKind] = {"late": "baseline", "random_1": "random", "random_2": "random"}
    drawn, late = compare(named(spec, answer="answer", **kinds), accuracies, (0, 1, 3, 9), 10_000)
    assert (drawn.n, drawn.theirs, drawn.left_out) == (3, ("random_1",), ("random_2",))
    assert drawn.label == "one random network"
    assert late.n == 2
    expected = np.mean([accuracies["answer"][seed] - accuracies["late"][seed] for seed in (1, 3)])
    assert late.value == pytest.approx(expected)
    accuracies["random_1"] = {}
    drawn, late = compare(named(spec, answer="answer", **kinds), accuracies, (0, 1, 3, 9), 10_000)
    assert (drawn.n, drawn.value, drawn.low, drawn.p, drawn.p_holm) == (0, None, None, None, None)
    assert late.p_holm == late.p  # what has no p is no comparison
    json.dumps([drawn.plain(), late.plain()], allow_nan=False)


def test_nothing_is_compared_with_nothing(spec: NetworkSpec) -> None:
    assert compare(named(spec, answer="answer"), {"answer": {0: 0.5}}, (0,), 10_000) == []
    (alone,) = compare(named(spec, answer="answer", no_se="baseline"), {}, (0, 1), 10_000)
    assert (alone.n, alone.value) == (0, None)
