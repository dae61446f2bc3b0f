"""Whole searches on two ranks: a rank that is killed, jobs that cannot be, and what is left to the first rank."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from se_nas.records.run_log import read_log
from tests.helpers.rank_processes import Ended, RankProcesses, run_cli, start_ranks
from tests.helpers.tiny_runs import RUN, cache_latency, changed, numbers, read_json, write_run

#: Of 6 epochs, so that a rank can be killed within.
SEARCH = changed(RUN, "search.epochs", 5)


def search(cache: Path, *words: str) -> None:
    """`se-nas search WORDS` with a latency table that no clock made."""
    os.environ["SE_NAS_CACHE"] = str(cache)
    run_cli(["search", *words, "--quiet"])


def start(folder: Path, out: Path, job: str, *words: str, size: int = 2) -> RankProcesses:
    run_file = str(folder / "run.yaml")
    return start_ranks(size, folder / job, search, folder / "cache", run_file, "--out", str(out), *words)


def place(folder: Path, run: dict[str, Any]) -> Path:
    write_run(folder, run)
    cache_latency(folder / "cache", folder)
    return folder


def epochs_in(out: Path, part: str = "search") -> int:
    log = out / part / "log.jsonl"
    return sum(line["event"] == "epoch" for line in read_log(log)) if log.exists() else 0


def assert_well(ended: list[Ended]) -> None:
    assert [rank.code for rank in ended] == [0] * len(ended), ended
    assert all(rank.out == rank.err == "" for rank in ended[1:]), ended[1:]  # the first speaks for all


@pytest.mark.slow
def test_a_search_of_which_a_rank_is_killed_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    folder = place(tmp_path / "run", SEARCH)
    whole, out = folder / "whole", folder / "out"
    ended = start(folder, whole, "whole.job").join()
    assert_well(ended)
    assert "retrained: " in ended[0].out
    job = start(folder, out, "killed.job")
    assert job.wait_until(lambda: epochs_in(out) >= 2)
    job.send(1, signal.SIGKILL)
    first, second = job.join()
    assert (first.code, second.code) == (2, -signal.SIGKILL)
    (line,) = [line for line in first.err.splitlines() if not line.startswith("search: epoch ")]
    assert line.startswith("error: rank 0 of 2: every rank must stay alive, but contact with another was lost (")
    assert line.endswith("start the job again with --resume")
    assert not (out / "result.json").exists()
    ended = start(folder, out, "resumed.job", "--resume").join()
    assert_well(ended)
    assert numbers(out) == numbers(whole)


REFUSED = [
    ({}, 3, "search: batch_size: must be a multiple of ranks (3) times accumulate (1), but got 20"),
    (
        {"search": {"strategy": "optuna", "evaluator": "stand_alone"}},
        2,
        "search: evaluator: must be one that trains a supernet where 2 ranks share a search, but is stand_alone; "
        "any number of `worker` processes join a search without one",
    ),
    ({"retrain": {"epochs": 1, "batch_size": 5}}, 2, "retrain: batch_size: must be a multiple of ranks (2)"),
    ({"budgets": {"macs": 1}}, 2, "some architecture must keep every budget, but got macs <= 1"),
    ({"space": "none.yaml"}, 2, "none.yaml"),
    ({"epochs": 3}, 2, "epochs"),
]


@pytest.mark.slow  # the first of them is a test of the default suite too
@pytest.mark.parametrize(("changes", "size", "expected"), REFUSED, ids=[str(list(row[0])) for row in REFUSED])
def test_a_job_that_cannot_be_is_one_line_from_the_first_rank(
    tmp_path: Path, changes: dict[str, Any], size: int, expected: str
) -> None:
    folder = place(tmp_path / "run", {**SEARCH, **changes})
    ended = start(folder, folder / "out", "job", size=size).join()
    assert [rank.code for rank in ended] == [2] * size, ended
    (line,) = ended[0].err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert all(rank.err == rank.out == "" for rank in ended[1:])
    assert not (folder / "out").exists()


SUPERNET = {
    "strategy": "optuna",
    "max_evaluations": 8,
    "supernet": {"epochs": 2, "batch_size": 20, "calibration_images": 48},
}


@pytest.mark.slow
def test_ranks_train_the_supernet_of_a_search_by_optuna_and_the_first_evaluates(tmp_path: Path) -> None:
    folder = place(tmp_path / "run", {**RUN, "search": SUPERNET})
    assert_well(start(folder, folder / "two", "two.job").join())
    parts = changed({**RUN, "search": SUPERNET}, "search.supernet.accumulate", 2)
    place(folder, changed(parts, "retrain.accumulate", 2))
    assert_well(start(folder, folder / "one", "one.job", size=1).join())
    one, two = (read_json(folder / out / "search" / "evaluations.json")["evaluations"] for out in ("one", "two"))
    assert [entry["picks"] for entry in two] == [entry["picks"] for entry in one]
    assert [entry["accuracy"] for entry in two] == pytest.approx([entry["accuracy"] for entry in one], abs=1.5 / 40)
    assert epochs_in(folder / "two") == 2
