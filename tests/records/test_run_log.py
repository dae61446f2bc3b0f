from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

import pytest

from se_nas.errors import OutputError
from se_nas.records.run_log import RunLog, SilentLog, logging_to, read_log


def _steps(path: Path) -> list[tuple[str, int]]:
    return [(entry["phase"], entry["step"]) for entry in read_log(path)]


def test_lines_are_json_objects_readable_at_once(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.write(3, "search", loss=0.5, note="a")
        (entry,) = read_log(log.path)
    assert entry.pop("time")
    assert entry == {"step": 3, "phase": "search", "loss": 0.5, "note": "a"}


def test_non_finite_numbers_stay_json(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.write(1, "search", loss=float("nan"), more=[float("-inf"), {"x": float("inf")}])
        text = log.path.read_text()
    entry = json.loads(text, parse_constant=lambda name: pytest.fail(f"not JSON: {name}"))
    assert (entry["loss"], entry["more"]) == ("nan", ["-inf", {"x": "inf"}])


def test_cut_drops_the_later_lines_of_one_phase(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.write(step, "train", loss=1.0)
            log.write(step, "search", loss=1.0)
        log.cut("train", 1, 1)
        assert log.lines("train") == 1
        assert log.lines("search") == 3
        log.write(2, "train", loss=1.0)
        expected = [("train", 1), ("search", 1), ("search", 2), ("search", 3), ("train", 2)]
        assert _steps(log.path) == expected
        log.cut("train", 9, 9)  # more than there are: nothing to drop
        assert _steps(log.path) == expected


def test_reopening_goes_on_after_dropping_a_torn_line(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.write(1, "train", loss=1.0)
    with log.path.open("a") as file:
        file.write('{"step": 2, "pha')
    with RunLog(tmp_path) as log:
        assert log.lines("train") == 1
        log.write(2, "train", loss=1.0)
        assert _steps(log.path) == [("train", 1), ("train", 2)]


@pytest.mark.parametrize("line", ["hello", "[]", "3", '{"step": 1}'])
def test_a_file_that_is_no_log_is_named_and_left_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(OutputError, match=r"log\.jsonl: line 1 must be"):
        RunLog(tmp_path)
    assert path.read_text() == line + "\n"


def test_tensorboard_gets_the_numbers_and_forgets_what_was_cut(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with RunLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.write(step, "train", loss=float(step), event="step", infinite=float("inf"), flag=True)
        log.cut("train", 1, 2)
        log.write(2, "train", loss=20.0)
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard" / "train"))
    events.Reload()
    assert [(point.step, point.value) for point in events.Scalars("loss")] == [(1, 1.0), (2, 20.0)]
    assert events.Tags()["scalars"] == ["loss"]


def test_a_missing_tensorboard_only_drops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with RunLog(tmp_path) as log:
        log.write(1, "train", loss=1.0)
        log.cut("train", 0, 0)
        log.write(1, "train", loss=2.0)
    assert _steps(log.path) == [("train", 1)]
    assert not (tmp_path / "tensorboard").exists()


def test_a_file_in_place_of_the_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="must be writable"):
        RunLog(tmp_path / "run")


def test_a_silent_log_takes_what_a_log_takes_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lines", "write", "cut", "close"):
        assert list(inspect.signature(getattr(SilentLog, name)).parameters) == list(
            inspect.signature(getattr(RunLog, name)).parameters
        )
    with SilentLog() as log:
        log.write(1, "train", loss=1.0)
        log.cut("train", 0, 0)
        assert log.lines("train") == 0
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_path_is_not_utf_8_is_one_line_for_tensorboard_and_none_for_the_log(tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    with logging_to([]), RunLog(folder) as log:
        log.write(1, "search", loss=0.5)
    assert _steps(log.path) == [("search", 1)]
    with pytest.raises(OutputError, match=r"the path must be UTF-8 for TensorBoard"), RunLog(folder) as log:
        log.write(1, "search", loss=0.5)
