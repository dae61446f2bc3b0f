"""Functions run in processes of their own, as the ranks of one job or alone; forked from a server that has imported.

A rank is what torchrun would start: the same variables in its environment, and gloo between the processes.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from se_nas.layers.torchvision_guard import import_timm

import_timm()  # here, so that the server has it too

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([__name__, "tests.helpers.tiny_imagenet", "se_nas.cli.main", "pytest"])


@dataclass(frozen=True)
class Ended:
    """What is left of a rank.

    Attributes:
        code: exit code; minus the signal that killed it.
        value: what the function returned; None where it did not.
    """

    code: int
    out: str
    err: str
    value: Any


@dataclass
class RankProcesses:
    """The processes of one job."""

    folder: Path
    members: list[ForkServerProcess] = field(default_factory=list)

    def alive(self) -> bool:
        return any(member.is_alive() for member in self.members)

    def send(self, rank: int, number: signal.Signals) -> None:
        """A signal to one rank."""
        pid = self.members[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def wait_until(self, due: Callable[[], bool]) -> bool:
        """Wait for `due()`; False where all processes end before."""
        limit = time.monotonic() + 240
        while self.alive():
            if due():
                return True
            assert time.monotonic() < limit, f"no progress: {self._said()}"
            time.sleep(0.002)
        return False

    def join(self, timeout: float = 240) -> list[Ended]:
        """Wait for the end of all; one that does not end is killed and fails the test."""
        limit = time.monotonic() + timeout
        for member in self.members:
            member.join(max(0.0, limit - time.monotonic()))
        hanging = [rank for rank, member in enumerate(self.members) if member.is_alive()]
        for rank in hanging:
            self.members[rank].kill()
            self.members[rank].join()
        assert not hanging, f"rank {hanging} did not end in {timeout} s: {self._said()}"
        return [self._ended(rank, member.exitcode or 0) for rank, member in enumerate(self.members)]

    def _ended(self, rank: int, code: int) -> Ended:
        value = self.folder / f"{rank}.value"
        found = pickle.loads(value.read_bytes()) if value.exists() else None
        out, err = ((self.folder / f"{rank}.{kind}").read_text() for kind in ("out", "err"))
        return Ended(code, out, err, found)

    def _said(self) -> list[str]:
        return [(self.folder / f"{rank}.err").read_text() for rank in range(len(self.members))]


def start_ranks(
    size: int, folder: Path, function: Callable[..., Any], *arguments: Any, store_port: int | None = None
) -> RankProcesses:
    """Start `function(*arguments)` on each of `size` ranks; with one, as a process that knows of no ranks.

    Args:
        folder: for what they print and return; a new one each time.
        store_port: of a store that is there already, as torchrun's agent has one; by default rank 0 makes it.
    """
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store_port or probe.getsockname()[1]}
    if store_port is not None:
        address["TORCHELASTIC_USE_AGENT_STORE"] = True
    job = RankProcesses(folder)
    for rank in range(size):
        member = processes.Process(target=_be_rank, args=(rank, size, address, folder, function, arguments))
        member.start()
        job.members.append(member)
    return job


def on_ranks(size: int, folder: Path, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(*arguments)` returns on each of `size` ranks, all of which must end well."""
    ended = start_ranks(size, folder, function, *arguments).join()
    assert [rank.code for rank in ended] == [0] * size, [rank.err for rank in ended]
    return [rank.value for rank in ended]


def run_cli(words: list[str]) -> None:
    """`se-nas WORDS` in this process."""
    from se_nas.cli import main as cli

    sys.argv = ["se-nas", *words]
    cli.main()


def _await_others(folder: Path, rank: int, size: int) -> None:
    """Begin together, as on a busy machine a job of little patience would not survive that one is started late."""
    (folder / f"{rank}.here").touch()
    while not all((folder / f"{other}.here").exists() for other in range(size)):
        time.sleep(0.002)


def _be_rank(
    rank: int,
    size: int,
    address: dict[str, Any],
    folder: Path,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    for stream, kind in ((1, "out"), (2, "err")):
        file = os.open(folder / f"{rank}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, stream)
        os.close(file)
    if size > 1:
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, **address}.items():
            os.environ[name] = str(value)
    torch.set_num_threads(1)
    _await_others(folder, rank, size)
    value = function(*arguments)
    (folder / f"{rank}.value").write_bytes(pickle.dumps(value))
