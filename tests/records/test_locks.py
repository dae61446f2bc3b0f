"""Locks: one holder at a time, let go of at the end, after a fault, and by a process that dies."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from se_nas.errors import OutputError
from se_nas.records.locks import holder, locked

HOLD = """
import sys, time
from pathlib import Path
from se_nas.records.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "x.lock"
    with locked(path, wait=False) as first, locked(path, wait=False) as second, locked(path, wait=False) as third:
        assert (first, second, third) == (True, False, False)
        with locked(tmp_path / "other.lock", wait=False) as other:
            assert other
    assert not list(tmp_path.rglob("*.lock"))
    with locked(path, wait=False) as again:
        assert again


def test_a_fault_inside_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "x.lock"):
        raise ZeroDivisionError
    with locked(tmp_path / "x.lock", wait=False) as held:
        assert held


def test_whoever_was_refused_does_not_let_go_of_it(tmp_path: Path) -> None:
    with locked(tmp_path / "x.lock"):
        for _ in range(2):
            with locked(tmp_path / "x.lock", wait=False) as held:
                assert not held


def test_many_that_wait_go_in_one_by_one(tmp_path: Path) -> None:
    inside, seen = 0, []

    def work() -> None:
        nonlocal inside
        for _ in range(20):
            with locked(tmp_path / "x.lock"):  # each removes the file, so that the next one locks a new one
                inside += 1
                seen.append(inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 80


def test_a_process_that_dies_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with locked(path, wait=False) as held:
            assert not held
        process.kill()
    with locked(path) as held:
        assert held


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = pytest.raises(OutputError, match=r"file: the folder must be writable, but got: ")
    with told as caught, locked(tmp_path / "file" / "x.lock"):
        raise AssertionError
    assert "\n" not in str(caught.value)


def test_whoever_is_refused_can_say_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with locked(path, wait=False):
            assert holder(path) == f"process {process.pid} on {socket.gethostname()}"
        process.kill()


FORK = """
import os, sys, time
from pathlib import Path
from se_nas.records.locks import locked
with locked(Path(sys.argv[1])):
    if not os.fork():
        print("forked", flush=True)
        sys.stdin.read()
        os._exit(0)
    time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_dies_lets_go_though_one_that_it_forked_lives_on(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with subprocess.Popen(
        [sys.executable, "-c", FORK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "forked\n"
        process.kill()
        process.wait()
        with locked(path, wait=False) as held:  # the forked one ends when its standard input does
            assert held


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("content")
    (tmp_path / "x.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="must be writable"), locked(tmp_path / "x.lock"):
        raise AssertionError
    assert (tmp_path / "precious").read_text() == "content"
