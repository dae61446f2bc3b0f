"""Our trials on NNI's remote training service, over SSH to this machine: launched, stopped half-way and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from se_nas.cost.counts import network_counts
from se_nas.nni_bridge.experiment import status
from se_nas.nni_bridge.page_values import PROPOSAL
from se_nas.runs.run_folder import RunFolder
from tests.helpers.tiny_runs import changed, read_json, write_run
from tests.nni_bridge.conftest import (
    BLACK_BOX,
    SWEEP,
    Told,
    close,
    final_states,
    picks,
    play,
    study,
    write_black_box,
)
from tests.nni_bridge.live import free_port, ssh_server, this_machine
from tests.search.known_worth import worth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]


def over_ssh(place: Path, port: int, run: dict[str, Any]) -> dict[str, Any]:
    service = {"platform": "remote", "machine_list": [this_machine(place, port)]}
    return changed(run, "nni", {**run["nni"], "training_service": service})


def outputs(place: Path) -> list[Path]:
    """The trials' folders on the remote machine."""
    return sorted((place / "remote").glob("nni-experiments/*/environments/*/trials/*"))


def test_a_black_box_search_over_ssh(nni_home: Path, tmp_path: Path) -> None:
    with ssh_server(tmp_path, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1") as port:
        run_file = write_black_box(tmp_path / "run", over_ssh(tmp_path, port, BLACK_BOX))
        told = Told(tmp_path / "run/out", free_port())
        try:
            play(told, run_file, lambda: status.status(told.folder).finished >= 2)
        finally:
            close(told)
    assert told.left == []
    space = RunFolder(told.folder).space
    assert [job.status for job in told.jobs] == ["SUCCEEDED"] * BLACK_BOX["search"]["max_evaluations"]
    rows = {row["number"]: row for row in study(told.folder)}
    for job in told.jobs:
        architecture = space.architecture(picks(job.parameters))
        assert job.final["default"] == worth(architecture) == rows[job.parameters[PROPOSAL]]["accuracy"]
        assert job.final["macs"] == network_counts(space.resolve(architecture)).macs
        assert job.final[PROPOSAL] == job.parameters[PROPOSAL]
    assert {row["state"] for row in rows.values()} <= {"complete", "failed"}
    assert set(final_states(told.folder).values()) == {1}
    assert (told.folder / "report.html").exists()
    # every trial found its own job, though NNI names another server to it than the manager
    assert {path.name for path in outputs(tmp_path)} == {job.id for job in told.jobs}
    for path in outputs(tmp_path):
        assert "does not show the job" not in "".join(log.read_text() for log in path.glob("*") if log.is_file())


def test_differentiable_searches_over_ssh(nni_home: Path, tmp_path: Path) -> None:
    """A search stopped half-way goes on where it ran; its run folder stays there."""
    with ssh_server(tmp_path, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1") as port:
        run_file = write_run(tmp_path / "run", over_ssh(tmp_path, port, SWEEP))
        told = Told(tmp_path / "run/out", free_port())
        try:
            play(told, run_file, lambda: _epochs(told.folder) >= 4)
        finally:
            close(told)
    rows = read_json(told.folder / "grid.json")
    assert [row["parameters"]["seed"] for row in rows] == SWEEP["nni"]["seeds"]
    for job, row in zip(told.jobs, rows, strict=True):
        assert job.status == "SUCCEEDED"
        assert row["accuracy"] == job.final["default"]
        assert "folder" not in row
        (result,) = (tmp_path / "remote").glob(f"nni-experiments/*/environments/*/trials/{job.id}/*/result.json")
        assert json.loads(result.read_text())["search"]["validation_accuracy"] == job.final["default"]
        order = [m.sequence for m in told.metrics if m.trial == job.id and m.kind == "PERIODICAL"]
        assert sorted(order) == order
        assert len(order) - len(set(order)) <= 1


def _epochs(folder: Path) -> int:
    """How far the slower of the two searches is."""
    experiment = status.running(folder)
    assert experiment is not None
    metrics = experiment.client().metrics()
    jobs = [job.id for job in experiment.client().trials()]
    return min((max((m.sequence for m in metrics if m.trial == job), default=-1) for job in jobs), default=-1)
