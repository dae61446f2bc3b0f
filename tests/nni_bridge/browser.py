"""A headless Chromium that is driven by its DevTools protocol: open a page, run JavaScript in it, take its picture."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # as on a machine without the internet
]


def find_chromium() -> str | None:
    """The browser of this machine, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """A page of the browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0

    def send(self, method: str, **parameters: Any) -> Any:
        """The answer to a command of the DevTools protocol."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=240))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, url: str) -> None:
        """Go to an address; what the page then loads is waited for with `until`."""
        self.send("Page.navigate", url=url)

    def until(self, script: str, seconds: float = 240.0) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError):  # a page that is just loading
                if found := self.run(script):
                    return found
            assert time.monotonic() < end, f"not seen on the page: {script}; it says: {self.text()[:2000]}"
            time.sleep(0.2)

    def text(self) -> str:
        """All that a reader of the page sees as text."""
        return str(self.run("document.body.innerText"))

    def click(self, selector: str, text: str) -> None:
        """Click the first element that matches a CSS selector and shows exactly this text, once it is there.

        Characters that are not ASCII do not count: they are icons.
        """
        shown = r"e.innerText?.replace(/[^\x20-\x7e]/g, '').trim()"
        found = f"[...document.querySelectorAll({json.dumps(selector)})].find(e => {shown} === {json.dumps(text)})"
        self.until(f"!!{found}")
        self.run(f"{found}.click()")

    def picture(self, path: Path, **clip: float) -> None:
        """Save a PNG of the page, or of the part x, y, width, height of it."""
        more = {"clip": {**clip, "scale": 1}, "captureBeyondViewport": True} if clip else {}
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png", **more)["data"]))


@contextlib.contextmanager
def browser(chromium: str, folder: Path, width: int = 1400, height: int = 1000) -> Iterator[Tab]:
    """A fresh browser with one empty tab; `folder` gets its profile."""
    command = [chromium, *FLAGS, f"--window-size={width},{height}", f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
        try:
            end = time.monotonic() + 240
            while not (folder / "DevToolsActivePort").exists():
                assert p.poll() is None, f"{chromium} ended with {p.returncode}"
                assert time.monotonic() < end, "the browser did not start"
                time.sleep(0.1)
            port = (folder / "DevToolsActivePort").read_text().splitlines()[0]
            local = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with local.open(f"http://127.0.0.1:{port}/json/list", timeout=240) as answer:
                (tab,) = [target for target in json.load(answer) if target["type"] == "page"]
            with connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None) as connection:
                yield Tab(connection)
        finally:
            p.terminate()
