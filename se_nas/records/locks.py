"""Lock files, for processes that would write the same files at once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from se_nas.errors import OutputError


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file; a process that dies lets go of it.

    Args:
        wait: until it is free; else it is given False where another process holds it.

    Raises:
        OutputError: its folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(path, wait)
    except OSError as error:
        raise OutputError(f"{path}: the folder must be writable, but got: {error.strerror or error}") from error
    if file is None:
        yield False
        return
    with file:
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def _lock(path: Path, wait: bool) -> TextIO | None:
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            # whoever held it before may have removed this very file, and a third one may hold a new one
            if path.exists() and os.path.samefile(path, file.fileno()):
                return file
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:  # removed between the two questions
            pass
        except BaseException:
            file.close()
            raise
        file.close()
