"""Runs under a real NNI from launch to answer, by the command line; and every bad input that loses nothing."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import signal
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from nni.tuner import Tuner

from se_nas.cost.counts import network_counts
from se_nas.errors import DataError, LaunchError, TrainingInterrupted
from se_nas.nni_bridge import launch
from se_nas.nni_bridge.experiment import manager, status
from se_nas.nni_bridge.grid import changes_of, grid, name_of
from se_nas.nni_bridge.page_values import PROPOSAL
from se_nas.runs.prepare import make_setting, open_setting
from se_nas.runs.run_file import RunConfig, load_run
from se_nas.runs.run_folder import RunFolder
from se_nas.runs.worker import evaluate_one
from se_nas.search.black_box.config import OptunaConfig
from se_nas.space.architecture_file import load_architecture
from tests.helpers.tiny_runs import cache_latency, changed, contents, read_json, write_run
from tests.nni_bridge.conftest import BLACK_BOX, SWEEP, Told, final_states, picks, se_nas, study, write_black_box
from tests.nni_bridge.experiment.test_record import VERSION_1
from tests.nni_bridge.live import free_port, left, until
from tests.search.known_worth import worth

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
    trials = [line for line in said["resume"].errors if line.startswith("trials: ")]
    assert trials[-1].startswith(f"trials: {TRIALS}/{TRIALS} ")
    assert all(step.code == 0 for name, step in said.items() if not name.startswith("view"))


@pytest.mark.parametrize("kind", ["black_box", pytest.param("swept", marks=pytest.mark.slow)])
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
    assert "Progress of the search" in (folder / "report.html").read_text()


def test_the_first_trial_is_what_was_enqueued(black_box: Told) -> None:
    (first,) = [job for job in black_box.jobs if job.parameters[PROPOSAL] == 0]
    assert {option for name, option in first.parameters.items() if name.endswith(".se")} == {"none"}


def test_after_a_stop_the_trials_are_read_without_a_page(black_box: Told) -> None:
    shown = {job.id: job for job in black_box.jobs}
    done = [job for job in black_box.stored if job.status == "SUCCEEDED"]
    assert black_box.stopped is not None
    assert len(done) == black_box.stopped.trials["SUCCEEDED"]
    assert done == [shown[job.id] for job in done]
    assert [job.id for job in black_box.stored] == list(shown)[: len(black_box.stored)]
    assert all(job.parameters == shown[job.id].parameters for job in black_box.stored)


# ---- a grid of differentiable searches


def test_each_trial_of_a_grid_is_a_search_shown_epoch_by_epoch(swept: Told) -> None:
    assert [job.parameters for job in swept.jobs] == [
        {"seed": seed, "budgets": "macs=90k params=3k"} for seed in SWEEP["nni"]["seeds"]
    ]
    for job in swept.jobs:
        assert job.status == "SUCCEEDED"
        shown = {m.sequence: m.value for m in swept.metrics if m.trial == job.id and m.kind == "PERIODICAL"}
        history = read_json(swept.folder / "trials" / name_of(job.parameters) / "search/history.json")
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


def test_each_search_of_a_grid_leaves_a_full_run_folder(swept: Told) -> None:
    rows = read_json(swept.folder / "grid.json")
    assert [row["parameters"] for row in rows] == [job.parameters for job in swept.jobs]
    for row, job in zip(rows, swept.jobs, strict=True):
        run = RunFolder(swept.folder / row["folder"])
        assert run.path.name == f"seed{job.parameters['seed']}_macs-90k-params-3k"
        assert (run / "report.html").exists()
        result, file = read_json(run / "result.json"), load_architecture(run / "architecture.json")
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


@pytest.mark.parametrize("run", [BLACK_BOX, SWEEP], ids=["black box", "grid"])
@pytest.mark.parametrize(
    ("path", "value", "pattern"),
    [
        ("nni.experiment", {"nonsense": 1}, "NNI refuses the configuration: .*nonsense"),
        ("nni.experiment", {"trial_gpu_number": "many"}, "NNI refuses the configuration: ."),
        ("nni.training_service", {"platform": "moon"}, "NNI refuses the configuration: .*moon"),
        ("nni.training_service", {}, "NNI refuses the configuration: training_service must name a platform"),
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


@pytest.mark.parametrize(
    ("host", "pattern"),
    [
        ("203.0.113.9", r"cannot listen at port \d+ of 203\.0\.113\.9: "),
        ("no such host", "host must be a name or an address of this machine, but got 'no such host'"),
    ],
)
def test_an_address_that_is_not_of_this_machine_is_told(
    nni_home: Path, tmp_path: Path, host: str, pattern: str
) -> None:
    run_file = write_black_box(tmp_path)
    refused(se_nas("launch", run_file, "--out", tmp_path / "out", "--port", free_port(), "--host", host), pattern)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("rule", "limit"), [("max_seconds", 60.5), ("patience", 3)])
def test_a_rule_that_ends_a_search_is_refused_where_nni_has_its_own(
    nni_home: Path, tmp_path: Path, rule: str, limit: float
) -> None:
    run_file = write_run(tmp_path, changed(BLACK_BOX, f"search.{rule}", limit))
    said = se_nas("launch", run_file, "--out", tmp_path / "out", "--port", free_port())
    refused(said, rf"search\.{rule}: must be null under se-nas launch, .*max_experiment_duration.*, but got {limit:g}")
    assert not (tmp_path / "out").exists()


def test_a_pruner_is_refused_before_anything_is_written(nni_home: Path, tmp_path: Path) -> None:
    search = {"strategy": "optuna", "evaluator": "stand_alone", "pruner": "hyperband"}
    run_file = write_run(tmp_path, changed(BLACK_BOX, "search", search))
    before = contents(tmp_path)
    said = se_nas("launch", run_file, "--out", tmp_path / "out", "--port", free_port())
    refused(said, r"search\.pruner: must be none under se-nas launch, .*, but got hyperband")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("budgets", "table", "pattern"),
    [
        ({"macs": "2k"}, False, r"nni\.budgets\[1\]: .*2 k MACs"),
        ({"latency_ms": 0.0001}, True, r"nni\.budgets\[1\]: .* ms"),
        ({"latency_ms": 5}, False, r"nni\.budgets: nni\.budgets\[1\]: latency_ms needs latency\.table, but it is off"),
        ({"macs": "lots"}, False, r"nni\.budgets\[1\]: budgets\.macs: a limit must be a number above 0"),
    ],
)
def test_a_grid_that_cannot_be_searched_is_told_before_anything_is_written(
    nni_home: Path, tmp_path: Path, budgets: dict[str, Any], table: bool, pattern: str
) -> None:
    run = changed(changed(SWEEP, "nni.budgets", [{"macs": "90k"}, budgets]), "latency.table", table)
    run_file = write_run(tmp_path, run)
    cache_latency(nni_home / "cache", tmp_path)
    before = contents(tmp_path)
    refused(se_nas("launch", run_file, "--out", tmp_path / "out", "--port", free_port()), pattern)
    assert contents(tmp_path) == before


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


def test_a_limit_may_have_blanks_and_a_search_that_is_listed_twice_is_one(tmp_path: Path) -> None:
    run = changed(SWEEP, "nni", {"seeds": [0, 0], "budgets": [{"macs": "90 k", "params": 3e3}, {"macs": "90k"}] * 2})
    trials = grid(load_run(write_run(tmp_path, run)))
    assert trials == [{"seed": 0, "budgets": "macs=90k params=3000.0"}, {"seed": 0, "budgets": "macs=90k"}]
    assert changes_of(trials[0]) == {"seed": 0, "budgets": {"macs": 90e3, "params": 3e3}}


#: A black-box search whose supernet is trained first.
SUPERNET: dict[str, Any] = {
    **BLACK_BOX,
    "search": {
        "strategy": "optuna",
        "sampler": "random",
        "max_evaluations": 2,
        "supernet": {"epochs": 1, "batch_size": 20, "calibration_images": 48},
    },
}


@pytest.mark.parametrize(
    ("more", "at_once"),
    [
        ({}, True),
        ({"experiment": {"max_trial_duration": "1h"}}, False),
        ({"experiment": {"maxTrialDuration": 9}}, False),
    ],
)
def test_the_page_opens_before_the_supernet_is_trained_unless_the_time_of_trials_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], at_once: bool
) -> None:
    folder, supernet, begun = tmp_path / "out", tmp_path / "out/search/supernet.pt", []

    def start(run: Path, *_: object, **__: object) -> status.Experiment:
        begun.append(supernet.exists())
        return status.Experiment("abc", 1, "127.0.0.1", "http://127.0.0.1:1", 1)

    monkeypatch.setattr(manager, "start", start)
    run_file = write_run(tmp_path, {**SUPERNET, "nni": {**SUPERNET["nni"], **more}})
    said = se_nas("launch", run_file, "--out", folder, "--port", free_port(), "--detach", "--quiet")
    assert said.code == 0, said.errors
    assert begun == [not at_once]
    assert supernet.exists()


def test_where_the_supernet_cannot_be_trained_no_trial_is_left_that_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[Path] = []

    def fail(*_: object) -> None:
        raise DataError("there must be images, but there are none")

    experiment = status.Experiment("abc", 1, "127.0.0.1", "http://127.0.0.1:1", 1)
    monkeypatch.setattr(manager, "start", lambda *_, **__: experiment)
    monkeypatch.setattr(manager, "stop", stopped.append)
    monkeypatch.setattr("se_nas.search.black_box.strategy.prepare", fail)
    run_file = write_run(tmp_path, SUPERNET)
    said = se_nas("launch", run_file, "--out", tmp_path / "out", "--port", free_port(), "--quiet")
    assert said.code == 2
    assert said.errors == ["error: there must be images, but there are none"]
    assert stopped == [tmp_path / "out"]
    assert said.out[-1].endswith(f"go on: se-nas resume {tmp_path / 'out'}")


def test_a_page_is_closed_though_the_run_cannot_be_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[Path] = []

    def fail(*_: Any, **__: Any) -> None:
        raise DataError("there must be images, but there are none")

    monkeypatch.setattr(manager, "stop", stopped.append)
    monkeypatch.setattr(status, "status", lambda folder: status.Status("abc", "DONE", {"SUCCEEDED": 2}, None))
    monkeypatch.setattr(launch, "_finish", fail)
    said = se_nas("stop", tmp_path)
    refused(said, "there must be images")
    assert said.out[-1] == "stopped (2 succeeded)"
    assert stopped == [tmp_path]


@pytest.mark.parametrize(("state", "exhausted"), [("DONE", False), ("TUNER_NO_MORE_TRIAL", True)])
def test_a_run_whose_tuner_had_nothing_left_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, exhausted: bool
) -> None:
    told: dict[str, bool] = {}
    write_run(tmp_path, SWEEP).rename(tmp_path / "config.yaml")
    monkeypatch.setattr(status, "wait_until_done", lambda folder, show: status.Status("abc", state, {}, None))
    monkeypatch.setattr(launch, "_finish", lambda *_, **more: told.update(more))
    launch._go_on(tmp_path, detach=False, progress=False, say=print)
    assert told == {"exhausted": exhausted}


def test_what_other_machines_get_says_nothing_of_others_and_is_a_run_all_the_same(
    nni_home: Path, tmp_path: Path
) -> None:
    machine = {"host": "192.0.2.7", "user": "me", "password": "${env:XYZZY}"}
    service = {"platform": "remote", "machine_list": [machine]}
    run_file = write_black_box(tmp_path, changed(BLACK_BOX, "nni", {"concurrency": 2, "training_service": service}))
    folder = tmp_path / "out"
    make_setting(run_file, load_run(run_file), folder, resume=False, progress=False, say=print)
    assert b"XYZZY" in contents(folder)["config.yaml"]
    code = launch._code(folder)
    assert not any(b"XYZZY" in content or b"192.0.2.7" in content for content in contents(code).values())
    there, here = open_setting(code), open_setting(folder)
    assert (there.config.search, there.budgets) == (here.config.search, here.budgets)
    picks = next(here.space.enumerate()).as_dict()
    assert evaluate_one(code, picks, lambda *_: None) == evaluate_one(folder, picks, lambda *_: None)


def test_a_run_of_an_earlier_se_nas_goes_on_as_its_own_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record has no digest, by which what NNI stored could be known to be ours."""
    (tmp_path / "nni.json").write_text(json.dumps(VERSION_1))
    begun: list[tuple[Any, ...]] = []
    monkeypatch.setattr(status, "needs_restart", lambda folder: False)
    monkeypatch.setattr(status, "status", lambda folder: status.Status("abcd1234", "STOPPED", {}, None))
    monkeypatch.setattr(launch, "open_setting", lambda folder: "setting")
    monkeypatch.setattr(launch, "_start", lambda *words, action: begun.append((*words[:3], action)))
    monkeypatch.setattr(launch, "_go_on", lambda *_: None)
    launch.resume(tmp_path, port=None, host=None, detach=False, progress=False, say=lambda line: None)
    assert begun == [("setting", 8080, "127.0.0.1", "resume")]
    with pytest.raises(LaunchError):
        manager.resume(tmp_path)  # which goes on as NNI's database says


@pytest.mark.parametrize("run", [BLACK_BOX, SWEEP], ids=["black box", "grid"])
def test_the_tuner_and_the_trial_that_nni_starts_are_there(tmp_path: Path, run: dict[str, Any]) -> None:
    started = launch._nni_config(load_run(write_black_box(tmp_path, run)), {}, tmp_path, tmp_path)
    module, name = started["tuner"]["class_name"].rsplit(".", 1)
    assert issubclass(getattr(importlib.import_module(module), name), Tuner)
    (trial,) = [word for word in started["trial_command"].split() if word.startswith("se_nas.")]
    assert importlib.util.find_spec(trial) is not None


def test_what_is_to_be_evaluated_first_is_given_as_to_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[RunConfig] = []
    monkeypatch.setattr(launch, "launch", lambda run_file, config, *_, **__: taken.append(config))
    (tmp_path / "mine.json").touch()
    monkeypatch.chdir(tmp_path)
    assert se_nas("launch", write_black_box(tmp_path), "--enqueue", "no_se", "--enqueue", "mine.json").code == 0
    (config,) = taken
    assert isinstance(config.search, OptunaConfig)
    assert config.search.enqueue == ("no_se", str(tmp_path / "mine.json"))


@pytest.mark.parametrize(
    ("words", "stopped", "go_on"),
    [
        (["worker", "out", "--storage", "sqlite://"], "se_nas.runs.worker.work_on", "run the same command again"),
        (["launch", "run.yaml", "--out", "out"], "se_nas.nni_bridge.launch.launch", "se-nas resume out"),
        (["resume", "out"], "se_nas.nni_bridge.launch.resume", "se-nas resume out"),
        (["stop", "out"], "se_nas.nni_bridge.launch.stop", "se-nas resume out"),
    ],
)
def test_a_command_that_is_interrupted_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], stopped: str, go_on: str
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise TrainingInterrupted("supernet", signal.SIGINT, Path("here"))

    write_black_box(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stopped, interrupt)
    said = se_nas(*words)
    assert said.code == 128 + signal.SIGINT
    assert said.errors == [f"supernet: stopped by SIGINT; resume from here ({go_on})"]


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
        until(lambda: status.status(folder).state == "DONE")
        assert not (folder / "result.json").exists()
        manager.stop(folder)  # so that the jobs are read, though other things listen at the port by now
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
            stopped = se_nas("stop", folder)
        assert stopped.code == 0, stopped
        assert "stopped (2 succeeded)" in stopped.out
        assert stopped.out[-1] == f"report: {folder / 'report.html'}"  # there is nothing to go on with
        result = read_json(folder / "result.json")
        assert result["search"]["evaluations"] == 2
        assert left(folder, read_json(folder / "nni.json")["id"]) == []

        viewed = se_nas("view", folder)
        assert viewed.out == [f"NNI page: http://127.0.0.1:{port}", f"close it: se-nas stop {folder}"]
        assert status.status(folder).state == "VIEWED"
        again = se_nas("resume", folder)  # closes the view, and finds nothing left to do
        assert again.code == 0
        assert status.status(folder).state == "DONE"
        assert status.running(folder) is None
        assert read_json(folder / "result.json") == result
        assert se_nas("stop", folder).out[-1] == "stopped (2 succeeded)"
    finally:
        if (folder / "nni.json").exists():
            manager.stop(folder)
