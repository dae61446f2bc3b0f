"""examples/time_over_ssh.py times a network as the program of a latency runtime, over ssh to this machine."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.timing import measure_network
from se_nas.errors import DeviceError
from tests.cost.latency.runtimes.networks import NETWORK

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "time_over_ssh.py"

pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SE_NAS_CACHE", str(tmp_path / "cache"))


def key(ssh: str, host: str = "localhost") -> LatencyKey:
    words = f"--model {{onnx}} --runs {{runs}} --python {sys.executable} --ssh '{ssh}'"
    return LatencyKey("board", "command", program=f"{sys.executable} {SCRIPT} {host} {words}", retries=0, timeout=60)


def test_a_network_is_timed_by_what_ssh_starts(tmp_path: Path) -> None:
    fake = tmp_path / "ssh"
    fake.write_text('#!/bin/sh\n[ "$2" = BatchMode=yes ] && [ "$3" = board ] || exit 255\nshift 3\nexec "$@"\n')
    fake.chmod(0o755)
    found = measure_network(NETWORK, key(str(fake), "board"), rounds=7)
    assert found.n == 7
    assert found.median_ms > 0
    with pytest.raises(DeviceError, match="it exited with 255"):
        measure_network(NETWORK, key(str(fake), "other"))


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[str]:
    """The words that reach a server of this test's own on this machine."""
    server = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")
    if server is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("needs sshd, ssh and ssh-keygen")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    (tmp_path / "user.pub").rename(tmp_path / "keys")
    (tmp_path / "keys").chmod(stat.S_IRUSR)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path / 'host'}\nAuthorizedKeysFile {tmp_path / 'keys'}\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\nPermitRootLogin yes\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(parents=True, exist_ok=True)  # as its service does; without it sshd does not start
    process = subprocess.Popen([server, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE, text=True)
    options = f"-F none -p {port} -i {tmp_path / 'user'} -l {getpass.getuser()} -o StrictHostKeyChecking=no"
    words = f"ssh {options} -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    try:
        for _ in range(50):
            done = subprocess.run([*words.split(), "-o", "BatchMode=yes", "localhost", "true"], capture_output=True)
            if done.returncode == 0:
                break
            if process.poll() is not None:
                pytest.skip(f"sshd does not start here: {process.communicate()[1]}")
            time.sleep(0.1)
        else:
            pytest.skip(f"sshd lets nobody in here: {done.stderr.decode()}")
        yield words
    finally:
        process.terminate()
        with process:  # which waits for it and closes its pipe
            pass


def test_a_network_is_timed_over_ssh_to_this_machine(ssh: str) -> None:
    assert measure_network(NETWORK, key(ssh), rounds=5).n == 5
