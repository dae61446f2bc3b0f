"""Locks, for processes that would write the same files at once; a process that dies, however hard, lets go of its own.

They are the kernel's, on files of our own. The filelock library is not used: it keeps no lock file that its holder has
removed from being locked again, it empties the file on every try, so that nobody can read there who holds it, and the
versions that NNI allows follow a link that somebody put in the file's place (CVE-2025-68146).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from se_nas.errors import OutputError

#: Descriptors of the locks that this process holds.
_held: set[int] = set()


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file, which says who holds it; see `holder`.

    Args:
        wait: until it is free; else it is given False where another process holds it.

    Raises:
        OutputError: its folder cannot be written to.
    """
    try:
        descriptor = _lock(path, wait)
    except OSError as error:
        reason = error.strerror or error
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            reason = "a file stands where a folder must be"
        raise OutputError(f"{path.parent}: the folder must be writable, but got: {reason}") from error
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):  # a system that removes no open file keeps it
            path.unlink(missing_ok=True)
        _held.discard(descriptor)
        os.close(descriptor)


def holder(path: Path) -> str:
    """The process that holds a lock file, in words."""
    try:
        process, host = path.read_text(encoding="utf-8").split()
        return f"process {int(process)} on {host}"
    except (OSError, ValueError):  # it has just let go, or has not yet said
        return "another process"


def hold(descriptor: int, *, alone: bool = True, wait: bool = False) -> bool:
    """Lock an open file until it is closed, or the process ends; False where another process has locked it.

    Args:
        alone: whether no other process may have it locked; else none may that is alone.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 2**30, os.SEEK_SET)  # what is locked there cannot be read, and the rest must be
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        import fcntl
    except ImportError:  # a system with neither kind of lock: nothing keeps others away there
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a network folder without locks: as above
        pass
    return True


def _lock(path: Path, wait: bool) -> int | None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:  # whoever had made the folder removed it again
            continue
        try:
            held = hold(descriptor, wait=wait)
            # whoever held it before may have removed this very file, and a third one may hold a new one
            if held and os.path.samefile(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
                _held.add(descriptor)
                return descriptor
            if not held and not wait:
                os.close(descriptor)
                return None
        except FileNotFoundError:  # removed between the two questions
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _let_go_in_child() -> None:
    """A forked process would keep what its parent holds, even after the parent was killed."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
