"""What every worker process does that must not outlive the process that it works for."""

from __future__ import annotations

import multiprocessing
import os
import threading

_PERIOD = 1.0  # seconds


def end_with_parent() -> None:
    """End this worker process soon after the process that started it has died, however that was.

    A killed process cannot end its workers, and they would wait for work for ever: each holds the other end of the
    pipe that it waits at. Half a file that is left is under a temporary name.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is for a process that multiprocessing started"
    starter = os.getppid()  # with a fork server that one, and not `parent`

    def watch() -> None:
        # later workers may hold the pipe open by which `parent` is seen to die, so the system is asked as well
        while parent.is_alive() and os.getppid() == starter:
            parent.join(_PERIOD)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
