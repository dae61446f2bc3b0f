"""A search among some architectures of a space, as a table holds them: whatever the sampler, no other is proposed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from se_nas.cost.budget import Budget
from se_nas.cost.latency.timing import latency_key
from se_nas.cost.metrics import LATENCY
from se_nas.cost.table import build_table, count_tables
from se_nas.errors import ConfigError, InfeasibleBudgetError
from se_nas.search.answer import answer
from se_nas.search.black_box.candidate import SpaceExhausted, Unseen
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluators.registry import EVALUATORS
from se_nas.search.black_box.evaluators.table import TableEvaluator
from se_nas.search.black_box.samplers import SAMPLERS
from se_nas.search.black_box.study import ArchitectureStudy
from se_nas.search.budgets.decode import check_feasible
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space

LARGE = load_space("mbconv_cifar_small")
TABLES = count_tables(LARGE)


def drawn(space: SearchSpace, count: int) -> list[Architecture]:
    rng = np.random.default_rng(0)
    return list(dict.fromkeys(space.sample(rng) for _ in range(count)))


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])  # which takes its time
def test_every_sampler_proposes_each_of_a_sample_of_a_large_space_once_and_nothing_else(sampler: str) -> None:
    among = drawn(LARGE, 12)
    costs = sorted(TABLES["macs"].cost(architecture) for architecture in among)
    budget = Budget("macs", costs[8])
    several = SAMPLERS[sampler].several
    config = OptunaConfig(sampler=sampler, objectives=("accuracy", "macs") if several else ("accuracy",), population=4)
    study = ArchitectureStudy("sample", LARGE, [budget], TABLES, config, 0, among=among)
    found = []
    for _ in range(9):
        candidate = study.ask()
        found.append(candidate.architecture)
        study.tell(candidate.number, 0.5)
    with pytest.raises(SpaceExhausted):
        study.ask()
    assert len(found) == len(set(found)) == 9
    assert set(found) == {a for a in among if budget.holds(TABLES["macs"].cost(a))}


def test_where_none_of_them_keeps_the_budgets_it_is_told_before_any_evaluation() -> None:
    among = drawn(LARGE, 5)
    least = min(TABLES["macs"].cost(architecture) for architecture in among)
    config = OptunaConfig()
    with pytest.raises(InfeasibleBudgetError, match=r"of the 5 networks that can be judged one must keep macs <= "):
        ArchitectureStudy("sample", LARGE, [Budget("macs", least - 1)], TABLES, config, 0, among=among)


def test_the_nearest_is_one_that_differs_in_the_fewest_picks() -> None:
    among = drawn(LARGE, 40)
    left = Unseen(LARGE, among)
    rng = np.random.default_rng(1)
    for wanted in drawn(LARGE, 60)[40:]:
        found = left.nearest(wanted, rng)
        changes = {a: sum(one != other for one, other in zip(a.picks, wanted.picks, strict=True)) for a in among}
        assert changes[found] == min(changes.values())
        left.discard(found)
        among.remove(found)
        assert found not in left
        assert len(left) == len(among)


def test_a_table_is_what_the_search_is_among(tmp_path: Path) -> None:
    among = drawn(LARGE, 3)
    lines = [json.dumps({"picks": architecture.as_dict(), "accuracy": 0.5}) for architecture in among]
    (tmp_path / "table.jsonl").write_text("\n".join(lines))
    assert set(TableEvaluator.load(tmp_path / "table.jsonl", LARGE).metrics) == set(among)
    assert EVALUATORS["table"].known is not None
    assert EVALUATORS["supernet"].known is None


def test_an_infeasible_budget_on_a_table_made_by_hand_is_told_in_its_own_unit(tiny_space: SearchSpace) -> None:
    tables = {**count_tables(tiny_space), "joules": build_table(tiny_space, "joules", 0.5, lambda block: 0.25)}
    check_feasible(tiny_space, tables, [Budget("joules", 5.0)])
    with pytest.raises(InfeasibleBudgetError, match=r"joules <= 0.1 joules, where the least reachable is 1 joules"):
        check_feasible(tiny_space, tables, [Budget("joules", 0.1)])
    scores = {choice.name: [0.0] * len(choice.options) for choice in tiny_space.choices}
    must = r"^budgets: joules: must be one of macs, params, latency_ms, .* to be certified"
    with pytest.raises(ConfigError, match=must):
        answer(tiny_space, tables, {LATENCY: latency_key()}, [Budget("joules", 5.0)], scores)
