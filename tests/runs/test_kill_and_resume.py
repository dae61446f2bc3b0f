"""A run killed at any moment and resumed ends with the very numbers of a run that was never stopped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from se_nas.records.run_log import read_log
from se_nas.runs.run_file import load_run
from se_nas.runs.search import run_search
from se_nas.space.yaml.file import load_space
from tests.helpers.tiny_runs import RUN, cache_latency, changed, numbers, read_json, weights, write_run
from tests.search.known_worth import write_table

ROOT = Path(__file__).resolve().parents[2]
SHORT = changed(changed(RUN, "search.epochs", 5), "retrain.epochs", 6)
SUPERNET = {
    "strategy": "optuna",
    "objectives": ["accuracy", "macs"],
    "max_evaluations": 40,
    "population": 6,
    "enqueue": ["no_se", "se_r2"],
    "supernet": {"epochs": 3, "batch_size": 20, "calibration_images": 48},
}
TABULAR = {
    "strategy": "optuna",
    "sampler": "tpe",
    "max_evaluations": 60,
    "evaluator": "table",
    "table": "known.jsonl",
    "enqueue": ["no_se", "se_r2"],
}
STAND_ALONE = {
    "strategy": "optuna",
    "max_evaluations": 20,
    "population": 6,
    "evaluator": "stand_alone",
    "pruner": "hyperband",
    "stand_alone": {"epochs": 4, "batch_size": 40},
}
LONG = changed(changed(RUN, "search.epochs", 29), "retrain.epochs", 30)


@dataclass(frozen=True)
class Place:
    """Where one kind of run is done, with a latency cache of its own."""

    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def run_file(self) -> Path:
        return self.folder / "run.yaml"

    def start(self, out: Path) -> subprocess.Popen[str]:
        """`se-nas search --resume`, which begins a run where there is none."""
        command = ["search", str(self.run_file), "--out", str(out), "--resume", "--quiet"]
        return subprocess.Popen(
            [sys.executable, "-m", "se_nas", *command],
            cwd=ROOT,
            env={**os.environ, "SE_NAS_CACHE": str(self.cache), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


def place(folder: Path, run: dict[str, Any]) -> Place:
    write_run(folder, run)
    cache_latency(folder / "cache", folder)
    return Place(folder)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place(tmp_path_factory.mktemp("kills"), SHORT)


@pytest.fixture(scope="module")
def whole(short: Place) -> dict[str, Any]:
    """The numbers of the short run, never stopped."""
    return uninterrupted(short)


def epochs_done(out: Path, part: str) -> int:
    log = out / part / "log.jsonl"
    return sum(line["event"] == "epoch" for line in read_log(log)) if log.exists() else 0


def at_epoch(out: Path, part: str, epoch: int) -> Callable[[], bool]:
    return lambda: epochs_done(out, part) >= epoch


def kill_when(process: subprocess.Popen[str], due: Callable[[], bool], delay: float = 0.0) -> bool:
    """SIGKILL the process `delay` seconds after `due()`; whether it was still alive then."""
    limit = time.monotonic() + 120
    while process.poll() is None and not due():
        assert time.monotonic() < limit, "the run makes no progress"
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode == -signal.SIGKILL


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors


def uninterrupted_run(at: Place) -> Path:
    out = at.folder / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_NAS_CACHE", str(at.cache))
        run_search(at.run_file, load_run(at.run_file), out, resume=False, progress=False, say=lambda line: None)
    return out


def uninterrupted(at: Place) -> dict[str, Any]:
    return numbers(uninterrupted_run(at))


def test_a_run_killed_in_each_of_its_stages_ends_as_one_never_stopped(short: Place, whole: dict[str, Any]) -> None:
    out = short.folder / "killed"
    moments: list[Callable[[], bool]] = [
        at_epoch(out, "search", 2),
        lambda: (out / "search/scores.json").exists(),  # between search and retraining
        at_epoch(out, "retrain", 3),
    ]
    kills = [kill_when(short.start(out), due) for due in moments]
    assert not (out / "result.json").exists()
    finish(short.start(out))
    assert kills == [True, True, True]
    assert numbers(out) == whole


@pytest.mark.slow
def test_a_run_asked_to_stop_says_how_to_go_on_and_does(short: Place, whole: dict[str, Any]) -> None:
    out = short.folder / "stopped"
    process = short.start(out)
    while epochs_done(out, "search") < 1 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 128 + signal.SIGTERM, errors
    (line,) = [line for line in errors.splitlines() if "SIGTERM" in line]
    assert "--resume" in line
    assert str(out / "search/checkpoint.pt") in line
    assert "Traceback" not in errors
    finish(short.start(out))
    assert numbers(out) == whole


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_kills_of_the_search_and_ten_of_the_retraining_at_random_moments(tmp_path: Path) -> None:
    at = place(tmp_path, LONG)
    whole = uninterrupted(at)
    rng = random.Random(int(os.environ.get("SE_NAS_TEST_SEED", "0")))
    out, kills = at.folder / "killed", {"search": 0, "retrain": 0}
    for part in kills:
        for epoch in sorted(rng.sample(range(27), 10)):
            kills[part] += kill_when(at.start(out), at_epoch(out, part, epoch), delay=rng.uniform(0.0, 0.15))
        done = read_json(out / "search/history.json") if (out / "search/history.json").exists() else []
        assert bool(done) == (part == "retrain")  # the kills met the part that they were meant for
    finish(at.start(out))
    assert kills == {"search": 10, "retrain": 10}
    assert numbers(out) == whole


def optuna_numbers(out: Path) -> dict[str, Any]:
    """All numbers of a finished Optuna-driven run that no clock made."""
    found = read_json(out / "search/evaluations.json")
    for row in found["evaluations"]:
        del row["seconds"]
    supernet = out / "search/supernet.pt"
    return {
        "evaluations": found,
        "importance": read_json(out / "search/importance.json"),
        "architecture": read_json(out / "architecture.json"),
        "validation": read_json(out / "result.json")["search"]["validation_accuracy"],
        "supernet": weights(supernet, "supernet") if supernet.exists() else None,
    }


def optuna_run(search: dict[str, Any]) -> dict[str, Any]:
    return {**RUN, "search": search, "retrain": None}


def studied(out: Path, size: int) -> Callable[[], bool]:
    """Whether the study's file has so many bytes."""
    file = out / "search/study.journal"
    return lambda: file.exists() and file.stat().st_size >= size


@pytest.mark.slow
def test_an_optuna_driven_run_killed_and_then_stopped_ends_as_one_never_stopped(tmp_path: Path) -> None:
    at = place(tmp_path, optuna_run(TABULAR))
    write_table(tmp_path / "known.jsonl", load_space(tmp_path / "space.yaml"))
    uninterrupted_run(at)
    out, size = at.folder / "killed", (at.folder / "whole/search/study.journal").stat().st_size
    moment = random.Random(int(os.environ.get("SE_NAS_TEST_SEED", "0"))).randrange(size // 2)
    assert kill_when(at.start(out), studied(out, moment))
    process = at.start(out)
    while not studied(out, size // 2)() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 128 + signal.SIGINT, errors
    (line,) = [line for line in errors.splitlines() if "SIGINT" in line]
    assert line == (
        f"search: stopped by SIGINT; resume from {out / 'search/study.journal'} (add --resume to the same command)"
    )
    assert "Traceback" not in errors
    assert not (out / "result.json").exists()
    finish(at.start(out))
    assert optuna_numbers(out) == optuna_numbers(at.folder / "whole")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("search", [SUPERNET, STAND_ALONE], ids=["supernet", "stand_alone"])
def test_ten_kills_of_an_optuna_driven_run_at_random_moments(tmp_path: Path, search: dict[str, Any]) -> None:
    at = place(tmp_path, optuna_run(search))
    uninterrupted_run(at)
    rng = random.Random(int(os.environ.get("SE_NAS_TEST_SEED", "0")))
    out, size = at.folder / "killed", (at.folder / "whole/search/study.journal").stat().st_size
    moments = sorted(rng.sample(range(size), 10))
    kills = [kill_when(at.start(out), studied(out, moment), delay=rng.uniform(0.0, 0.05)) for moment in moments]
    assert kills == [True] * 10
    finish(at.start(out))
    assert optuna_numbers(out) == optuna_numbers(at.folder / "whole")
