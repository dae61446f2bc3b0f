"""The record of evaluations: it reads back as it was, and ranks what keeps the budgets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.errors import ConfigError
from se_nas.search.black_box.evaluation import (
    Evaluation,
    OnEpoch,
    Pruned,
    best_first,
    evaluate_with,
    evaluations_from,
    excess_of,
    save_evaluations,
)
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from tests.helpers.strategies import spaces_with_architectures
from tests.search.known_worth import Rising, worth


def entry(number: int, accuracy: float | None, macs: float = 1.0, **fields: Any) -> Evaluation:
    architecture = Architecture("digest", (("choice", fields.pop("pick", number)),))
    values = {"state": "complete", "costs": {"macs": macs}, "excess": {}, **fields}
    return Evaluation(number, architecture, accuracy=accuracy, **values)


def test_the_best_come_first_and_of_equals_the_cheaper_then_the_earlier() -> None:
    entries = [entry(0, 0.5), entry(1, 0.9, 3.0), entry(2, 0.9, 2.0), entry(3, 0.9, 2.0), entry(4, 0.7)]
    assert [e.number for e in best_first(entries, [])] == [2, 3, 1, 4, 0]
    assert [e.number for e in best_first(entries[::-1], [])] == [2, 3, 1, 4, 0]


def test_what_is_not_complete_or_breaks_a_budget_or_repeats_is_not_ranked() -> None:
    entries = [
        entry(0, 0.5),
        entry(1, 0.9, 2.1),
        entry(2, 0.9, state="pruned"),
        entry(3, None, state="failed"),
        entry(4, None, state="running"),
        entry(5, math.inf),
        entry(6, 0.5, pick=0, same_as=0),
        entry(7, 0.2, 2.0, excess={"params": 0.5}),  # of the run's own budgets: others may be asked for
    ]
    assert [e.number for e in best_first(entries, [Budget("macs", 2.0)])] == [0, 7]
    assert best_first([], []) == []


def test_the_excess_is_a_share_of_the_limit_and_zero_at_it() -> None:
    budgets = [Budget("macs", 200.0), Budget("params", 50.0)]
    assert excess_of({"macs": 300.0, "params": 50.0, "latency_ms": 1.0}, budgets) == {"macs": 0.5, "params": 0.0}
    assert entry(0, 0.5, excess={"macs": -0.5, "params": 0.0}).feasible
    assert not entry(0, 0.5, excess={"macs": -0.5, "params": 0.1}).feasible


@given(spaces_with_architectures(), st.data())
def test_evaluations_survive_their_file(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[SearchSpace, Architecture], data: st.DataObject
) -> None:
    space, architecture = drawn
    costs = {name: table.cost(architecture) for name, table in count_tables(space).items()}
    budgets = [Budget("macs", 12345.0)]
    share = st.floats(0, 1)
    found = [
        Evaluation(0, architecture, "complete", data.draw(share), costs, excess_of(costs, budgets), data.draw(share)),
        Evaluation(1, architecture, "pruned", 0.25, costs, {}, curve=[(0, data.draw(share)), (1, 0.25)]),
        Evaluation(2, architecture, "failed", None, costs, {}),
        Evaluation(3, architecture, "complete", 0.5, costs, {}, same_as=0),
    ]
    path = tmp_path_factory.mktemp("file") / "evaluations.json"
    save_evaluations(path, found, objectives=["accuracy", "macs"], sampler="nsga2", budgets=budgets)
    value = json.loads(path.read_text())
    assert evaluations_from(space, value, str(path)) == found
    assert (value["sampler"], value["objectives"], value["budgets"]) == ("nsga2", ["accuracy", "macs"], {"macs": 12345})
    assert [row["feasible"] for row in value["evaluations"]] == [e.feasible for e in found]


HEAD = {"format": "se_nas evaluations", "version": 1, "sampler": "nsga2", "objectives": ["accuracy"], "budgets": {}}


@pytest.mark.parametrize("value", [{}, [], None, {"format": "se_nas evaluations", "version": 2}])
def test_what_is_no_record_is_refused(tiny_space: SearchSpace, value: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"e\.json: (version: must be 1|file: must be a mapping|sampler: must be given)"
    ):
        evaluations_from(tiny_space, value, "e.json")


@pytest.mark.parametrize(
    "rows",
    ["none", [{}], [{"number": 0}], [7]],
    ids=["no list", "empty row", "half a row", "no row"],
)
def test_a_damaged_record_is_refused(tiny_space: SearchSpace, rows: Any) -> None:
    value = {**HEAD, "evaluations": rows}
    with pytest.raises(ConfigError, match=r"e\.json: evaluations(\[0\](\.number|\.state)?)?: must be"):
        evaluations_from(tiny_space, value, "e.json")


def test_a_record_of_another_space_is_refused(tiny_space: SearchSpace, tmp_path: Path) -> None:
    row = {"number": 0, "state": "complete", "accuracy": 0.5, "costs": {}, "excess": {}, "seconds": 0.0}
    value = {
        **HEAD,
        "evaluations": [{**row, "feasible": True, "same_as": None, "curve": [], "picks": {"stage9.depth": 1}}],
    }
    with pytest.raises(ConfigError, match=r"e\.json: evaluations\[0\]\.picks: must be those of space tiny"):
        evaluations_from(tiny_space, value, "e.json")


def test_both_kinds_of_evaluators_are_called_as_they_wish(tiny_space: SearchSpace) -> None:
    architecture = next(tiny_space.enumerate())
    curve: list[tuple[int, float]] = []
    on_epoch: OnEpoch = lambda *point: curve.append(point)  # noqa: E731
    assert evaluate_with(worth, architecture, on_epoch) == worth(architecture)
    assert curve == []
    assert evaluate_with(Rising(3), architecture, on_epoch) == worth(architecture)
    assert [epoch for epoch, _ in curve] == [0, 1, 2]

    def end(epoch: int, accuracy: float) -> None:
        raise Pruned

    with pytest.raises(Pruned):
        evaluate_with(Rising(3), architecture, end)
