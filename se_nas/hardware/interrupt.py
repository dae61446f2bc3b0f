"""SIGINT and SIGTERM, with which work is asked to stop, given to whoever knows what then."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_to(handle: Callable[[int], None]) -> Iterator[None]:
    """Give the number of each SIGINT and SIGTERM to `handle`, wherever the main thread is just then.

    SIGINT too is handled anew: a shell lets its background jobs ignore it. Only the main thread may take signals; in
    another one nothing changes. What gave a signal to another meanwhile keeps it: `outlive_end_of_job` does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def take(number: int, frame: FrameType | None) -> None:
        handle(number)

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is take:
                signal.signal(number, handler)


def outlive_end_of_job() -> None:
    """Ignore SIGTERM from now on, where this process ends by itself and has yet to say why.

    Who started the ranks of a job ends the others as soon as one is lost, and may be quicker than they are.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
