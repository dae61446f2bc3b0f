"""The trained network that the supernet of a search learns from, as a run file names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from se_nas.layers.network import Network
from se_nas.records.files import write_json
from se_nas.runs.prepare import Setting, make_setting, open_setting
from se_nas.runs.run_file import load_run
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from se_nas.space.yaml.file import parse_space
from se_nas.training.trained_network import TRAINED_ON, DataCard, save_weights
from tests.helpers.command_lines import call
from tests.helpers.tiny_runs import RUN, SPACE, changed, write_run

TEACHER = {"strategy": "optuna", "supernet": {"teacher": "teacher"}}


def write_teacher(folder: Path, classes: int = 10) -> Path:
    space = parse_space({**SPACE, "classes": classes}, "tiny")
    architecture = next(space.enumerate())
    torch.manual_seed(0)
    save_architecture(folder / "architecture.json", ArchitectureFile.of(space, architecture))
    save_weights(folder / "network.pt", Network(space.resolve(architecture)), None)
    return folder


def run_with(folder: Path, search: dict[str, Any]) -> Path:
    run = changed(changed(changed(RUN, "search", search), "latency", {"table": False}), "budgets", {"macs": "90k"})
    return write_run(folder, changed(run, "retrain", None))


def setting_of(run_file: Path) -> Setting:
    say: Callable[[str], None] = lambda line: None  # noqa: E731
    return make_setting(run_file, load_run(run_file), run_file.parent / "out", resume=False, progress=False, say=say)


def test_a_teacher_beside_the_run_file_is_opened_by_whoever_trains(tmp_path: Path) -> None:
    write_teacher(tmp_path / "teacher")
    setting = setting_of(run_with(tmp_path, TEACHER))
    for problem in (
        setting.problem(resume=False, progress=False),
        open_setting(tmp_path / "out").problem(resume=True, progress=False),  # another rank, from the run's own folder
    ):
        assert problem.teacher is not None
        teacher = problem.teacher()
        assert not teacher.training
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        assert teacher(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


def test_without_a_supernet_no_teacher_is_opened(tmp_path: Path) -> None:
    setting = setting_of(run_with(tmp_path, {**TEACHER, "evaluator": "stand_alone"}))
    assert setting.problem(resume=False, progress=False).teacher is None


@pytest.mark.parametrize(
    ("fault", "search", "words"),
    [
        ("gone", TEACHER, ["search.supernet.teacher", "must be a folder that a retraining left", "teacher_checkpoint"]),
        ("classes", TEACHER, ["search.supernet.teacher", "there are 10 instead of 7"]),
        ("weights", TEACHER, ["search.supernet.teacher", "network.pt"]),
        ("norms", TEACHER, ["search.supernet.teacher", "normalised as those that it is to see"]),
        (
            "none",
            {"strategy": "optuna", "supernet": {"sampling": "uniform", "distillation": "kl"}},
            ["search.supernet.distillation", "must be none without a teacher"],
        ),
    ],
)
def test_a_teacher_that_cannot_teach_is_one_line_before_the_run_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, search: dict[str, Any], words: list[str]
) -> None:
    run_file = run_with(tmp_path, search)
    if fault in ("classes", "weights", "norms"):
        folder = write_teacher(tmp_path / "teacher", 7 if fault == "classes" else 10)
        if fault == "weights":
            (folder / "network.pt").write_bytes(b"no weights")
        if fault == "norms":
            card = DataCard("others", tuple(f"pattern {i}" for i in range(10)), (0.1,) * 3, (0.9,) * 3)
            write_json(folder / TRAINED_ON, asdict(card))
    assert call("search", run_file, "--out", tmp_path / "out", "--quiet") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    for part in words:
        assert part in error
    assert not (tmp_path / "out" / "config.yaml").exists()
