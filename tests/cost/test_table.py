"""The shape of cost tables; that they cost what is built is laws 2 and 3, in tests/laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from se_nas.cost.metrics import METRICS
from se_nas.cost.table import CostTable, CostTerm, build_table, count_tables
from se_nas.errors import ArchitectureError
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from tests.helpers.probabilities import soft


def test_metrics_have_units(tiny_space: SearchSpace) -> None:
    tables = count_tables(tiny_space)
    assert tables.keys() <= METRICS.keys()
    assert [table.metric for table in tables.values()] == list(tables)


def test_a_term_has_the_choices_that_matter_to_its_block(tiny_space: SearchSpace) -> None:
    terms = count_tables(tiny_space)["macs"].terms
    assert [term.choices for term in terms] == [
        ("stage1.block1.kernel", "stage1.block1.se"),
        ("stage1.depth", "stage1.block2.kernel", "stage1.block2.se"),
        ("stage2.block1.block",),
        ("stage2.block1.block", "stage2.block1.mbconv_k3_e2-3.expansion", "stage2.block1.mbconv_k3_e2-3.se"),
    ]
    for term in terms:
        assert term.values.shape == tuple(len(tiny_space.choice_by_name[name].options) for name in term.choices)


def test_what_changes_nothing_is_constant(tiny_space: SearchSpace) -> None:
    table = build_table(tiny_space, "macs", 5.0, lambda block: 2.0)
    assert {term.choices for term in table.terms} == {("stage1.depth",), ("stage2.block1.block",)}
    for architecture in tiny_space.enumerate():
        assert table.cost(architecture) == 5 + 2 * len(tiny_space.resolve(architecture).blocks)


def test_costs_are_look_ups(tiny_space: SearchSpace) -> None:
    values = np.array([[1.0, 2.0], [4.0, 8.0]])
    table = CostTable(tiny_space, "macs", 100.0, [CostTerm(("stage1.depth", "stage1.block1.kernel"), values)])
    picks = {choice.name: choice.options[0] for choice in tiny_space.choices}
    found = [
        table.cost(tiny_space.architecture({**picks, "stage1.depth": d, "stage1.block1.kernel": k}))
        for d in (1, 2)
        for k in (3, 5)
    ]
    assert found == [101, 102, 104, 108]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_expectation_has_the_type_of_its_probabilities(tiny_space: SearchSpace, dtype: torch.dtype) -> None:
    table = count_tables(tiny_space)["params"]
    probabilities = {name: p.to(dtype).requires_grad_() for name, p in soft(tiny_space, 0).items()}
    expected = table.expected_cost(probabilities)
    assert (expected.dtype, expected.shape) == (dtype, ())
    expected.backward()
    assert all(p.grad is not None and p.grad.any() for name, p in probabilities.items())


def test_wrong_shapes_and_strangers_are_refused(tiny_space: SearchSpace) -> None:
    table = count_tables(tiny_space)["macs"]
    with pytest.raises(ArchitectureError, match=r"picks must have shape \(N, 8\), but got \(3, 7\)"):
        table.costs(np.zeros((3, 7), dtype=np.intp))
    other = parse_space(
        {"name": "other", "resolution": 8, "stem": {"width": 8}, "stages": [{"width": 8, "kernel": [3, 5]}]}, "other"
    )
    with pytest.raises(ArchitectureError, match="must be of this space"):
        table.cost(next(other.enumerate()))
