"""Programs that are started to time networks: how one ends, and what is said of one that ended by itself."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import Any

from se_nas.errors import short


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
    last = (errors.strip().splitlines() or ["nothing"])[-1]
    code = process.returncode
    how = f"exited with {code}" if code >= 0 else f"died of signal {-code}"
    return f"{how}; its last words are {short(last)}"
