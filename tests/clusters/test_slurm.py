"""The batch scripts for SLURM, under one that is none: what they start, when they are queued again, and real jobs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_slurm import NEAR_LIMIT, STATE, install
from tests.helpers.rank_processes import run_cli, start_ranks
from tests.helpers.tiny_imagenet import NETWORK
from tests.helpers.tiny_runs import RUN, changed, read_json, write_run, write_yaml

ROOT = Path(__file__).resolve().parents[2]
SLURM = ROOT / "clusters" / "slurm"
SCRIPTS = sorted(SLURM.glob("*.sbatch"))
#: Stands for se-nas: notes how it was called and by which variables, and ends as it is told, then well.
STUB = """
import json, os, sys
names = ["MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", "SRUN_CPUS_PER_TASK"]
line = json.dumps([sys.argv[1:], {name: os.environ.get(name) for name in names}])
os.write(1, f"{line}\\n".encode())  # whole, also where several write
codes = os.environ.get("STUB_CODES", "0").split(",")
restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
sys.exit(int(codes[min(restart, len(codes) - 1)]))
"""

Submit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sbatch(tmp_path: Path) -> Submit:
    """Submits a script with words, and waits for the end of its job."""
    programs = install(tmp_path / "bin")
    (tmp_path / "state").mkdir()

    def submit(script: str, *words: object, options: tuple[str, ...] = (), **environment: str) -> Any:
        given = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", STATE: str(tmp_path / "state")}
        return subprocess.run(
            ["sbatch", *options, SLURM / script, *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **given, **environment},
            capture_output=True,
            text=True,
            timeout=280,
        )

    return submit


@pytest.fixture
def stub(tmp_path: Path) -> str:
    """What SE_NAS is set to."""
    (tmp_path / "stub.py").write_text(STUB)
    return f"{sys.executable} -S {tmp_path / 'stub.py'}"


def calls(ended: subprocess.CompletedProcess[str]) -> list[tuple[list[str], dict[str, str]]]:
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("[")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_and_shellcheck_have_nothing_to_say(script: Path) -> None:
    checks = [["bash", "-n"], ["shellcheck"]]
    for check in [words for words in checks if shutil.which(words[0])]:
        done = subprocess.run([*check, script], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_there_are_scripts() -> None:
    assert [path.name for path in SCRIPTS] == ["job.sbatch", "workers.sbatch"]


def test_a_job_starts_a_process_for_each_task_and_tells_all_where_to_meet(sbatch: Submit, stub: str) -> None:
    options = ("--nodes=2", "--ntasks-per-node=2")
    ended = sbatch("job.sbatch", "retrain", "a b.json", "--out", "o", options=options, SE_NAS=stub)
    assert ended.returncode == 0, ended.stderr
    found = sorted(calls(ended), key=lambda call: call[1]["SLURM_PROCID"])
    assert [words for words, _ in found] == [["retrain", "a b.json", "--out", "o", "--resume"]] * 4
    assert [variables["SLURM_PROCID"] for _, variables in found] == ["0", "1", "2", "3"]
    for _, variables in found:
        assert variables["MASTER_ADDR"] == "127.0.0.1"  # the first of the job's machines
        assert variables["MASTER_PORT"] == str(20000 + 4321)
        assert variables["SLURM_STEP_NUM_TASKS"] == "4"
        assert variables["SRUN_CPUS_PER_TASK"] == "8"


@pytest.mark.parametrize(
    ("codes", "starts", "code"),
    [("143,143,0", 3, 0), ("2", 1, 2), ("137", 1, 137)],
)
def test_a_job_is_queued_again_where_it_saved_before_the_limit_and_only_there(
    sbatch: Submit, stub: str, codes: str, starts: int, code: int
) -> None:
    ended = sbatch("job.sbatch", "search", "r.yaml", SE_NAS=stub, STUB_CODES=codes)
    assert (len(calls(ended)), ended.returncode) == (starts, code), ended.stderr


def test_a_job_is_not_queued_again_for_ever(sbatch: Submit, stub: str) -> None:
    ended = sbatch("job.sbatch", "search", "r.yaml", SE_NAS=stub, STUB_CODES="143", MAX_RESTARTS="2")
    assert (len(calls(ended)), ended.returncode) == (3, 143)


@pytest.mark.parametrize("script", [path.name for path in SCRIPTS])
def test_a_script_without_words_says_what_must_follow(sbatch: Submit, stub: str, script: str) -> None:
    ended = sbatch(script, SE_NAS=stub)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"{script}: ")


def test_an_array_is_a_worker_each_and_each_is_queued_again_alone(sbatch: Submit, stub: str, tmp_path: Path) -> None:
    (tmp_path / "run" / "search").mkdir(parents=True)
    (tmp_path / "run" / "search" / "study.json").touch()
    words = ("run", "--data-dir", "d")
    ended = sbatch("workers.sbatch", *words, options=("--array=0-1",), SE_NAS=stub, STUB_CODES="143,0")
    assert ended.returncode == 0, ended.stderr
    assert [call[0] for call in calls(ended)] == [["worker", *words]] * 4


def test_workers_of_a_run_that_does_not_begin_end_with_one_line(sbatch: Submit, stub: str) -> None:
    ended = sbatch("workers.sbatch", "run", SE_NAS=stub, WAIT_SECONDS="0")
    assert (ended.returncode, calls(ended)) == (2, [])
    (line,) = ended.stderr.splitlines()
    assert line.startswith("workers.sbatch: run: must be the folder of a run whose search has begun, ")


def as_a_task(words: list[str]) -> None:
    """`se-nas WORDS` as srun would start it: its rank by SLURM's names alone."""
    for torchruns, slurms in {"RANK": "PROCID", "WORLD_SIZE": "STEP_NUM_TASKS", "LOCAL_RANK": "LOCALID"}.items():
        os.environ[f"SLURM_{slurms}"] = os.environ.pop(torchruns)
    run_cli(words)


def digits_job(folder: Path, epochs: int) -> list[str]:
    """The words of a short retraining of a small network on digits."""
    network = write_yaml(folder / "one.yaml", {**NETWORK, "resolution": 8, "channels": 1})
    shape = ["--data", "digits", "--epochs", epochs, "--batch-size", 256, "--workers", 0]
    return [str(word) for word in ["retrain", network, *shape, "--device", "cpu", "--quiet"]]


@pytest.mark.slow
def test_tasks_of_srun_train_one_network_together(tmp_path: Path) -> None:
    words = digits_job(tmp_path, epochs=1)
    ended = start_ranks(2, tmp_path / "job", as_a_task, [*words, "--out", str(tmp_path / "out")]).join()
    assert [rank.code for rank in ended] == [0, 0], ended
    assert ended[1].out == ended[1].err == ""
    assert read_json(tmp_path / "out" / "result.json")["retrain"]["epochs"] == 1


@pytest.mark.slow
def test_a_retraining_on_two_ranks_that_nears_its_time_limit_is_queued_again_and_ends_the_same(
    tmp_path: Path, sbatch: Submit
) -> None:
    words = digits_job(tmp_path, epochs=6)
    tasks, se_nas = ("--ntasks-per-node=2",), f"{sys.executable} -m se_nas"
    unbroken = sbatch("job.sbatch", *words, "--out", tmp_path / "unbroken", options=tasks, SE_NAS=se_nas)
    assert unbroken.returncode == 0, unbroken.stderr
    out = tmp_path / "out"
    near = {NEAR_LIMIT: str(out / "checkpoint.pt")}
    ended = sbatch("job.sbatch", *words, "--out", out, options=tasks, SE_NAS=se_nas, **near)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("retrain: stopped by SIGTERM; resume from") == 1
    assert ended.stderr.count("resumed at step") == 1
    assert read_json(out / "history.json") == read_json(tmp_path / "unbroken" / "history.json")


@pytest.mark.slow
def test_a_search_that_nears_its_time_limit_is_queued_again_and_workers_of_an_array_help_with_one(
    tmp_path: Path, sbatch: Submit
) -> None:
    out, se_nas = tmp_path / "out", f"{sys.executable} -m se_nas"
    search = {"strategy": "optuna", "evaluator": "stand_alone", "max_evaluations": 6, "heartbeat_seconds": 1}
    search["stand_alone"] = {"epochs": 2, "batch_size": 20}
    run = changed(changed(changed(RUN, "search", search), "retrain", None), "latency.table", False)
    words = ("search", write_run(tmp_path, run), "--out", out, "--quiet")
    near = {NEAR_LIMIT: str(out / "search" / "study.json"), "SE_NAS_STORAGE": f"sqlite:///{tmp_path / 'a.db'}"}
    ended = sbatch("job.sbatch", *words, SE_NAS=se_nas, **near)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("search: stopped by SIGTERM; resume from") == 1
    assert (out / "report.html").exists()
    storage = {"SE_NAS_STORAGE": near["SE_NAS_STORAGE"]}
    late = sbatch("workers.sbatch", out, "--quiet", options=("--array=0-1",), SE_NAS=se_nas, **storage)
    assert late.returncode == 0, late.stderr  # nothing is left to do
    nowhere = {"SE_NAS_STORAGE": "sqlite:////nowhere/a.db"}
    lost = sbatch("workers.sbatch", out, "--quiet", SE_NAS=se_nas, **nowhere)
    assert lost.returncode == 2
    (line,) = lost.stderr.splitlines()
    assert "the storage must be reachable" in line
