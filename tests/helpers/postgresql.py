"""A real PostgreSQL for a test: in a temporary folder, on the loopback address and a free port, gone afterwards."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

USER = "se_nas"


@dataclass(frozen=True)
class Server:
    """A running server that asks for a password."""

    port: int
    password: str
    programs: Path

    def url(self, database: str = "postgres", password: str | None = None) -> str:
        """What `--storage` takes."""
        return f"postgresql+psycopg://{USER}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database; its URL."""
        name = f"d{secrets.token_hex(4)}"
        command = [self.programs / "createdb", "--host=127.0.0.1", f"--port={self.port}", f"--username={USER}", name]
        subprocess.run(command, check=True, env={**os.environ, "PGPASSWORD": self.password}, capture_output=True)
        return self.url(name)


@contextmanager
def running_postgresql() -> Iterator[Server]:
    """Start a server and stop it; skips the test where PostgreSQL or its driver is not installed."""
    pytest.importorskip("psycopg", reason="the PostgreSQL driver psycopg is not installed")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: initdb is neither on PATH nor in /usr/lib/postgresql/*/bin")
    folder = Path(tempfile.mkdtemp(prefix="se-nas-pg-"))
    identity = _unprivileged(folder)
    password = secrets.token_urlsafe(12)
    process: subprocess.Popen[bytes] | None = None
    try:
        secret = folder / "password"
        secret.write_text(password)
        secret.chmod(0o644)  # for the user that runs initdb; nobody else can enter the folder
        words = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C"]
        initdb = [programs / "initdb", "--pgdata", folder / "data", "--no-sync", *words]
        made = subprocess.run(initdb, cwd=folder, capture_output=True, text=True, **identity)
        assert made.returncode == 0, made.stderr
        port = _free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": folder,
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            command = [programs / "postgres", "-D", folder / "data", *options]
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **identity)
        _wait(process, [programs / "pg_isready", "--host=127.0.0.1", f"--port={port}"], folder / "log")
        yield Server(port, password, programs)
    finally:
        if process is not None:
            process.send_signal(signal.SIGQUIT)  # PostgreSQL's immediate shutdown
            process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def _unprivileged(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: the user that runs it instead, who is given the folder."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], ready: list[Any], log: Path) -> None:
    limit = time.monotonic() + 60
    while subprocess.run(ready, capture_output=True).returncode != 0:
        assert process.poll() is None and time.monotonic() < limit, log.read_text()  # noqa: PT018
        time.sleep(0.05)
