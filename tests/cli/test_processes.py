"""Commands that several processes of a job run: most are refused, as each would do the same work in one folder."""

from __future__ import annotations

import atexit
import os
import socket
import sys
from pathlib import Path

import pytest

from se_nas.cli import main as cli
from se_nas.hardware.rank import check_processes, check_rank

VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"),
    *("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_GPUS_PER_TASK"),
    *("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE", "PMI_RANK"),
)

TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2"}
OTHER = {"SLURM_PROCID": "1"}
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
MPIRUN = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}

FOR_ONE = [
    ["decode", "digits", "--budget", "macs=1M"],
    ["launch", "digits_nni"],
    ["resume", "digits_nni"],
    ["view", "digits_nni"],
    ["stop", "digits_nni"],
    ["export", "digits/retrain"],
    ["report", "digits"],
    ["evidence", "digits"],
    ["excitation", "digits"],
    ["latency", "mbconv_digits"],
    ["init", "copies"],
    ["space", "sweep", "mbconv_digits", "--set", "se=none,4"],
    ["data", "shard", "images", "shards"],
]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, of no job."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def run(monkeypatch: pytest.MonkeyPatch, words: list[str], variables: dict[str, str]) -> int:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["se-nas", *words])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    return int(exit.value.code or 0)


@pytest.mark.parametrize(("variables", "starter"), [(TORCHRUN, "torchrun started 2"), (SRUN, "srun started 4")])
@pytest.mark.parametrize("words", FOR_ONE, ids=[" ".join(words[:2]) for words in FOR_ONE])
def test_a_command_for_one_process_is_refused_where_a_job_starts_several_and_names_what_is_not(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: list[str],
    variables: dict[str, str],
    starter: str,
) -> None:
    assert run(monkeypatch, words, variables) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "must be run by one process, but " + starter in line
    assert "`search`, `retrain` and `evaluate` share their work where torchrun or srun starts them" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variables", [{**TORCHRUN, "RANK": "1"}, {**SRUN, "SLURM_PROCID": "3"}])
def test_the_other_processes_of_the_job_say_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str]
) -> None:
    assert run(monkeypatch, ["report", "digits"], variables) == 2
    assert capsys.readouterr().err == ""


def test_ranks_that_do_not_know_of_each_other_train_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, ["retrain", "a.json"], MPIRUN) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: retrain: must be run under torchrun or srun, which tell the processes their ranks, ")


PLACE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
TASK = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", **PLACE}


@pytest.mark.parametrize(
    ("variables", "local"), [(TASK, "1"), ({**TASK, "SLURM_GPUS_PER_TASK": "1"}, "0")], ids=["shared", "own devices"]
)
def test_a_task_of_srun_is_a_rank_by_torchruns_names(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], local: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that they are as they were afterwards
        monkeypatch.delenv(name)
    check_rank()
    check_processes("retrain", "ranks")
    assert [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")] == ["3", "4", local]
    check_rank()  # as another command of the same process would


def test_torchrun_on_each_machine_of_srun_counts_the_ranks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = {"RANK": "5", "WORLD_SIZE": "32", "LOCAL_RANK": "5", "TORCHELASTIC_RUN_ID": "a"}
    for name, value in {**SRUN, **ranks, **PLACE}.items():
        monkeypatch.setenv(name, value)
    check_rank()
    check_processes("retrain", "ranks")
    assert {name: os.environ[name] for name in ranks} == ranks


PLACES: list[tuple[dict[str, str], list[str]]] = [
    ({"MASTER_PORT": "29500"}, ["MASTER_ADDR: must be the machine of the first rank (`scontrol show hostnames"]),
    (
        {"MASTER_ADDR": "127.0.0.1"},
        ["MASTER_PORT: must be a free port of the first rank's machine, the same for all, "],
    ),
    (
        {**PLACE, "MASTER_PORT": "0"},
        ["MASTER_PORT: must be a free port of the first rank's machine, the same for all, "],
    ),
    ({}, ["MASTER_ADDR: must be", "MASTER_PORT: must be"]),
    ({**PLACE, "MASTER_ADDR": "no.such.invalid"}, ["MASTER_ADDR: must be a machine that "]),
]


@pytest.mark.parametrize("starter", [SRUN, {**TORCHRUN, "LOCAL_RANK": "0"}], ids=["srun", "torchrun"])
@pytest.mark.parametrize(
    ("place", "expected"), PLACES, ids=[" ".join(words)[:11] + str(list(p)) for p, words in PLACES]
)
def test_a_job_whose_ranks_cannot_meet_says_so_at_once(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    starter: dict[str, str],
    place: dict[str, str],
    expected: list[str],
) -> None:
    def unknown(name: str, *_: object) -> object:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert run(monkeypatch, ["retrain", "a.json"], {**starter, **place}) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(expected)
    for line, words in zip(lines, expected, strict=True):
        assert f"error: environment: {words}" in line
    assert run(monkeypatch, ["retrain", "a.json"], {**starter, **place, "RANK": "1", "LOCAL_RANK": "1", **OTHER}) == 2
    assert capsys.readouterr().err == ""


ALONE: list[dict[str, str]] = [
    {},
    {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"},  # a batch script, which is one process whatever it asks for
    {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"},
    {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"},
]


@pytest.mark.parametrize("variables", ALONE, ids=map(str, ALONE))
def test_a_job_of_one_process_runs_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str]
) -> None:
    assert run(monkeypatch, ["init", "copies"], variables) == 0
    assert "copied:" in capsys.readouterr().out


def test_what_writes_nothing_and_workers_may_run_in_any_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, ["worker", "nothing", "--storage", "sqlite:///a.db"], SRUN) == 2
    assert run(monkeypatch, ["version"], {**TORCHRUN, "WORLD_SIZE": "4"}) == 0
    assert "nothing: must be the folder of a run" in capsys.readouterr().err


FAULTS: list[tuple[dict[str, str], str]] = [
    ({"RANK": "a", "WORLD_SIZE": "2"}, "RANK: must be a whole number from 0 on, as torchrun sets it, but got 'a'"),
    (
        {"RANK": "0", "WORLD_SIZE": "b"},
        "WORLD_SIZE: must be a whole number from 1 on, as torchrun sets it, but got 'b'",
    ),
    ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK: must be a whole number from 0 on, as torchrun sets it, but got '-1'"),
    (
        {"RANK": "0", "WORLD_SIZE": "0"},
        "WORLD_SIZE: must be a whole number from 1 on, as torchrun sets it, but got '0'",
    ),
    (
        {"RANK": "2", "WORLD_SIZE": "2"},
        "RANK: must be a whole number below WORLD_SIZE, as torchrun sets both, but got '2' of '2'",
    ),
    (
        {"SLURM_STEP_NUM_TASKS": "4"},
        "SLURM_PROCID: must be a whole number below SLURM_STEP_NUM_TASKS, as srun sets both, but got '' of '4'",
    ),
    (
        {**SRUN, "SLURM_PROCID": "4"},
        "SLURM_PROCID: must be a whole number below SLURM_STEP_NUM_TASKS, as srun sets both, but got '4' of '4'",
    ),
    (
        {**SRUN, "RANK": "0", "WORLD_SIZE": "2"},
        "WORLD_SIZE: must be SLURM_STEP_NUM_TASKS, 4, in a task of srun, but is 2; leave it unset",
    ),
    (
        {**SRUN, "SLURM_PROCID": "3", "RANK": "0", "WORLD_SIZE": "4"},
        "RANK: must be SLURM_PROCID, 3, in a task of srun, but is 0; leave it unset",
    ),
    ({"RANK": "1"}, "WORLD_SIZE: must be set where RANK is, as torchrun sets both, but is not"),
    ({"WORLD_SIZE": "2"}, "RANK: must be set where WORLD_SIZE is, as torchrun sets both, but is not"),
    ({**TORCHRUN, "LOCAL_RANK": ""}, "LOCAL_RANK: must be a whole number from 0 on, as torchrun sets it, but got ''"),
]


@pytest.mark.parametrize(("variables", "expected"), FAULTS, ids=[expected[:30] for _, expected in FAULTS])
def test_a_rank_that_is_none_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str], expected: str
) -> None:
    assert run(monkeypatch, ["version"], variables) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"error: environment: {expected}" in line


def test_a_rank_s_process_ends_before_the_interpreter_that_threads_of_gloo_still_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[object] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: ended.append("functions of atexit"))
    monkeypatch.setattr(cli, "main", lambda: sys.exit(143))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(SystemExit):
        cli.run()
    assert ended == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        cli.run()
    assert ended == ["functions of atexit", 143]
