from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from se_nas.records.models.history import Epoch
from se_nas.report.pages.run_headline import resolution_rows


def run_of(choices: dict[str, Any], *rows: Epoch, stopped: Any = None) -> Any:
    return SimpleNamespace(
        choices=choices,
        search=rows,
        architecture=SimpleNamespace(network=SimpleNamespace(resolution=28)),
        result=SimpleNamespace(search=SimpleNamespace(stopped=stopped)),
    )


def row(number: int, **accuracies: float) -> Epoch:
    found = {side.removeprefix("at"): share for side, share in accuracies.items()}
    return Epoch(epoch=number, accuracy_at=found, validation_accuracy=max(found.values()))


def test_the_page_says_which_resolution_was_taken_and_how_the_best_at_each_did():
    rows = (Epoch(epoch=0), row(1, at24=0.7, at28=0.5), row(2, at24=0.6, at28=0.65))
    choices = {"resolution": (24, 28), "stage1.depth": (1, 2)}
    assert resolution_rows(run_of(choices, *rows)) == [
        ("resolution, of 24, 28", "28 pixels"),
        ("validation of the best at each", "24: 60.00 %, 28: 65.00 %"),
    ]
    # one that ended early is answered by its best epoch
    assert resolution_rows(run_of(choices, *rows, stopped=["patience"]))[1][1] == "24: 70.00 %, 28: 50.00 %"
    assert resolution_rows(run_of(choices, Epoch(epoch=0))) == [("resolution, of 24, 28", "28 pixels")]
    assert resolution_rows(run_of({"stage1.depth": (1, 2)}, *rows)) == []
