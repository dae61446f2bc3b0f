"""What NNI's servers answer: their own page and programs, and no page of somebody else's in a browser."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import nni_node
import pytest

from se_nas.nni_bridge.experiment import addresses, manager

#: Answers each request with its body, and an upgrade with a word.
SERVER = """
const http = require("node:http");
const server = http.createServer((request, response) => request.pipe(response));
server.on("upgrade", (request, socket) => socket.end("upgraded"));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""

Ask = Callable[..., str]


@pytest.fixture(scope="module", params=[["gpu.lab", "192.0.2.1"], ["0.0.0.0", "*"]], ids=["host", "every address"])
def guarded(request: pytest.FixtureRequest) -> Iterator[tuple[list[str], Ask]]:
    """The names that a guarded server of NNI's Node was given, and a function that asks it."""
    node = Path(nni_node.__path__[0]) / "node"
    guard = Path(manager.__file__).parent / "preloads" / "page_guard.js"
    environment = {**os.environ, "SE_NAS_NNI_NAMES": json.dumps(request.param)}
    command = [node, "--require", guard, "-e", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())

        def ask(method: str, body: str = "", **headers: str) -> str:
            """The status line's code, and the body, or the words of the refusal."""
            given = {"Host": f"localhost:{port}", "Connection": "close"}
            given |= {name.replace("_", "-"): value.replace("PORT", str(port)) for name, value in headers.items()}
            if body:
                given["Content-Length"] = str(len(body))
            head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
            with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
                connection.sendall(f"{method} / HTTP/1.1\r\n{head}\r\n{body}".encode())
                answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
            head, _, content = answer.partition("\r\n\r\n")
            return f"{head.removeprefix('HTTP/1.1 ')[:3]} {content.strip()}"

        yield request.param, ask
        server.terminate()


JSON_TYPE = "application/json;charset=utf-8"


@pytest.mark.parametrize("host", ["localhost:PORT", "127.0.0.1:PORT", "[::1]:PORT", "LOCALHOST:1", "localhost"])
def test_this_machine_is_answered_also_through_a_tunnel_from_another_port(
    guarded: tuple[list[str], Ask], host: str
) -> None:
    _, ask = guarded
    assert ask("GET", Host=host).startswith("200")
    assert ask("PUT", "{}", Host=host, Origin=f"http://{host}", Content_Type=JSON_TYPE).startswith("200")
    assert ask("GET", Host=host, Upgrade="websocket", Connection="upgrade").startswith("upg")


def test_the_names_that_the_manager_was_given_are_answered(guarded: tuple[list[str], Ask]) -> None:
    names, ask = guarded
    given = "gpu.lab" if "gpu.lab" in names else "203.0.113.9"
    assert ask("GET", Host=f"{given}:8080").startswith("200")
    other = "203.0.113.9" if "gpu.lab" in names else "gpu.lab"
    assert ask("GET", Host=f"{other}:8080").startswith("403")


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:PORT", "localhost.evil.example:PORT", "localhost@evil.example", "a,b"]
)
def test_a_foreign_name_that_leads_here_is_refused(guarded: tuple[list[str], Ask], host: str) -> None:
    _, ask = guarded
    if host:  # Node itself refuses a request without one
        assert '{"error":"Host must be localhost or' in ask("GET", Host=host)
    assert not ask("POST", "{}", Host=host, Origin=f"http://{host}", Content_Type=JSON_TYPE).startswith("200")
    assert ask("GET", Host=host, Upgrade="websocket", Connection="upgrade").startswith("40")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "https://localhost:PORT", "http://127.0.0.1:PORT"]
)
def test_another_page_is_refused(guarded: tuple[list[str], Ask], origin: str) -> None:
    _, ask = guarded
    for method, body, kind in (("GET", "", ""), ("POST", "{}", JSON_TYPE), ("OPTIONS", "", "")):
        assert ask(method, body, Origin=origin, Content_Type=kind).startswith("403")
    assert ask("GET", Origin=origin, Upgrade="websocket", Connection="upgrade").startswith("403")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "x"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "GET"])
def test_a_body_that_is_not_called_json_is_refused(guarded: tuple[list[str], Ask], method: str, kind: str) -> None:
    _, ask = guarded
    assert ask(method, "{}", Content_Type=kind).startswith("415")
    assert ask(method, "", Content_Type=kind, Transfer_Encoding="chunked").startswith("415")
    assert ask(method).startswith("200")


def test_the_manager_is_called_by_what_the_user_named_and_by_what_trials_were_told() -> None:
    config = {"nniManagerIp": None, "trainingService": {"platform": "remote", "nniManagerIp": "198.51.100.7"}}
    assert addresses.page_names(config, "Gpu.Lab", "192.0.2.1") == ["192.0.2.1", "198.51.100.7", "gpu.lab"]
    everywhere = addresses.page_names({"trainingService": {"platform": "local"}}, "0.0.0.0", "0.0.0.0")
    assert {"*", socket.gethostname().lower()} <= set(everywhere)
