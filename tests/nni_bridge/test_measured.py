"""The measurement of the NNI bridge: 24 trials, two at a time, stopped half-way and resumed; by `stop`, and by kill -9.

Its figures are printed (pytest -s).
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from se_nas.cost.counts import network_counts
from se_nas.nni_bridge.experiment import status
from se_nas.nni_bridge.experiment.manager_client import UNFINISHED
from se_nas.nni_bridge.page_values import PROPOSAL
from se_nas.runs.run_folder import RunFolder
from se_nas.runs.worker import evaluate_one
from tests.helpers.tiny_runs import changed
from tests.nni_bridge.conftest import BLACK_BOX, Told, close, final_states, picks, se_nas, study, write_black_box
from tests.nni_bridge.live import free_port, kill_tuner, until
from tests.search.known_worth import worth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 24


def launched(folder: Path, run_file: Path, *more: object) -> Told:
    told = Told(folder, free_port())
    words = ("--out", folder, "--port", told.port, "--detach", "--quiet", *more)
    told.said["launch"] = se_nas("launch", run_file, *words)
    assert told.said["launch"].code == 0, told.said["launch"]
    until(lambda: status.status(folder).finished >= TRIALS // 2, 900)
    return told


def finish(told: Told) -> None:
    """Resume to the end and look at the page."""
    said = se_nas("resume", told.folder)
    assert said.code == 0, said
    experiment = status.running(told.folder)
    assert experiment is not None
    told.jobs, told.metrics = experiment.client().trials(), experiment.client().metrics()


def check(told: Told, worth_of: Any, name: str, seconds: float) -> None:
    """What the issue asks for."""
    space = RunFolder(told.folder).space
    assert len(told.jobs) == len({job.id for job in told.jobs}) == TRIALS
    wrong = 0
    for job in told.jobs:
        architecture = space.architecture(picks(job.parameters))
        counts = network_counts(space.resolve(architecture))
        shown = (job.final["default"], job.final["macs"], job.final["params"], job.final[PROPOSAL])
        own = (pytest.approx(worth_of(architecture)), counts.macs, counts.params, job.parameters[PROPOSAL])
        wrong += shown != own
    rows = {row["number"]: row for row in study(told.folder)}
    states = Counter(rows[job.parameters[PROPOSAL]]["state"] for job in told.jobs)
    others = Counter(row["state"] for row in rows.values()) - states
    twice = sum(count > 1 for count in final_states(told.folder).values())
    print(
        f"\n{name}: {seconds:.0f} s; trials on the page {Counter(job.status for job in told.jobs)}, "
        f"with the metrics of other parameters {wrong}; in Optuna {states}, told twice {twice}, "
        f"asked for and never submitted {others}"
    )
    assert wrong == 0
    assert {job.status for job in told.jobs} == {"SUCCEEDED"}
    assert states == {"complete": TRIALS}
    assert set(others) <= {"failed"}
    assert twice == 0
    assert set(final_states(told.folder)) == set(rows)


def test_24_trials_stopped_half_way_and_resumed(nni_home: Path) -> None:
    """With real evaluations: the digits supernet, which each trial loads and evaluates again here for comparison."""
    began = time.monotonic()
    more = ["--set", "search.supernet.epochs=2", "--set", "retrain=null"]
    folder = nni_home / "stopped"
    try:
        told = launched(folder, ROOT / "runs/digits_nni.yaml", *more)
        assert se_nas("stop", folder).code == 0
        stopped = status.status(folder)
        assert stopped.state == "STOPPED"
        finish(told)
        seconds = time.monotonic() - began
        check(told, lambda a: evaluate_one(folder, a.as_dict(), lambda epoch, value: None)[0], "stopped", seconds)
    finally:
        close(Told(folder, 0))


@pytest.mark.parametrize("noticed", [True, False], ids=["resumed when NNI had noticed", "resumed at once"])
def test_24_trials_whose_tuner_is_killed_half_way(nni_home: Path, noticed: bool) -> None:
    began = time.monotonic()
    home = nni_home / f"killed_{noticed}"
    run_file = write_black_box(home, changed(BLACK_BOX, "search.max_evaluations", TRIALS))
    folder = home / "out"
    try:
        told = launched(folder, run_file)
        experiment = status.running(folder)
        assert experiment is not None
        kill_tuner(experiment.pid)
        if noticed:
            until(lambda: status.status(folder).state == "ERROR", 120)
            until(lambda: not UNFINISHED & status.status(folder).trials.keys())  # they end without a tuner
        else:
            assert status.status(folder).state == "RUNNING"
        finish(told)
        check(told, worth, f"killed, resumed {'late' if noticed else 'at once'}", time.monotonic() - began)
    finally:
        close(Told(folder, 0))
