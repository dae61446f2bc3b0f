"""Jobs that torchrun starts: a rank that is killed, a restart, and a job that is asked to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from se_nas.records.checkpoint import load_checkpoint
from tests.helpers.rank_processes import run_cli, start_ranks
from tests.helpers.tiny_imagenet import EVERYTHING, epochs_in, write_job
from tests.helpers.tiny_runs import RUN, changed, numbers, read_json, write_run

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 15
START_SECONDS = 120  # two processes import torch, on a machine that may be busy


class TorchRun:
    """`torchrun --nproc-per-node 2 -m se_nas WORDS`."""

    def __init__(self, folder: Path, words: list[str], *options: str) -> None:
        folder.mkdir()
        self._files = [folder / name for name in ("out", "err")]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
        with self._files[0].open("w") as out, self._files[1].open("w") as err:
            self.process = subprocess.Popen(
                [*torchrun, "-m", "se_nas", *words],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def wait_until(self, due: Callable[[], bool]) -> None:
        limit = time.monotonic() + START_SECONDS
        while not due():
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < limit, self.errors
            time.sleep(0.005)

    def kill_rank(self, rank: int) -> None:
        """SIGKILL, found by the variables that torchrun gave it."""
        for child in self._children():
            try:
                environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"RANK={rank}".encode() in environment:
                os.kill(child, signal.SIGKILL)
                return
        raise AssertionError(f"torchrun has no rank {rank}")

    def _children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self) -> int:
        return self.process.wait(START_SECONDS)

    def stop_if_alive(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def out(self) -> str:
        return self._files[0].read_text()

    @property
    def errors(self) -> str:
        return self._files[1].read_text()


Start = Callable[..., TorchRun]


@pytest.fixture
def torchrun(tmp_path: Path) -> Iterator[Start]:
    if not Path("/proc/self/task").exists():
        pytest.skip("finds ranks in /proc")
    started: list[TorchRun] = []

    def start(words: list[str], *options: str) -> TorchRun:
        started.append(TorchRun(tmp_path / f"torchrun{len(started)}", words, *options))
        return started[-1]

    yield start
    for job in started:
        job.stop_if_alive()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def words(home: Path) -> list[str]:
    """A retraining of 45 steps, with every kind of state."""
    return write_job(home, {**EVERYTHING, "epochs": EPOCHS})


@pytest.fixture(scope="module")
def unbroken(home: Path, words: list[str]) -> Path:
    """The folder of the same training on two ranks that was never stopped."""
    ended = start_ranks(2, home / "unbroken.job", run_cli, [*words, "--out", str(home / "unbroken")]).join()
    assert [rank.code for rank in ended] == [0, 0], ended
    return home / "unbroken"


def assert_same(out: Path, unbroken: Path) -> None:
    assert read_json(out / "history.json") == read_json(unbroken / "history.json")
    for file in ("network.pt", "best.pt"):
        found, expected = load_checkpoint(out / file), load_checkpoint(unbroken / file)
        for part in ("network", "average"):
            assert found[part].keys() == expected[part].keys()
            assert all(torch.equal(value, expected[part][name]) for name, value in found[part].items())
    assert epochs_in(out) == epochs_in(unbroken)


def test_a_killed_rank_fails_the_job_clearly_and_resume_goes_on(
    tmp_path: Path, words: list[str], unbroken: Path, torchrun: Start
) -> None:
    out = tmp_path / "out"
    job = torchrun([*words, "--out", str(out)])
    job.wait_until(lambda: len(epochs_in(out)) >= 2)
    job.kill_rank(1)
    assert job.end() != 0
    assert not (out / "result.json").exists()
    assert "se_nas/" not in job.errors  # no traceback of ours
    lost = "error: rank 0 of 2: every rank must stay alive, but contact with another was lost ("
    ended_by_torchrun = "stopped by SIGTERM; resume from"  # which may come to know of the death first
    lines = [line for line in job.errors.splitlines() if line.startswith("error: ") or ended_by_torchrun in line]
    assert len(lines) == 1, job.errors
    assert lines[0].startswith(lost) or ended_by_torchrun in lines[0]
    assert "--resume" in lines[0]
    ended = start_ranks(2, tmp_path / "again", run_cli, [*words, "--out", str(out), "--resume"]).join()
    assert [rank.code for rank in ended] == [0, 0], ended
    assert "resumed at step" in ended[0].err
    assert_same(out, unbroken)


@pytest.mark.slow
def test_a_killed_rank_is_restarted_by_torchrun_and_the_job_resumes_by_itself(
    tmp_path: Path, words: list[str], unbroken: Path, torchrun: Start
) -> None:
    out = tmp_path / "out"
    job = torchrun([*words, "--out", str(out)], "--max-restarts", "1")
    job.wait_until(lambda: len(epochs_in(out)) >= 2)
    job.kill_rank(0)
    assert job.end() == 0, job.errors
    assert "resumed at step" in job.errors
    assert_same(out, unbroken)


@pytest.mark.slow
def test_a_search_of_which_a_rank_is_killed_is_restarted_by_torchrun_and_resumes_by_itself(
    tmp_path: Path, torchrun: Start
) -> None:
    run = changed(changed(RUN, "search.epochs", 5), "latency", {"table": False})
    words = ["search", str(write_run(tmp_path, run)), "--quiet", "--out"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    ended = start_ranks(2, tmp_path / "job", run_cli, [*words, str(whole)]).join()
    assert [rank.code for rank in ended] == [0, 0], ended
    job = torchrun([*words, str(out)], "--max-restarts", "1")
    job.wait_until(lambda: len(epochs_in(out / "search")) >= 2)
    job.kill_rank(0)
    assert job.end() == 0, job.errors
    assert numbers(out) == numbers(whole)


@pytest.mark.slow  # a killed rank that is restarted is a test of the default suite too
def test_a_restart_does_not_touch_what_the_job_did_not_begin(tmp_path: Path, words: list[str], torchrun: Start) -> None:
    out = tmp_path / "out"
    assert start_ranks(2, tmp_path / "first", run_cli, [*words, "--out", str(out), "--epochs", "1"]).join()[0].code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    job = torchrun([*words, "--out", str(out), "--epochs", "1"], "--max-restarts", "1")
    assert job.end() != 0
    assert job.errors.count("error: ") == job.errors.count("the folder must hold no run yet") == 2  # one for each start
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_job_that_is_asked_to_stop_saves_and_goes_on(
    tmp_path: Path, words: list[str], unbroken: Path, torchrun: Start
) -> None:
    out = tmp_path / "out"
    job = torchrun([*words, "--out", str(out)])
    job.wait_until(lambda: len(epochs_in(out)) >= 2)
    job.process.send_signal(signal.SIGTERM)
    assert job.end() != 0
    (line,) = [line for line in job.errors.splitlines() if line.startswith("retrain: stopped by SIGTERM")]
    assert "--resume" in line
    assert str(out / "checkpoint.pt") in line
    assert not (out / "result.json").exists()
    assert "se_nas/" not in job.errors
    ended = start_ranks(2, tmp_path / "again", run_cli, [*words, "--out", str(out), "--resume"]).join()
    assert [rank.code for rank in ended] == [0, 0], ended
    assert "resumed at step" in ended[0].err
    assert_same(out, unbroken)
