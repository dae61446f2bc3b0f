from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nni
import nni.trial
import pytest

from se_nas.errors import DataError
from se_nas.nni_bridge import trial
from se_nas.nni_bridge.own_parameters import manager_urls, take_parameters
from se_nas.nni_bridge.page_values import PROPOSAL, EpochMetrics, final_metrics, nni_search_space, trial_parameters
from se_nas.space.yaml.file import load_space
from tests.helpers.tiny_runs import RUN, SPACE, write_run, write_yaml

HANDED = {"a": 1, PROPOSAL: 0}


class Manager(ThreadingHTTPServer):
    """Answers as NNI's manager does; an unknown job is an empty answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked = 0
        self.known_after = 0  # asked for the job so many times in vain
        self.parameters: dict[str, Any] = {}
        self.finals: list[Any] = []
        self.id: int | None = 5

    def answer(self, path: str) -> Any:
        if path == "/api/v1/nni/check-status":
            return {"status": "RUNNING", "errors": []}
        if path == "/api/v1/nni/trial-jobs/me":
            self.asked += 1
            if self.asked <= self.known_after:
                return None
            shown = json.dumps({"parameter_id": self.id, "parameters": self.parameters, "parameter_index": 0})
            return {"trialJobId": "me", "status": "RUNNING", "hyperParameters": [shown]}
        assert path == "/api/v1/nni/metric-data/me"
        reports = [("PERIODICAL", 0.125), *(("FINAL", value) for value in self.finals)]
        return [
            {"trialJobId": "me", "type": kind, "sequence": 0, "data": json.dumps(json.dumps(value))}
            for kind, value in reports
        ]


class Handler(BaseHTTPRequestHandler):
    server: Manager

    def do_GET(self) -> None:
        answer = self.server.answer(self.path)
        body = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with Manager() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for name in [name for name in os.environ if name.startswith("NNI_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("NNI_PLATFORM", "local")
        monkeypatch.setenv("NNI_TRIAL_JOB_ID", "me")
        monkeypatch.setenv("NNI_TRIAL_COMMAND_CHANNEL", f"{server.url}/env/local-env/me")
        monkeypatch.setattr(nni, "get_next_parameter", lambda: dict(HANDED))
        monkeypatch.setattr(nni.trial, "_params", {"parameter_id": 0, "parameters": HANDED})
        yield server
        server.shutdown()
        thread.join()


# ---- parameters


def test_a_trial_takes_the_parameters_of_its_own_job_and_reports_under_their_id(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.parameters = {"a": 2, PROPOSAL: 5}
    own = take_parameters()
    assert (own.parameters, own.final) == ({"a": 2, PROPOSAL: 5}, None)
    assert nni.trial._params == {"parameter_id": 5, "parameters": {"a": 2, PROPOSAL: 5}}
    assert "the parameters of another trial" in caplog.text


def test_a_trial_that_starts_before_its_job_is_stored_waits_for_it(manager: Manager) -> None:
    manager.parameters, manager.known_after = {"a": 2, PROPOSAL: 5}, 2
    assert take_parameters().parameters == manager.parameters
    assert manager.asked == 3


@pytest.mark.parametrize("channel", ["http://127.0.0.1:9/env/e/me", ""])
def test_where_no_manager_answers_a_trial_says_so_and_runs_what_it_was_handed(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, channel: str
) -> None:
    monkeypatch.setenv("NNI_TRIAL_COMMAND_CHANNEL", channel)
    assert take_parameters().parameters == HANDED
    assert nni.trial._params["parameter_id"] == 0
    assert "other parameters beside its result" in caplog.text


def test_a_job_that_the_manager_never_learns_of_is_not_waited_for_for_ever(manager: Manager) -> None:
    manager.parameters, manager.known_after = {"a": 2, PROPOSAL: 5}, 10**6
    assert take_parameters(patience=0.3).parameters == HANDED


def test_the_manager_is_found_by_what_nni_tells_a_trial(tmp_path: Path) -> None:
    assert manager_urls({"NNI_TRIAL_COMMAND_CHANNEL": "http://localhost:81/env/local-env/x"}) == ["http://localhost:81"]
    prefixed = {"NNI_TRIAL_COMMAND_CHANNEL": "http://localhost:81/a/b/env/local-env/x"}
    assert manager_urls(prefixed) == ["http://localhost:81/a/b"]
    assert manager_urls({}) == []
    remote = {
        "NNI_PLATFORM": "remote",
        "NNI_OUTPUT_DIR": str(tmp_path / "environments/remote-worker1/trials/x"),
        "NNI_TRIAL_COMMAND_CHANNEL": "http://localhost:4711/env/remote-worker1/x",
    }
    for age, name in enumerate(["trial_keeper", "trial_keeper_1"]):  # a resume starts another
        file = tmp_path / "environments/remote-worker1" / name / "trial_keeper_config.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"managerCommandChannel": f"ws://10.0.0.{age}:81/platform/remote/1"}))
        os.utime(file, (age, age))
    assert manager_urls(remote) == ["http://10.0.0.1:81", "http://10.0.0.0:81", "http://localhost:4711"]


# ---- what the page shows


def test_the_axes_of_the_page_are_the_choices_and_hold_every_trials_picks(tmp_path: Path) -> None:
    space = load_space(write_yaml(tmp_path / "space.yaml", SPACE))
    axes = nni_search_space(space)
    assert axes["stage2.block1.se"] == {"_type": "choice", "_value": ["none", "r2", "r4"]}
    for architecture in space.enumerate():
        shown = trial_parameters(3, architecture)
        assert shown.pop(PROPOSAL) == 3
        assert shown.keys() == axes.keys()
        assert all(option in axes[name]["_value"] for name, option in shown.items())


def test_final_metrics_have_accuracy_costs_and_constraints() -> None:
    shown = final_metrics(0.9, {"macs": 2e5, "latency_ms": 0.5}, {"macs": -0.25}, 3.0, 7)
    expected = {"default": 0.9, "macs": 2e5, "latency_ms": 0.5, "excess.macs": -0.25, "seconds": 3.0, PROPOSAL: 7}
    assert shown == expected
    assert PROPOSAL not in final_metrics(0.9, {}, {}, 0.0)


def entry(epoch: int, accuracy: float | None, temperature: float | None) -> dict[str, Any]:
    """As `search/differentiable.py` writes its history."""
    expected = {"macs": 1e5, "params": 2e3}
    more = {"searching": temperature is not None, "multipliers": {}, "probabilities": {}, "warnings": [], "loss": 2.0}
    values = {"validation_accuracy": accuracy, "temperature": temperature, "entropy": 0.5, "expected": expected}
    return {"epoch": epoch, "step": 9, **values, **more}


def test_every_epoch_of_a_search_has_the_same_numbers_and_the_warm_up_a_gap() -> None:
    metrics = EpochMetrics()
    warm_up, searched, unvalidated = (
        metrics(entry(0, None, None)),
        metrics(entry(1, 0.5, 3.0)),
        metrics(entry(2, None, 2.0)),
    )
    keys = ["default", "expected_macs", "expected_params", "entropy", "temperature"]
    assert list(warm_up) == list(searched) == list(unvalidated) == keys
    assert all(type(value) is float for value in warm_up.values())
    assert math.isnan(warm_up["default"])
    assert math.isnan(warm_up["temperature"])
    assert searched == {
        "default": 0.5,
        "expected_macs": 1e5,
        "expected_params": 2e3,
        "entropy": 0.5,
        "temperature": 3.0,
    }
    assert unvalidated["default"] == 0.5
    assert math.isnan(metrics(entry(3, None, None))["default"])  # the pretraining of a restart


# ---- a whole trial


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int | str, Any]]:
    """What a trial reports: (epoch, metrics) and ("final", metrics)."""
    found: list[tuple[int | str, Any]] = []
    monkeypatch.setattr(nni.trial, "_intermediate_seq", 0)
    monkeypatch.setattr(
        nni, "report_intermediate_result", lambda value: found.append((nni.trial._intermediate_seq, value))
    )
    monkeypatch.setattr(nni, "report_final_result", lambda value: found.append(("final", value)))
    return found


def provide(monkeypatch: pytest.MonkeyPatch, name: str, function: Callable[..., Any]) -> None:
    monkeypatch.setattr(f"se_nas.runs.worker.{name}", function)


def test_a_trial_of_a_black_box_search_evaluates_its_picks(
    manager: Manager, reports: list[tuple[int | str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = load_space(write_yaml(tmp_path / "space.yaml", SPACE))
    architecture = next(space.enumerate())
    manager.parameters = json.loads(json.dumps(trial_parameters(4, architecture)))

    def evaluate_one(run: Path, picks: dict[str, Any], report: Callable[[int, float], None]) -> Any:
        assert (run, space.architecture(picks)) == (tmp_path, architecture)
        report(0, 0.25)
        report(1, 0.5)
        return 0.625, {"macs": 1e5}, {"macs": -0.1}

    provide(monkeypatch, "evaluate_one", evaluate_one)
    provide(monkeypatch, "await_preparation", lambda run, on_epoch: None)
    assert trial.main([str(tmp_path)]) == 0
    assert reports[:2] == [(0, {"default": 0.25}), (1, {"default": 0.5})]
    (_, final) = reports.pop()
    assert final.pop("seconds") >= 0
    assert final == {"default": 0.625, "macs": 1e5, "excess.macs": -0.1, PROPOSAL: 4}
    assert len(reports) == 2


def test_a_trial_waits_for_the_supernet_and_shows_its_training(
    manager: Manager, reports: list[tuple[int | str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, {**RUN, "search": {"strategy": "optuna"}})
    (tmp_path / "run.yaml").rename(tmp_path / "config.yaml")
    (tmp_path / "search").mkdir()
    manager.parameters = {"a": "b", PROPOSAL: 4}
    lines = [
        {"phase": "supernet", "event": "step", "loss": 2.0},
        {"phase": "supernet", "event": "epoch", "epoch": 0, "loss": 2.0, "accuracy": 0.125},
        {"phase": "supernet", "event": "epoch", "epoch": 1, "loss": 1.5, "accuracy": 0.25, "largest_accuracy": 0.5},
        {"phase": "supernet", "event": "epoch", "epoch": 2, "loss": 1.0, "accuracy": 0.5, "largest_accuracy": None},
    ]

    def train(seconds: float) -> None:
        """What the run's own process does meanwhile: a line at each look, and at last the supernet."""
        done = len((tmp_path / "search/log.jsonl").read_text().splitlines()) if reports else 0
        if done == len(lines) - 1:
            (tmp_path / "search/supernet.pt").touch()
        written = lines[: done + 1] if done else lines[:2]
        (tmp_path / "search/log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written))

    monkeypatch.setattr("se_nas.runs.worker.time.sleep", train)
    provide(monkeypatch, "evaluate_one", lambda run, picks, report: (0.25, {}, {}))
    assert trial.main([str(tmp_path)]) == 0
    epochs, (_, final) = reports[:-1], reports[-1]
    assert [(epoch, shown["supernet_loss"]) for epoch, shown in epochs] == [(0, 2.0), (1, 1.5), (2, 1.0)]
    assert [shown["default"] for _, shown in epochs] == [0.125, 0.25, 0.5]
    assert [math.isnan(shown["supernet_largest"]) for _, shown in epochs] == [True, False, True]
    assert final["default"] == 0.25
    assert final["seconds"] < 60
    reports.clear()
    assert trial.main([str(tmp_path)]) == 0  # nothing to wait for
    assert len(reports) == 1


@pytest.mark.parametrize("number", [4, None, "x"])
def test_the_result_of_a_trial_that_was_added_by_hand_is_not_that_of_the_one_it_was_copied_from(
    manager: Manager,
    reports: list[tuple[int | str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: object,
) -> None:
    write_run(tmp_path, {**RUN, "search": {"strategy": "optuna"}})
    (tmp_path / "run.yaml").rename(tmp_path / "config.yaml")
    manager.id = None
    manager.parameters = {"a": "b"} | ({} if number is None else {PROPOSAL: number})
    provide(monkeypatch, "evaluate_one", lambda run, picks, report: (0.5, {}, {}) if picks == {"a": "b"} else None)
    provide(monkeypatch, "await_preparation", lambda run, on_epoch: None)
    assert trial.main([str(tmp_path)]) == 0
    ((_, final),) = reports
    assert final.keys() == {"default", "seconds"}


@pytest.mark.parametrize("platform", ["local", "remote"])
def test_a_trial_of_a_differentiable_search_is_a_whole_search(
    manager: Manager,
    reports: list[tuple[int | str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
) -> None:
    manager.parameters = {"seed": 1, "budgets": "macs=300k params=20k"}
    monkeypatch.setenv("NNI_PLATFORM", platform)
    monkeypatch.setenv("NNI_OUTPUT_DIR", str(tmp_path / "output"))
    place = tmp_path / ("trials" if platform == "local" else "output")

    def search_one(run: Path, changes: dict[str, Any], out: Path, report: Callable[[dict[str, Any]], None]) -> Any:
        assert (run, changes) == (tmp_path, {"seed": 1, "budgets": {"macs": 300e3, "params": 20e3}})
        assert out == place / "seed1_macs-300k-params-20k"
        report(entry(4, 0.5, 3.0))  # resumed: it goes on at its place in the chart
        return 0.75, {"macs": 2e5}, {"macs": -0.3}

    provide(monkeypatch, "search_one", search_one)
    assert trial.main([str(tmp_path)]) == 0
    (sequence, shown), (_, final) = reports
    assert (sequence, shown["default"], shown["temperature"]) == (4, 0.5, 3.0)
    assert final.pop("seconds") >= 0
    assert final == {"default": 0.75, "macs": 2e5, "excess.macs": -0.3}


def test_a_trial_that_had_reported_its_result_before_it_was_stopped_reports_the_same_again(
    manager: Manager, reports: list[tuple[int | str, Any]], tmp_path: Path
) -> None:
    manager.parameters, manager.finals = HANDED, [{"default": 0.5, PROPOSAL: 0}, {"default": 0.6, PROPOSAL: 0}]
    assert trial.main([str(tmp_path)]) == 0
    assert reports == [("final", {"default": 0.5, PROPOSAL: 0})]


def test_a_users_error_is_one_line_in_the_trials_log_and_fails_it(
    manager: Manager,
    reports: list[tuple[int | str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager.parameters = {"seed": 1, "budgets": ""}
    monkeypatch.setenv("NNI_PLATFORM", "local")

    def fail(*_: Any) -> None:
        raise DataError("there must be images, but there are none")

    provide(monkeypatch, "search_one", fail)
    assert trial.main([str(tmp_path)]) == 2
    assert "there must be images" in caplog.text
    assert reports == []
