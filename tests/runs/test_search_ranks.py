"""Whole searches on two ranks: bad clusters, jobs that cannot be, and what is left to the first rank."""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from se_nas.hardware import distributed
from se_nas.records.run_log import read_log
from tests.helpers.rank_processes import Ended, RankProcesses, run_cli, start_ranks
from tests.helpers.tiny_imagenet import write_images
from tests.helpers.tiny_runs import RUN, cache_latency, changed, numbers, read_json, write_run

#: Of 6 epochs, so that a rank can be killed within.
SEARCH = changed(RUN, "search.epochs", 5)


@dataclass(frozen=True)
class Cluster:
    """What ranks find.

    Attributes:
        patience: seconds that they wait for each other.
        world_size: how many ranks they are told that there are, where it is not how many there are.
        room: bytes that a file of the first rank may have.
    """

    patience: float = 60
    world_size: int | None = None
    room: int | None = None


def search(cache: Path, cluster: Cluster, *words: str) -> None:
    """`se-nas search WORDS` with a latency table that no clock made."""
    os.environ["SE_NAS_CACHE"] = str(cache)
    distributed._TIMEOUT = timedelta(seconds=cluster.patience)
    if cluster.world_size is not None:
        os.environ["WORLD_SIZE"] = str(cluster.world_size)
    if cluster.room is not None and os.environ["RANK"] == "0":
        resource.setrlimit(resource.RLIMIT_FSIZE, (cluster.room, resource.RLIM_INFINITY))
    run_cli(["search", *words, "--quiet"])


def start(folder: Path, out: Path, job: str, *words: str, size: int = 2, cluster: Cluster = Cluster()) -> RankProcesses:
    run_file = str(folder / "run.yaml")
    return start_ranks(size, folder / job, search, folder / "cache", cluster, run_file, "--out", str(out), *words)


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return place(tmp_path_factory.mktemp("run"), SEARCH)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """The folder of the search that nothing stops."""
    ended = start(folder, folder / "whole", "whole.job").join()
    assert_well(ended)
    assert "retrained: " in ended[0].out
    return folder / "whole"


def told(rank: Ended) -> str:
    """The one line of a rank beside those of its epochs."""
    (line,) = [line for line in rank.err.splitlines() if not line.startswith("search: epoch ")]
    return line


def assert_resumes(folder: Path, out: Path, whole: Path) -> None:
    assert not (out / "result.json").exists()
    assert_well(start(folder, out, f"{out.name}.resumed.job", "--resume").join())
    assert numbers(out) == numbers(whole)


@pytest.mark.slow
def test_a_search_of_which_a_rank_is_killed_resumes_to_the_same_numbers(folder: Path, whole: Path) -> None:
    out = folder / "killed"
    job = start(folder, out, "killed.job")
    assert job.wait_until(lambda: epochs_in(out) >= 2)
    job.send(1, signal.SIGKILL)
    first, second = job.join()
    assert (first.code, second.code) == (2, -signal.SIGKILL)
    assert told(first).startswith("error: rank 0 of 2: every rank must stay alive, but contact with another was lost (")
    assert told(first).endswith("start the job again with --resume")
    assert_resumes(folder, out, whole)


@pytest.mark.slow
def test_a_search_of_which_a_rank_hangs_ends_after_its_patience_and_resumes(folder: Path, whole: Path) -> None:
    out = folder / "hanging"
    job = start(folder, out, "hanging.job", cluster=Cluster(patience=5))
    assert job.wait_until(lambda: epochs_in(out) >= 2)
    job.send(1, signal.SIGSTOP)
    assert job.members[0].exitcode is None
    job.members[0].join(60)
    job.send(1, signal.SIGKILL)
    first, _ = job.join()
    assert first.code == 2
    assert told(first).startswith("error: rank 0 of 2: every rank must stay alive, but contact with another was lost (")
    assert "imed out" in told(first)
    assert_resumes(folder, out, whole)


@pytest.mark.slow
def test_a_search_whose_first_rank_finds_no_room_on_its_disk_says_so_and_resumes(folder: Path, whole: Path) -> None:
    out = folder / "full"
    checkpoint = (whole / "search" / "checkpoint.pt").stat().st_size
    first, second = start(folder, out, "full.job", cluster=Cluster(room=checkpoint - 1)).join()
    assert (first.code, second.code) == (2, 2)
    assert told(first).startswith("error: ")
    assert "checkpoint.pt" in told(first)
    assert told(second).startswith("rank 1: error: rank 1 of 2: every rank must stay alive")
    assert_resumes(folder, out, whole)


@pytest.mark.slow
def test_ranks_that_are_told_of_one_more_say_that_it_is_missing(folder: Path) -> None:
    out = folder / "more"
    ended = start(folder, out, "more.job", cluster=Cluster(patience=3, world_size=3)).join()
    assert [rank.code for rank in ended] == [2, 2]
    must = "error: the ranks of a job must be able to meet, 3 by WORLD_SIZE, but got: "
    assert told(ended[0]).startswith(must)
    assert ended[1].err.splitlines()[-1].startswith(f"rank 1: {must}")  # torch may warn of the other's end before
    assert not out.exists()


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


ON_DISK: dict[str, Any] = {
    **RUN,
    "data": {"name": "imagenet", "dir": "images", "workers": 0},
    "budgets": {"macs": "90k"},
    "latency": {"table": False},
    "search": {"pretrain_epochs": 1, "epochs": 1, "batch_size": 8, "calibration_images": 16},
    "retrain": {"epochs": 1, "batch_size": 8, "crop": "random_size"},
}


@pytest.mark.slow
def test_ranks_search_images_on_disk_and_retrain_the_answer_as_one_that_takes_as_many_parts(tmp_path: Path) -> None:
    folder = place(tmp_path / "run", ON_DISK)
    write_images(folder / "images", train=12)
    assert [rank.code for rank in start(folder, folder / "two", "two.job").join()] == [0, 0]
    parts = changed(ON_DISK, "search.accumulate", 2)
    place(folder, changed(parts, "retrain.accumulate", 2))
    assert_well(start(folder, folder / "one", "one.job", size=1).join())
    one, two = (read_json(folder / out / "result.json") for out in ("one", "two"))
    assert two["retrain"]["test_images"] == 12
    assert two["retrain"]["images"] == one["retrain"]["images"] == 48
    assert read_json(folder / "two" / "retrain" / "result.json")["ledger"]["ranks"] == 2
    one, two = (read_json(folder / out / "architecture.json") for out in ("one", "two"))
    assert two == one


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
