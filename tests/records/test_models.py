"""Records of committed runs are written again as they were read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from se_nas.records.models.evidence import (
    ControlsPart,
    LatencyPart,
    LedgerPart,
    RankingPart,
    StabilityPart,
    WherePart,
)
from se_nas.records.models.excitation import ExcitationFile, ImportanceFile
from se_nas.records.models.sweep import SweepFile
from se_nas.records.record import Record, read_record
from tests.helpers.tiny_runs import read_json

RESULTS = Path(__file__).resolve().parents[2] / "runs" / "results"
MODELS: dict[str, type[Record]] = {
    "evidence/controls.json": ControlsPart,
    "evidence/ranking.json": RankingPart,
    "evidence/stability.json": StabilityPart,
    "evidence/where_se_pays.json": WherePart,
    "evidence/latency_check.json": LatencyPart,
    "evidence/ledger.json": LedgerPart,
    "excitation.json": ExcitationFile,
    "importance.json": ImportanceFile,
    "sweep.json": SweepFile,
}
FILES = [(path, model) for name, model in MODELS.items() for path in sorted(RESULTS.glob(f"*/{name}"))]


def _in_present_words(found: dict[str, Any]) -> dict[str, Any]:
    """The runtime of a latency was called a backend."""
    for place in {"conditions", "latency_conditions"} & found.keys():
        found[place] = {{"backend": "runtime"}.get(key, key): value for key, value in found[place].items()}
    return found


def test_there_is_a_committed_file_of_each_record() -> None:
    assert {model for _, model in FILES} == set(MODELS.values())


@pytest.mark.parametrize(("path", "model"), FILES, ids=[str(path.relative_to(RESULTS)) for path, _ in FILES])
def test_a_record_has_what_its_file_has_and_adds_no_null(path: Path, model: type[Record]) -> None:
    again, found = read_record(model, path).plain(), _in_present_words(read_json(path))
    assert {key: again[key] for key in found} == found
    assert again.keys() - found.keys() <= {"format", "version"}
