"""Distances, agreements and components of variance equal brute force, and simulations give back what was planted."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_nas.cost.table import count_tables
from se_nas.evidence.choices_in_use import choices_in_use
from se_nas.evidence.stability import SearchAnswer, accuracy_spread, stability
from se_nas.records.models.evidence import AccuracySpread, WithChance
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import NO_SE
from tests.helpers.strategies import spaces


def state(space: SearchSpace, architecture: Architecture, name: str) -> object:
    return architecture[name] if name in choices_in_use(space, architecture) else "absent"


def as_answers(architectures: list[Architecture]) -> list[SearchAnswer]:
    return [SearchAnswer(f"search_{i}", i, a, {}) for i, a in enumerate(architectures)]


@given(spaces(most_picks=500), st.integers(0, 2**16), st.integers(2, 5))
def test_shares_by_brute_force(space: SearchSpace, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = [space.sample(rng) for _ in range(count)]
    found = stability(space, count_tables(space), as_answers(drawn), drawn[::-1])
    json.dumps(found.plain(), allow_nan=False)
    pairs = list(itertools.combinations(drawn, 2))
    distances = []
    for a, b in pairs:
        used = choices_in_use(space, a) | choices_in_use(space, b)
        differ = [name for name in used if state(space, a, name) != state(space, b, name)]
        distances.append(len(differ) / len(used) if used else 0.0)
    assert found.distance.value == pytest.approx(np.mean(distances), abs=1e-12)
    assert found.distance.random == pytest.approx(found.distance.value, abs=1e-12)
    names = [choice.name for choice in space.choices if choice.name.endswith("se")]
    assert [block.block for block in found.blocks] == [name.removesuffix(".se") for name in names]
    for name, block in zip(names, found.blocks, strict=True):
        ratio = [state(space, a, name) == state(space, b, name) for a, b in pairs]
        kinds = [{NO_SE: "off", "absent": "absent"}.get(str(state(space, a, name)), "on") for a in drawn]
        on_off = [a == b for a, b in itertools.combinations(kinds, 2)]
        assert block.ratio == block.random_ratio == pytest.approx(np.mean(ratio))
        assert block.on_off == block.random_on_off == pytest.approx(np.mean(on_off))
    for key in ("on_off", "ratio"):
        shares = [getattr(block, key) for block in found.blocks]
        assert getattr(found, key).value == (pytest.approx(np.mean(shares)) if shares else None)


def test_by_hand(tiny_space: SearchSpace) -> None:
    common = {"stage1.block1.kernel": 3, "stage1.block2.kernel": 3, "stage2.block1.mbconv_k3_e2-3.expansion": 2}
    rows = [
        (1, "r2", "none", "mbconv k3 e2-3", "r2"),
        (2, "none", "r2", "mbconv k3 e2-3", "r4"),
        (1, "r2", "none", "identity", "none"),
    ]
    names = (
        "stage1.depth",
        "stage1.block1.se",
        "stage1.block2.se",
        "stage2.block1.block",
        "stage2.block1.mbconv_k3_e2-3.se",
    )
    drawn = [tiny_space.architecture({**common, **dict(zip(names, row, strict=True))}) for row in rows]
    answers = [SearchAnswer(f"a{i}", 10 + i, a, {0: 0.5 + i / 10, 2: 0.6 + i / 10}) for i, a in enumerate(drawn)]
    found = stability(tiny_space, count_tables(tiny_space), answers, drawn[:1])
    assert found.seeds == (0, 2)
    assert [block.options for block in found.blocks] == [
        ("r2", "none", "r2"),
        (None, "r2", None),
        ("r2", "r4", None),
    ]
    assert [block.on_off for block in found.blocks] == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert [block.ratio for block in found.blocks] == pytest.approx([1 / 3, 1 / 3, 0])
    # first pair: depth, SE of the first block, kernel and SE of the second, SE of the third differ of eight in use
    assert found.distance.value == pytest.approx((5 / 8 + 3 / 6 + 7 / 8) / 3)
    assert found.distance.random is None
    assert found.blocks[0].random_on_off is None
    first = found.answers[0]
    assert (first.name, first.seed, first.accuracies) == ("a0", 10, {"0": 0.5, "2": 0.6})
    assert first.se == {"stage1.block1": "r2", "stage1.block2": None, "stage2.block1.mbconv_k3_e2-3": "r2"}
    assert first.costs["macs"] == count_tables(tiny_space)["macs"].cost(drawn[0])


def test_one_search_alone_agrees_with_nothing(tiny_space: SearchSpace) -> None:
    (network,) = (tiny_space.sample(np.random.default_rng(0)),)
    chance = [tiny_space.sample(np.random.default_rng(i)) for i in range(30)]
    found = stability(tiny_space, {}, [SearchAnswer("a", 0, network, {0: 0.5})], chance)
    assert found.distance.value is None
    assert 0 < found.distance.random < 1
    assert found.on_off.value is None
    assert found.accuracy == AccuracySpread(mean=0.5, between_searches=None, between_trainings=None)


def test_equal_answers_agree_in_everything(tiny_space: SearchSpace) -> None:
    network = tiny_space.sample(np.random.default_rng(0))
    found = stability(tiny_space, {}, as_answers([network] * 3), [])
    assert found.distance == WithChance(value=0, random=None)
    assert found.on_off == WithChance(value=1, random=None)
    assert found.accuracy == AccuracySpread(mean=None, between_searches=None, between_trainings=None)


def test_spread_by_hand() -> None:
    found = accuracy_spread([{0: 0.5, 1: 0.7}, {0: 1.0, 1: 1.0}, {}, {0: 0.1, 1: 0.3, 2: 0.2}])
    assert found.mean == pytest.approx((0.6 + 1.0 + 0.2) / 3)
    # squares about each network's mean: 0.02, 0 and 0.02, of 1, 1 and 2 degrees of freedom
    assert found.between_trainings == pytest.approx(math.sqrt(0.04 / 4))
    # means 0.6, 1.0, 0.2 of the shared seeds have a variance of 0.16; the seeds differ by 0.2, 0 and 0.2, whose
    # squares about their mean, halved, are the residuals' with 2 degrees of freedom
    residual = (2 * (0.2 - 0.4 / 3) ** 2 + (0.4 / 3) ** 2) / 2 / 2
    assert found.between_searches == pytest.approx(math.sqrt(0.16 - residual / 2))


def test_a_seed_that_is_lucky_for_all_hides_no_spread_of_searches() -> None:
    found = accuracy_spread([{0: 0.5, 1: 0.9}, {0: 0.51, 1: 0.91}])
    assert found.between_searches == pytest.approx(0.01 / math.sqrt(2))


def test_answers_that_are_alike_are_told_apart_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(0)
    found = [accuracy_spread([dict(enumerate(row)) for row in rng.normal(0.8, 0.01, (3, 5))]) for _ in range(1000)]
    assert np.mean([one.between_searches > 0 for one in found]) > 0.3
    assert 0.03 < np.mean([one.p < 0.05 for one in found]) < 0.07
    assert accuracy_spread([{0: 0.5, 1: 0.9}, {0: 0.51, 1: 0.91}]).p == pytest.approx(0, abs=1e-9)
    assert accuracy_spread([{0: 0.5, 1: 0.5}, {0: 0.5, 1: 0.5}]).p == 1


def test_noise_of_trainings_alone_is_no_spread_of_searches() -> None:
    assert accuracy_spread([{0: 0.5, 1: 0.7}, {0: 0.7, 1: 0.5}]).between_searches == 0
    one = accuracy_spread([{0: 0.5, 1: 0.6, 2: 0.7}])
    assert one.between_searches is None
    assert one.between_trainings == pytest.approx(0.1)
    assert accuracy_spread([{0: 0.5, 1: 0.6}, {1: 0.6, 2: 0.5}]).between_searches is None


def test_planted_components_are_found_on_average_also_where_seeds_shift_all() -> None:
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(2000):
        table = 0.8 + 0.03 * rng.standard_normal((5, 1)) + 0.02 * rng.standard_normal(3)
        found = accuracy_spread([dict(enumerate(row)) for row in table + 0.01 * rng.standard_normal((5, 3))])
        squares.append((found.between_searches**2, found.between_trainings**2))
    between, within = np.mean(squares, axis=0)
    assert between == pytest.approx(0.03**2, rel=0.06)
    assert within == pytest.approx(0.02**2 + 0.01**2, rel=0.06)  # from seed to seed, whatever of it is shared
