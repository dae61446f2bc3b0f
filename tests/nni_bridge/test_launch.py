"""Runs under a real NNI from launch to answer, by the command line; and every bad input that loses nothing."""

from __future__ import annotations

import re
import shutil
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from se_nas.cost.counts import network_counts
from se_nas.errors import LaunchError
from se_nas.nni_bridge import manager
from se_nas.nni_bridge.page_values import PROPOSAL
from se_nas.nni_bridge.sweep import sweep_name
from se_nas.runs.folder import RunFolder
from se_nas.space.architecture import load_architecture
from tests.nni_bridge.conftest import BLACK_BOX, SWEEP, Told, final_states, picks, se_nas, study, write_black_box
from tests.nni_bridge.live import free_port, left, until
from tests.search.known_worth import worth
from tests.tiny_runs import changed, contents, read_json

pytestmark = pytest.mark.timeout(600)
TRIALS = BLACK_BOX["search"]["max_evaluations"]


# ---- a black-box search


def test_the_terminal_says_where_the_page_is_and_how_to_go_on(black_box: Told) -> None:
    said = black_box.said
    assert f"NNI page: {black_box.url}" in said["launch"].out
    assert any(f"se-nas resume {black_box.folder} watches it" in line for line in said["launch"].out)
    assert any(f"go on: se-nas resume {black_box.folder}" in line for line in said["stop"].out)
    assert any(line.startswith("stopped (") for line in said["stop"].out)
    assert f"NNI page: {black_box.url} (until se-nas stop {black_box.folder})" in said["resume"].out
    assert [line for line in said["resume"].errors if line.startswith("trials: ")][-1] == f"trials: {TRIALS}/{TRIALS}"
    assert all(step.code == 0 for name, step in said.items() if not name.startswith("view"))


@pytest.mark.parametrize("kind", ["black_box", "swept"])
def test_a_stop_half_way_leaves_no_process_and_keeps_what_was_found(kind: str, request: pytest.FixtureRequest) -> None:
    told: Told = request.getfixturevalue(kind)
    assert told.left == []
    assert told.listening == set()
    assert told.stopped is not None
    assert told.stopped.state == "STOPPED"
    if kind == "black_box":
        assert 2 <= told.stopped.trials["SUCCEEDED"] < TRIALS
    else:
        assert told.stopped.trials == {"INTERRUPTED": 2}


def test_every_trial_has_the_metrics_of_the_parameters_that_the_page_shows(black_box: Told) -> None:
    space = RunFolder(black_box.folder).space
    assert [job.status for job in black_box.jobs] == ["SUCCEEDED"] * TRIALS
    for job in black_box.jobs:
        architecture = space.architecture(picks(job.parameters))
        counts = network_counts(space.resolve(architecture))
        assert job.final["default"] == worth(architecture)
        assert (job.final["macs"], job.final["params"]) == (counts.macs, counts.params)
        assert job.final["excess.macs"] == pytest.approx(counts.macs / 90e3 - 1)
        assert job.final["excess.params"] == pytest.approx(counts.params / 3e3 - 1)
        assert job.final[PROPOSAL] == job.parameters[PROPOSAL]


def test_the_study_has_every_trial_once_and_none_running(black_box: Told) -> None:
    rows = {row["number"]: row for row in study(black_box.folder)}
    for job in black_box.jobs:
        row = rows[job.parameters[PROPOSAL]]
        assert (row["state"], row["accuracy"]) == ("complete", job.final["default"])
        assert row["picks"] == picks(job.parameters)
    assert sum(row["state"] == "complete" for row in rows.values()) == TRIALS
    assert {row["state"] for row in rows.values()} <= {"complete", "failed"}
    assert set(final_states(black_box.folder).values()) == {1}
    assert set(final_states(black_box.folder)) == set(rows)


def test_the_run_ends_with_the_certified_best_of_its_trials(black_box: Told) -> None:
    folder = black_box.folder
    answer = load_architecture(folder / "architecture.json").architecture
    assert worth(answer) == max(job.final["default"] for job in black_box.jobs)
    result = read_json(folder / "result.json")
    assert result["search"]["validation_accuracy"] == worth(answer)
    assert result["search"]["evaluations"] == result["search"]["distinct"] == TRIALS
    certificate = read_json(folder / "certificate.json")
    assert all(budget["holds"] for budget in certificate["budgets"])
    assert "How the search got on" in (folder / "report.html").read_text()


def test_the_first_trial_is_what_was_enqueued(black_box: Told) -> None:
    (first,) = [job for job in black_box.jobs if job.parameters[PROPOSAL] == 0]
    assert {option for name, option in first.parameters.items() if name.endswith(".se")} == {"none"}


# ---- a sweep of differentiable searches


def test_each_trial_of_a_sweep_is_a_search_shown_epoch_by_epoch(swept: Told) -> None:
    assert [job.parameters for job in swept.jobs] == [
        {"seed": seed, "budgets": "macs=90k params=3k"} for seed in SWEEP["nni"]["seeds"]
    ]
    for job in swept.jobs:
        assert job.status == "SUCCEEDED"
        shown = {m.sequence: m.value for m in swept.metrics if m.trial == job.id and m.kind == "PERIODICAL"}
        history = read_json(swept.folder / "trials" / sweep_name(job.parameters) / "search/history.json")
        assert sorted(shown) == [entry["epoch"] for entry in history]
        for entry in history:
            values = shown[entry["epoch"]]
            assert list(values) == ["default", "expected_macs", "expected_params", "entropy", "temperature"]
            assert values["expected_macs"] == pytest.approx(entry["expected"]["macs"])
            assert values["entropy"] == pytest.approx(entry["entropy"])
            if entry["temperature"] is not None:
                assert values["temperature"] == pytest.approx(entry["temperature"])
            if entry["validation_accuracy"] is not None:
                assert values["default"] == entry["validation_accuracy"]


def test_a_search_that_was_stopped_goes_on_from_its_checkpoint(swept: Told) -> None:
    for job in swept.jobs:
        order = [m.sequence for m in swept.metrics if m.trial == job.id and m.kind == "PERIODICAL"]
        # begun again, it would have told its first epochs twice
        assert sorted(order) == order
        assert sum(count > 1 for count in Counter(order).values()) <= 1
        assert max(order) > 4


def test_each_search_of_a_sweep_leaves_a_full_run_folder(swept: Told) -> None:
    rows = read_json(swept.folder / "sweep.json")
    assert [row["parameters"] for row in rows] == [job.parameters for job in swept.jobs]
    for row, job in zip(rows, swept.jobs, strict=True):
        run = RunFolder(swept.folder / row["folder"])
        assert run.path.name == f"seed{job.parameters['seed']}_macs-90k-params-3k"
        assert (run / "report.html").exists()
        result, file = run.read("result.json"), load_architecture(run / "architecture.json")
        counts = network_counts(file.network)
        assert result["seed"] == job.parameters["seed"]
        assert row["accuracy"] == job.final["default"] == result["search"]["validation_accuracy"]
        assert (job.final["macs"], job.final["params"]) == (counts.macs, counts.params)
        assert job.final["excess.macs"] == pytest.approx(counts.macs / 90e3 - 1)
        assert any(str(run.path) in line and "on validation" in line for line in swept.said["resume"].out)


# ---- bad input


def refused(said: Any, pattern: str) -> None:
    """Exit code 2 and one plain line."""
    assert said.code == 2, said
    assert len(said.errors) == 1, said.errors
    assert re.match(f"error: {pattern}", said.errors[0]), said.errors[0]
    assert not re.search("Traceback|pydantic|errno", said.errors[0])


def test_the_page_of_a_running_experiment_is_not_opened_twice(black_box: Told) -> None:
    refused(black_box.said["view while it runs"], rf".*must not be running, but it is, at {black_box.url}")


def test_a_folder_that_holds_a_run_is_not_launched_into(black_box: Told) -> None:
    before = contents(black_box.folder / "search")
    said = se_nas("launch", black_box.folder.parent / "run.yaml", "--out", black_box.folder, "--port", free_port())
    refused(said, rf".*must hold no run yet, but it does; se-nas resume {black_box.folder} goes on with it, or")
    assert contents(black_box.folder / "search") == before


def test_a_port_in_use_is_told_before_anything_is_written(nni_home: Path, tmp_path: Path) -> None:
    run_file = write_black_box(tmp_path)
    before = contents(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = se_nas("launch", run_file, "--out", tmp_path / "out", "--port", port)
    refused(said, f"port {port} must be free, but something listens there; give another --port")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("run", [BLACK_BOX, SWEEP], ids=["black box", "sweep"])
@pytest.mark.parametrize(
    ("path", "value", "pattern"),
    [
        ("nni.experiment", {"nonsense": 1}, "NNI refuses the configuration: .*nonsense"),
        ("nni.experiment", {"trial_gpu_number": "many"}, "NNI refuses the configuration: ."),
        ("nni.training_service", {"platform": "moon"}, "NNI refuses the configuration: .*moon"),
        ("nni.training_service", {}, "NNI refuses the configuration: training_service must have a platform"),
        (
            "nni.training_service",
            {"platform": "remote", "machine_list": [{"host": "192.0.2.7", "user": "me", "ssh_key_file": "run.yaml"}]},
            r"trials on 192\.0\.2\.7 must reach the manager, which would listen on 127\.0\.0\.1 only; give --host",
        ),
    ],
)
def test_what_nni_cannot_run_is_told_before_anything_is_written(
    nni_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: dict[str, Any],
    path: str,
    value: Any,
    pattern: str,
) -> None:
    run_file = write_black_box(tmp_path, changed(run, path, value))
    before = contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    refused(se_nas("launch", run_file, "--out", tmp_path / "out", "--port", free_port()), pattern)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("host", ["203.0.113.9", "no such host"])
def test_an_address_that_is_not_of_this_machine_is_told(nni_home: Path, tmp_path: Path, host: str) -> None:
    run_file = write_black_box(tmp_path)
    refused(se_nas("launch", run_file, "--out", tmp_path / "out", "--port", free_port(), "--host", host), ".*")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["resume", "view", "stop"])
def test_a_folder_that_holds_no_launched_run_is_refused(
    nni_home: Path, black_box: Told, tmp_path: Path, command: str
) -> None:
    refused(se_nas(command, tmp_path / "nowhere"), ".*nowhere: .*(must be the folder of a run|holds no NNI experiment)")
    refused(se_nas(command, tmp_path), ".*: (must be the folder of a run|holds no NNI experiment)")
    searched = tmp_path / "searched"  # as se-nas search leaves it
    shutil.copytree(black_box.folder, searched, ignore=shutil.ignore_patterns("nni", "nni.json"))
    before = contents(searched)
    pattern = ".*must be the folder of a run that se-nas launch began" if command == "resume" else ".*holds no NNI"
    refused(se_nas(command, searched), pattern)
    assert contents(searched) == before


# ---- what else can happen


@pytest.mark.slow
def test_a_launch_cut_off_a_detached_end_and_another_look(
    nni_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_file = write_black_box(tmp_path, changed(BLACK_BOX, "search.max_evaluations", 2))
    folder, port = tmp_path / "out", free_port()

    def cut_off(*_: Any, **__: Any) -> None:
        raise LaunchError("cut off before NNI was started")

    with monkeypatch.context() as patch:
        patch.setattr(manager, "start", cut_off)
        refused(se_nas("launch", run_file, "--out", folder, "--port", port), "cut off")
    try:
        assert se_nas("resume", folder, "--port", port, "--detach").code == 0
        until(lambda: manager.status(folder).state == "DONE", 120)
        assert not (folder / "result.json").exists()
        stopped = se_nas("stop", folder)
        assert stopped.out[-1] == "stopped (2 succeeded)"  # there is nothing to go on with
        result = read_json(folder / "result.json")
        assert result["search"]["evaluations"] == 2
        assert left(folder, read_json(folder / "nni.json")["id"]) == []

        viewed = se_nas("view", folder)
        assert viewed.out == [f"NNI page: http://127.0.0.1:{port}", f"close it: se-nas stop {folder}"]
        assert manager.status(folder).state == "VIEWED"
        again = se_nas("resume", folder)  # closes the view, and finds nothing left to do
        assert again.code == 0
        assert manager.status(folder).state == "DONE"
        assert manager.running(folder) is None
        assert read_json(folder / "result.json") == result
        assert se_nas("stop", folder).out[-1] == "stopped (2 succeeded)"
    finally:
        if (folder / "nni.json").exists():
            manager.stop(folder)
