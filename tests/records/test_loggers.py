"""Weights & Biases and MLflow, each really used offline: the numbers are there, a resumed phase goes on with the same
run, nothing is sent, and no key is written."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from se_nas.errors import ConfigError
from se_nas.records import run_log
from se_nas.records.run_log import LOGGERS, RunLog, logging_to
from se_nas.runs.run_file import load_run, parse_run
from se_nas.runs.search import run_search
from tests.helpers.tiny_runs import RUN, write_run

SECRET = "0123456789" * 4

#: Two processes' worth of a phase: one that begins, and one that goes on at step 2.
PHASE = """
import sys
from pathlib import Path
from se_nas.records.run_log import RunLog, logging_to

with logging_to([sys.argv[1]]), RunLog(Path("search")) as log:
    step = int(sys.argv[2])
    log.cut("search", log.lines("search"), step)
    for at in (step + 1, step + 2):
        log.write(at, "search", loss=1.0 / at, expected={"macs": 10.0 * at})
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Every proxy and server that a service is told of; who connects is noticed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


def log_a_phase(logger: str, folder: Path, listener: socket.socket, step: int) -> None:
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "WANDB_BASE_URL")
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "WANDB_API_KEY": SECRET,
        "MLFLOW_TRACKING_PASSWORD": SECRET,
        **dict.fromkeys(names, address),
    }
    words = [sys.executable, "-W", "error", "-c", PHASE, logger, str(step)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")


def nothing_left_the_machine(folder: Path, listener: socket.socket) -> None:
    with pytest.raises(TimeoutError):
        listener.accept()
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


def test_weights_and_biases_has_the_numbers_offline_and_goes_on_with_the_same_run(
    tmp_path: Path, listener: socket.socket
) -> None:
    pytest.importorskip("wandb")
    for step in (0, 2):
        log_a_phase("wandb", tmp_path, listener, step)
    nothing_left_the_machine(tmp_path, listener)
    files = sorted((tmp_path / "search" / "wandb").glob("offline-run-*/run-*.wandb"))
    (run,) = {path.stem for path in files}
    assert run == "run-" + json.loads((tmp_path / "search/wandb/search.json").read_text())["id"]
    whole = b"".join(path.read_bytes() for path in files)
    assert whole.count(b"expected.macs") >= 4
    assert {path.name for path in tmp_path.iterdir()} <= {"search", ".config", ".cache", ".netrc"}


@pytest.mark.slow
def test_mlflow_has_the_numbers_and_goes_on_with_the_same_run(tmp_path: Path, listener: socket.socket) -> None:
    pytest.importorskip("mlflow")
    for step in (0, 2):
        log_a_phase("mlflow", tmp_path, listener, step)
    nothing_left_the_machine(tmp_path, listener)
    with sqlite3.connect(tmp_path / "search" / "mlflow.db") as database:
        rows = database.execute("select key, step, value from metrics where key = 'expected.macs' order by step")
        assert list(rows) == [("expected.macs", at, 10.0 * at) for at in (1, 2, 3, 4)]
        runs = list(database.execute("select run_uuid, status from runs"))
    assert runs == [(json.loads((tmp_path / "search/mlflow-search.json").read_text())["id"], "FINISHED")]
    assert {path.name for path in tmp_path.iterdir()} <= {"search", ".config", ".cache"}


def test_a_service_that_is_not_installed_is_one_line_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError) as error, logging_to(["tensorboard", "wandb"]):
        pass
    assert str(error.value) == "loggers: wandb: must be installed, but is not: pip install 'se-nas[wandb]'"


def test_what_is_not_asked_for_is_not_used(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.write(1, "search", loss=0.5)
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl", "tensorboard"}
    with logging_to([]), RunLog(tmp_path / "none") as log:
        log.write(1, "search", loss=0.5)
    assert {path.name for path in (tmp_path / "none").iterdir()} == {"log.jsonl"}


def test_an_unknown_logger_of_a_retraining_or_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loggers\[0\]: must be one of tensorboard, wandb, mlflow.* but got 'wanbd'"):
        parse_run({"name": "a", "space": "b.yaml", "loggers": ["wanbd"]}, "here")
    words = ["retrain", "mobilenetv3_large", "--logger", "wanbd"]
    done = subprocess.run([sys.executable, "-m", "se_nas", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: --logger: must be one of tensorboard, wandb, mlflow, but got ['wanbd']")


def test_the_loggers_of_a_run_take_its_search_and_its_retraining_and_no_short_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str]] = []

    def mine(folder: Path, phase: str, step: int) -> None:
        opened.append((folder.name, phase))

    monkeypatch.setitem(LOGGERS.data, "wandb", mine)
    monkeypatch.setattr(run_log, "_is_installed", lambda module: True)
    short = {"strategy": "optuna", "max_evaluations": 2, "evaluator": "stand_alone", "stand_alone": {"epochs": 1}}
    latency = {"device": "cpu", "table": False}
    run = {**RUN, "latency": latency, "search": short, "retrain": {"epochs": 1}, "loggers": ["wandb"]}
    run_file = write_run(tmp_path, run)
    run_search(run_file, load_run(run_file), tmp_path / "out", resume=False, progress=False, say=lambda line: None)
    assert opened == [("retrain", "retrain")]
    assert not list((tmp_path / "out").rglob("tensorboard"))  # which was not named
    search = {"pretrain_epochs": 1, "epochs": 1, "batch_size": 20, "calibration_images": 48}
    run_file = write_run(tmp_path, {**run, "search": search, "retrain": None})
    run_search(run_file, load_run(run_file), tmp_path / "two", resume=False, progress=False, say=lambda line: None)
    assert opened[1:] == [("search", "search")]
