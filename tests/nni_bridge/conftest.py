"""Two runs under a real NNI, by the command line, stopped on the way and resumed; their pages stay up for a look."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from se_nas.cli import main as cli
from se_nas.nni_bridge.experiment import manager, status
from se_nas.nni_bridge.experiment.manager_client import Metric, TrialJob
from se_nas.nni_bridge.page_values import PROPOSAL
from se_nas.space.yaml.file import load_space
from tests.helpers.tiny_runs import RUN, read_json, write_run
from tests.nni_bridge.live import free_port, left, listening, until
from tests.search.known_worth import write_table

#: A black-box search whose trials cost nothing but their imports.
BLACK_BOX: dict[str, Any] = {
    **RUN,
    "search": {
        "strategy": "optuna",
        "sampler": "random",
        "max_evaluations": 4,
        "evaluator": "table",
        "table": "known.jsonl",
        "enqueue": ["no_se"],
    },
    "latency": {"device": "cpu", "table": False},
    "retrain": None,
    "nni": {"concurrency": 2},
}

#: Two differentiable searches, of epochs enough to be stopped amid them.
SWEEP: dict[str, Any] = {
    **RUN,
    "search": {"pretrain_epochs": 2, "epochs": 22, "batch_size": 20, "calibration_images": 48},
    "latency": {"device": "cpu", "table": False},
    "retrain": None,
    "nni": {"concurrency": 2, "seeds": [0, 1], "budgets": [{"macs": "90k", "params": "3k"}]},
}


@dataclass(frozen=True)
class Said:
    """What a command ended with: its exit code and the lines that it printed."""

    code: int
    out: list[str]
    errors: list[str]


def se_nas(*words: object) -> Said:
    """Run one command of the command line in this process."""
    out, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        patch.setattr("sys.argv", ["se-nas", *map(str, words)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
    return Said(int(exit.value.code or 0), out.getvalue().splitlines(), errors.getvalue().splitlines())


def write_black_box(folder: Path, run: dict[str, Any] = BLACK_BOX) -> Path:
    """The run file of a black-box search, with its space and its table beside it."""
    run_file = write_run(folder, run)
    write_table(folder / "known.jsonl", load_space(folder / "space.yaml"))
    return run_file


def picks(parameters: dict[str, Any]) -> dict[str, Any]:
    """Of the parameters that a page shows."""
    return {name: option for name, option in parameters.items() if name != PROPOSAL}


def study(folder: Path) -> list[dict[str, Any]]:
    """Every proposal of a finished run."""
    rows: list[dict[str, Any]] = read_json(folder / "search/evaluations.json")["evaluations"]
    return rows


def final_states(folder: Path) -> Counter[int]:
    """How often each proposal was given a final state."""
    entries = [json.loads(line) for line in (folder / "search/study.journal").read_text().splitlines()]
    return Counter(e["trial_id"] for e in entries if "trial_id" in e and e.get("state") in (1, 2, 3))


@dataclass
class Told:
    """What was seen of a run under NNI.

    Attributes:
        said: by step, what its command said.
        left: after the stop half-way, the processes that were left.
        listening: after the stop half-way, where something listened at the page's port.
        stopped, stored: after the stop half-way, the status and the jobs, which no manager shows then.
        jobs, metrics: of the page, at the end.
    """

    folder: Path
    port: int
    said: dict[str, Said] = field(default_factory=dict)
    left: list[list[str]] = field(default_factory=list)
    listening: set[str] = field(default_factory=set)
    stopped: status.Status | None = None
    stored: list[TrialJob] = field(default_factory=list)
    jobs: list[TrialJob] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of `at_home`."""
    return tmp_path_factory.mktemp("nni_home")


@contextlib.contextmanager
def at_home(home: Path) -> Iterator[None]:
    """What runs meanwhile has a home folder of its own for NNI's list of experiments; trials run on one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("SE_NAS_CACHE", str(home / "cache"))
        yield


@pytest.fixture
def nni_home(session_home: Path) -> Iterator[Path]:
    """The home folder of a test that runs commands itself."""
    with at_home(session_home):
        yield session_home


@pytest.fixture(scope="session")
def black_box(session_home: Path) -> Iterator[Told]:
    """A black-box search, launched, stopped when half of its trials have ended, and resumed to its end."""
    run_file = write_black_box(session_home / "black_box")
    told = Told(session_home / "black_box/out", free_port())
    try:
        with at_home(session_home):
            play(told, run_file, lambda: status.status(told.folder).finished >= 2)
        yield told
    finally:
        with at_home(session_home):
            close(told)


@pytest.fixture(scope="session")
def swept(session_home: Path) -> Iterator[Told]:
    """Two differentiable searches at a time, launched, stopped amid both, and resumed to their ends."""
    told = Told(session_home / "swept/out", free_port())

    def amid_both() -> bool:
        experiment = status.running(told.folder)
        assert experiment is not None
        seen = {metric.trial for metric in experiment.client().metrics() if metric.sequence >= 4}
        return len(seen) == 2

    try:
        with at_home(session_home):
            play(told, write_run(session_home / "swept", SWEEP), amid_both)
            if not has_every_epoch(told):  # NNI lost one that was reported in the very moment of the stop
                close(told)
                told = Told(session_home / "again/out", free_port())
                play(told, write_run(session_home / "again", SWEEP), amid_both)
        yield told
    finally:
        with at_home(session_home):
            close(told)


def has_every_epoch(told: Told) -> bool:
    """Whether no trial lacks an intermediate result before its last."""
    shown: dict[str, set[int]] = {}
    for metric in told.metrics:
        if metric.kind == "PERIODICAL":
            shown.setdefault(metric.trial, set()).add(metric.sequence)
    return all(epochs == set(range(len(epochs))) for epochs in shown.values())


def play(told: Told, run_file: Path, half_way: Callable[[], object]) -> None:
    """Launch the run, stop it as soon as `half_way` is true, resume it to its end, and write down what was seen."""
    folder, port = told.folder, told.port
    told.said["launch"] = se_nas("launch", run_file, "--out", folder, "--port", port, "--detach", "--quiet")
    assert told.said["launch"].code == 0, told.said["launch"]
    told.said["view while it runs"] = se_nas("view", folder)
    until(half_way)
    told.said["stop"] = se_nas("stop", folder)
    told.left, told.listening = left(folder, read_json(folder / "nni.json")["id"]), listening(port)
    told.stopped, told.stored = status.status(folder), status.jobs(folder)
    told.said["resume"] = se_nas("resume", folder)
    experiment = status.running(folder)
    assert experiment is not None, told.said["resume"]
    told.jobs, told.metrics = experiment.client().trials(), experiment.client().metrics()


def close(told: Told) -> None:
    """End the page, which is not to outlive the tests whatever happened to them."""
    if (told.folder / "nni.json").exists():
        experiment = read_json(told.folder / "nni.json")["id"]
        manager.stop(told.folder)
        assert left(told.folder, experiment) == []
