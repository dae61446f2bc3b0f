"""Commands that several processes of a job run: most are refused, as each would do the same work in one folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from se_nas.cli import main as cli

VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    *("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE", "PMI_RANK"),
)

TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2"}
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
MPIRUN = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}

FOR_ONE = [
    ["search", "digits"],
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
    assert "`retrain` and `evaluate` share their work where torchrun starts them" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variables", [{**TORCHRUN, "RANK": "1"}, {**SRUN, "SLURM_PROCID": "3"}])
def test_the_other_processes_of_the_job_say_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str]
) -> None:
    assert run(monkeypatch, ["search", "digits"], variables) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("variables", [SRUN, MPIRUN])
def test_ranks_that_do_not_know_of_each_other_train_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str]
) -> None:
    assert run(monkeypatch, ["retrain", "a.json"], variables) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: retrain: must be run under torchrun, which tells the processes of each other, but ")


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
    assert run(monkeypatch, ["version"], TORCHRUN) == 0
    assert run(monkeypatch, ["worker", "nothing", "--storage", "sqlite:///a.db"], SRUN) == 2
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
    ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK: must be below WORLD_SIZE (2), but got 2"),
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
