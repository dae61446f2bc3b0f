from __future__ import annotations

import datetime
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from se_nas.errors import DataError, DeviceError, TrainingError
from se_nas.hardware import distributed
from se_nas.hardware.distributed import Ranks, join_ranks
from se_nas.hardware.rank import rank_of_environment
from tests.helpers.rank_processes import on_ranks, start_ranks

CPU = torch.device("cpu")
SIZE = 3


# --- alone --------------------------------------------------------------------------------------


def test_without_torchrun_a_process_is_alone_and_everything_is_its_own() -> None:
    with join_ranks(CPU) as (ranks, device):
        assert device == CPU
        assert not dist.is_initialized()
    assert (ranks.rank, ranks.size, ranks.first) == (0, 1, True)
    assert ranks.mean([1.0, 2.0]) == ranks.sum([1.0, 2.0]) == [1.0, 2.0]
    assert ranks.greatest(3) == ranks.from_first(3) == 3
    assert ranks.gathered("a") == ["a"]
    module, tensor = nn.Linear(2, 2), torch.ones(2)
    assert ranks.wrapped(module, CPU) is module
    ranks.average_([tensor])
    assert tensor.tolist() == [1.0, 1.0]


def test_alone_errors_come_through_as_they_are() -> None:
    ranks = Ranks()
    with pytest.raises(DataError, match=r"^no images$"), ranks.together():
        raise DataError("no images")
    with pytest.raises(RuntimeError, match=r"^Connection closed by peer$"), ranks.losing_none():
        raise RuntimeError("Connection closed by peer")  # of a database, say


def test_the_rank_is_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert rank_of_environment() == 0
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "6")
    assert rank_of_environment() == 5


def test_a_job_remembers_that_it_had_begun() -> None:
    alone = Ranks()
    alone.mark_begun()
    assert not alone.was_begun()
    store = torch.distributed.HashStore()
    first, again = Ranks(0, 2, job=store), Ranks(0, 2, job=store)
    assert not again.was_begun()
    first.mark_begun()
    assert again.was_begun()


def test_more_local_ranks_than_devices_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"RANK": 10, "WORLD_SIZE": 12, "LOCAL_RANK": 2}.items():
        monkeypatch.setenv(name, str(value))
    cuda = torch.device("cuda")
    with pytest.raises(DeviceError, match="must have a CUDA device of its own, but rank 2 finds 2"), join_ranks(cuda):
        pass


# --- several ------------------------------------------------------------------------------------


def exchange() -> dict[str, Any]:
    """Every exchange of values, with ones that differ from rank to rank."""
    with join_ranks(CPU) as (ranks, _):
        rank = ranks.rank
        floats = [torch.full((2, 3), float(rank)), torch.tensor(10.0 * rank)]
        number = torch.tensor(7 + rank)
        ranks.average_([*floats, number])
        ranks.average_([number])  # nothing to average
        return {
            "who": (ranks.rank, ranks.size, ranks.first),
            "mean": ranks.mean([rank, 1.0]),
            "mean of nan": ranks.mean([math.nan if rank == 1 else 1.0, 2.0]),
            "sum": ranks.sum([rank, 0.1]),
            "greatest": ranks.greatest(rank * (-1) ** rank),
            "from first": ranks.from_first({"rank": rank, "none": None}),
            "gathered": ranks.gathered((rank, "x" * rank)),
            "averaged": [tensor.tolist() for tensor in floats],
            "number": number.item(),
        }


def test_three_ranks_agree_on_what_they_exchange(tmp_path: Path) -> None:
    found = on_ranks(SIZE, tmp_path / "job", exchange)
    assert [value["who"] for value in found] == [(0, 3, True), (1, 3, False), (2, 3, False)]
    for value in found:
        assert value["mean"] == [1.0, 1.0]
        assert math.isnan(value["mean of nan"][0])
        assert value["mean of nan"][1] == 2.0
        assert value["sum"] == pytest.approx([3.0, 0.3], abs=1e-12)
        assert value["greatest"] == 2
        assert value["from first"] == {"rank": 0, "none": None}
        assert value["gathered"] == [(0, ""), (1, "x"), (2, "xx")]
        assert value["averaged"] == [[[1.0] * 3] * 2, 10.0]
    assert [value["number"] for value in found] == [7, 8, 9]  # integers are left alone


def gradients_of_some() -> list[list[float] | None]:
    """Of four weights: one that every rank used, one that two did, one that the last did, one that none did."""
    with join_ranks(CPU) as (ranks, _):
        weights = [nn.Parameter(torch.zeros(2)) for _ in range(4)]
        for weight, users in zip(weights, [(0, 1, 2), (0, 1), (2,), ()], strict=True):
            if ranks.rank in users:
                weight.grad = torch.tensor([3.0, 3.0 * ranks.rank])
        ranks.average_gradients_(weights)
        return [None if weight.grad is None else weight.grad.tolist() for weight in weights]


def test_gradients_that_some_ranks_have_are_averaged_and_those_of_none_stay_none(tmp_path: Path) -> None:
    expected = [[3.0, 3.0], [2.0, 1.0], [1.0, 2.0], None]
    assert on_ranks(SIZE, tmp_path / "job", gradients_of_some) == [expected] * SIZE


def copied() -> list[Any]:
    with join_ranks(CPU) as (ranks, _):
        tensors = [torch.full((2,), float(ranks.rank + 1)), torch.tensor(10.0 + ranks.rank), torch.tensor(ranks.rank)]
        ranks.copy_first_(tensors)
        return [tensor.tolist() for tensor in tensors]


def test_all_take_over_the_tensors_of_the_first_rank(tmp_path: Path) -> None:
    assert on_ranks(2, tmp_path / "job", copied) == [[[1.0, 1.0], 10.0, 0], [[1.0, 1.0], 10.0, 1]]


def test_gradients_are_averaged_and_running_statistics_are_left_to_each_rank(tmp_path: Path) -> None:
    found = on_ranks(SIZE, tmp_path / "job", statistics_and_gradient)
    assert [value["bias"] for value in found] == pytest.approx([2.0] * SIZE)
    assert [value["running_mean"] for value in found] == pytest.approx([0.1, 0.2, 0.3])


def statistics_and_gradient() -> dict[str, float]:
    """A gradient and a mean of the inputs that are both the rank's number, from 1."""
    with join_ranks(CPU) as (ranks, _):
        module = nn.Sequential(nn.BatchNorm1d(1, affine=False), nn.Linear(1, 1))
        number = float(ranks.rank + 1)
        wrapped = ranks.wrapped(module, CPU)
        output = wrapped(torch.tensor([[0.0], [2 * number]]))
        (number * output[0, 0]).backward()
        return {"bias": module[1].bias.grad.item(), "running_mean": module[0].running_mean.item()}


# --- errors -------------------------------------------------------------------------------------


def prepare(failing: tuple[int, ...]) -> str:
    """What the command line does with an error of some ranks while all prepare."""
    with join_ranks(CPU) as (ranks, _):
        try:
            with ranks.together():
                if ranks.rank in failing:
                    raise DataError(f"image {ranks.rank} is damaged")
        except DataError as error:
            return f"own: {error}"
        except TrainingError as error:
            return f"another's: {error}"
        except SystemExit as error:
            return f"exit {error.code}"
    return "well"


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        ((), ["well", "well", "well"]),
        ((1,), ["another's: rank 1: image 1 is damaged", "exit 2", "exit 2"]),
        ((1, 2), ["another's: rank 1: image 1 is damaged", "exit 2", "exit 2"]),
        ((0,), ["own: image 0 is damaged", "exit 2", "exit 2"]),
        ((0, 1, 2), ["own: image 0 is damaged", "exit 2", "exit 2"]),
    ],
)
def test_an_error_of_any_rank_ends_all_and_the_first_tells_it(
    tmp_path: Path, failing: tuple[int, ...], expected: list[str]
) -> None:
    assert on_ranks(SIZE, tmp_path / "job", prepare, failing) == expected


def by_first(fails: bool) -> str:
    """What ranks come to of which the first works alone for longer than a collective may take."""
    with join_ranks(CPU) as (ranks, _):

        def work() -> str:
            assert ranks.first
            time.sleep(1.5)
            if fails:
                raise DataError("no images")
            return "done"

        try:
            return str(ranks.by_first(work))
        except DataError as error:
            return str(error)
        except SystemExit as error:
            return f"exit {error.code}"


@pytest.mark.parametrize(("fails", "expected"), [(False, ["done", "None"]), (True, ["no images", "exit 2"])])
def test_the_others_wait_for_what_the_first_does_alone_and_for_its_error(
    tmp_path: Path, fails: bool, expected: list[str]
) -> None:
    assert on_ranks(2, tmp_path / "job", within_seconds, 1.0, by_first, fails) == expected


def within_seconds(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """A job of which no rank may keep the others waiting for longer."""
    distributed._TIMEOUT = datetime.timedelta(seconds=seconds)
    return function(*arguments)


def hang(hanging: int) -> str:
    text = ""
    try:
        with join_ranks(CPU) as (ranks, _):
            ranks.sum([1.0])
            if ranks.rank == hanging:
                time.sleep(60)
            ranks.average_([torch.ones(1000)])
    except TrainingError as error:
        text = str(error)
    os._exit(0 if "\n" not in text and _told(int(os.environ["RANK"]), text) else 3)


def test_a_rank_that_hangs_is_a_clear_error_on_the_other(tmp_path: Path) -> None:
    job = start_ranks(2, tmp_path / "job", within_seconds, 2.0, hang, 1)
    assert job.wait_until(lambda: not job.members[0].is_alive())
    job.send(1, signal.SIGKILL)
    ended = job.join()
    assert [rank.code for rank in ended] == [0, -signal.SIGKILL], ended


def lose_one(lost: int) -> str:
    with join_ranks(CPU) as (ranks, _):
        ranks.sum([1.0])
        try:
            with ranks.losing_none():
                if ranks.rank == lost:
                    os.kill(os.getpid(), signal.SIGKILL)
                while True:
                    ranks.average_([torch.ones(1000)])
                    time.sleep(0.01)
        except TrainingError as error:
            text = str(error)
        os._exit(0 if "\n" not in text and _told(ranks.rank, text) else 3)


def _told(rank: int, text: str) -> bool:
    return text.startswith(f"rank {rank} of 2: every rank must stay alive, but contact") and text.endswith("--resume")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_dies_is_a_clear_error_on_the_other(tmp_path: Path, lost: int) -> None:
    ended = start_ranks(2, tmp_path / "job", lose_one, lost).join(30)
    assert [rank.code for rank in ended] == [-signal.SIGKILL if rank == lost else 0 for rank in (0, 1)], ended


def meet(late: int) -> list[int]:
    """The ranks that meet, though `late` comes half a second after the others."""
    if os.environ["RANK"] == str(late):
        time.sleep(0.5)
    with join_ranks(CPU) as (ranks, _):
        found: list[int] = ranks.gathered(ranks.rank)
    return found


@pytest.mark.parametrize("late", [0, 1])
def test_a_job_that_is_started_again_meets_in_the_store_of_the_dead_one(tmp_path: Path, late: int) -> None:
    """torchrun's store still has the addresses of the processes before."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for start in range(2):
        job = start_ranks(SIZE, tmp_path / f"job{start}", meet, late, store_port=store.port)
        ended = job.join()
        assert [rank.code for rank in ended] == [0] * SIZE, ended
        assert [rank.value for rank in ended] == [[0, 1, 2]] * SIZE


def test_ranks_that_cannot_meet_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    expected = r"the ranks of a job must be able to meet, . by WORLD_SIZE, but got: .*MASTER_"
    with pytest.raises(TrainingError, match=expected) as caught, join_ranks(CPU):
        pass
    assert "\n" not in str(caught.value)


def fault_of_ones_own() -> str:
    found = ""
    with join_ranks(CPU) as (ranks, _):
        try:
            with ranks.losing_none():
                torch.ones(2) @ torch.ones(3)
        except RuntimeError as error:
            found = type(error).__name__
        ranks.gathered(found)  # the first one takes the store along, which another may still need to join
    return found


def test_other_faults_are_not_taken_for_a_lost_rank(tmp_path: Path) -> None:
    assert on_ranks(2, tmp_path / "job", fault_of_ones_own) == ["RuntimeError"] * 2
