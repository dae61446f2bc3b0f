from __future__ import annotations

import pytest

from se_nas.report.pages.costs import named_cost


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
