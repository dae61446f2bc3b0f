from __future__ import annotations

import pytest

from se_nas.records.models.certificate import CostEntry
from se_nas.report.pages.costs import cost_table, named_cost


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        ("weight_bytes", 91_400, "91.4 kB weights"),
        ("peak_activation_bytes", 24_576, "24.58 kB activations"),
        ("latency_ms.phone", 0.3, "0.3 ms on phone"),
        ("latency_ms", 0.3, "0.3 ms"),
        ("macs", 2e6, "2 M MACs"),
    ],
)
def test_costs_in_one_unit_say_what_they_are_of(metric: str, value: float, words: str) -> None:
    assert named_cost(metric, value) == words


def test_a_prediction_of_a_bounded_table_says_what_was_not_timed() -> None:
    known = {"metric": "latency_ms", "unit": "ms", "how": "predicted", "n": 24, "ci95": None}
    entries = [CostEntry(value=1.5, predicted_blocks=52, **known), CostEntry(value=1.5, **known)]
    (row,) = cost_table(entries[:1], None).rows
    assert row.values == [("1.5 (n = 24, 52 blocks not timed)", "predicted")]
    (row,) = cost_table(entries[1:], None).rows
    assert row.values == [("1.5 (n = 24)", "predicted")]
