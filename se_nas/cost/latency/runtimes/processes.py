"""Programs that are started to time networks: what is read of one, how one ends, and what is said of its end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import IO, Any

from se_nas.errors import short


class Reader(threading.Thread):
    """Reads all that a program prints and keeps a part: what prints without end would fill the memory.

    Attributes:
        read: bytes that it printed.
    """

    def __init__(self, stream: IO[bytes] | None, part: slice) -> None:
        super().__init__(daemon=True)
        assert stream is not None
        # of its own, since `end` closes the stream while somebody may still hold its other end
        self._file, self._part, self._kept, self.read = os.dup(stream.fileno()), part, b"", 0
        self.start()

    def run(self) -> None:
        """See the class."""
        try:
            while chunk := os.read(self._file, 1 << 16):
                self.read += len(chunk)
                self._kept = (self._kept + chunk)[self._part]
        finally:
            os.close(self._file)

    def text(self) -> str:
        """What was kept."""
        return self._kept.decode(errors="replace")


def end(process: subprocess.Popen[Any]) -> None:
    """Kill what is left of a program that was started in a session of its own, with all that it has started itself."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)  # the group of its session, which is its own
            else:
                process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):  # what was still to be written has no reader
                stream.close()


def ending(process: subprocess.Popen[Any], errors: str) -> str:
    """How a program ended that should not have, in words that may follow "but it".

    Args:
        errors: what it wrote to its standard error stream.
    """
    said = errors.strip().splitlines()
    code = process.returncode
    how = f"exited with {code}" if code >= 0 else f"died of signal {-code}"
    return f"{how}; its last words are {short(said[-1])}" if said else f"{how} and said nothing"
