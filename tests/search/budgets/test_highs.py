"""What HiGHS prints is dropped, whatever else is printed meanwhile is not."""

from __future__ import annotations

import ctypes
import os
import threading

import pytest

from se_nas.search.budgets.highs import unprinted

C = ctypes.CDLL(None)
LINE = b"HighsMipSolverData::transformNewIntegerFeasibleSolution tmpSolver.run();"


def test_a_line_of_highs_reaches_neither_stream_and_other_lines_do(capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with unprinted():
            C.puts(LINE)
            C.printf(b"of another library\n")
            C.printf(b"%s\n", LINE)
            thread = threading.Thread(target=lambda: (print("of a thread", flush=True), os.write(2, b"told\n")))
            thread.start()
            thread.join()
        C.puts(b"after")
        C.fflush(None)
        said = capfd.readouterr()
        assert sorted(said.out.splitlines()) == ["after", "of a thread", "of another library"]
        assert said.err == "told\n"


def test_a_failure_leaves_c_s_output_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    def printed() -> None:
        with unprinted():
            C.puts(LINE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        printed()
    C.puts(b"after")
    C.fflush(None)
    assert capfd.readouterr().out == "after\n"
