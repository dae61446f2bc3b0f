"""What tests of a live NNI manager share: waiting, ports, processes, and an SSH server on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from se_nas.nni_bridge.experiment import processes


def until(true: Callable[[], object], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def free_port() -> int:
    """A free port whose next one is free too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def listening(port: int) -> set[str]:
    """The addresses that something listens on at the port, as the kernel says."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            address, number = line.split()[1].split(":")
            if line.split()[3] == "0A" and int(number, 16) == port:
                found.add(".".join(str(byte) for byte in reversed(bytes.fromhex(address))))
    return found


def left(folder: Path, experiment: str) -> list[list[str]]:
    """The commands of the experiment's processes."""
    return [list(process.command) for process in of_experiment(folder, experiment)]


def of_experiment(folder: Path, experiment: str) -> list[processes.Listed]:
    """The experiment's processes."""
    return processes.select(
        processes.listing(), processes.owner(experiment, (folder / "nni").resolve(), made_here=True)
    )


def kill_tuner(manager: int) -> None:
    """Kill -9 the tuner of a manager: the Python, which is a child of the shell that NNI starts."""
    import psutil

    for process in psutil.Process(manager).children(recursive=True):
        if "--exp_params" in process.cmdline():
            process.kill()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def ssh_server(place: Path, **environment: str) -> Iterator[int]:
    """The port of an SSH server of this user on loopback, which takes the key `place/key`; skips where there is none.

    Args:
        environment: variables of its sessions, whose home folder is `place/remote`.
    """
    server = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if server is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd and ssh-keygen to reach this machine by SSH with")
    for name in ("key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / name], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(parents=True, exist_ok=True)  # where sshd of root insists on dropping its rights
    port = free_port()
    # NNI writes to the home folder there, and installs itself with pip before anything else
    variables = {"HOME": str(place / "remote"), "PIP_NO_INDEX": "1", **environment}
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": place / "host_key",
        "AuthorizedKeysFile": place / "key.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "Subsystem": "sftp internal-sftp",
        "SetEnv": " ".join(f"{name}={value}" for name, value in variables.items()),
    }
    (place / "remote").mkdir()
    (place / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    log = place / "sshd.log"
    with subprocess.Popen([server, "-D", "-f", place / "sshd_config", "-E", log]) as running:
        try:
            until(lambda: running.poll() is not None or answers(port))
            if running.poll() is not None:
                pytest.skip(f"sshd does not run here: {log.read_text()}")
            yield port
        finally:
            running.terminate()


def this_machine(place: Path, ssh_port: int) -> dict[str, Any]:
    """An entry of NNI's `machine_list` that `ssh_server` answers."""
    return {
        "host": "127.0.0.1",
        "port": ssh_port,
        "user": os.environ.get("USER", "root"),
        "ssh_key_file": str(place / "key"),
        "python_path": str(Path(sys.executable).parent),
    }
