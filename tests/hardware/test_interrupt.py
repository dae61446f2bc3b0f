from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from se_nas.errors import TrainingInterrupted
from se_nas.hardware.interrupt import outlive_end_of_job, signals_to


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_over_and_the_handler_of_before_comes_back(number: signal.Signals) -> None:
    before, noted = signal.getsignal(number), list[int]()
    with signals_to(noted.append):
        os.kill(os.getpid(), number)
    assert noted == [number]
    assert signal.getsignal(number) is before


def test_what_a_handler_raises_ends_the_work_and_the_handler_of_before_comes_back() -> None:
    def stop(number: int) -> None:
        raise TrainingInterrupted("work", number, Path("here"))

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match=r"^work: stopped by SIGTERM; resume from here"), signals_to(stop):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_than_the_main_one_changes_nothing() -> None:
    before, found = signal.getsignal(signal.SIGTERM), list[object]()

    def work() -> None:
        with signals_to(lambda number: None):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_who_ends_by_itself_is_not_ended_by_sigterm_before_it_has_said_why() -> None:
    before, noted = signal.getsignal(signal.SIGTERM), list[int]()
    try:
        with signals_to(noted.append):
            outlive_end_of_job()
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # as when the checkpoint is still written
        assert noted == []
    finally:
        signal.signal(signal.SIGTERM, before)
