"""Stand-alone trainings side by side: each is done once, goes on after a signal, and says so where it diverges."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import load_test, load_train
from se_nas.errors import ConfigError, DataError, SeNasError, TrainingInterrupted
from se_nas.records.locks import locked
from se_nas.records.models.evidence import TrainingRecord
from se_nas.records.record import write_record
from se_nas.runs.evidence import trainings as module
from se_nas.runs.evidence.trainings import Task, Trainings
from se_nas.space.yaml.file import parse_space
from se_nas.training import train as training
from se_nas.training.evaluate import TopAccuracies, top_accuracies
from se_nas.training.in_memory import train_network
from se_nas.training.recipe_files import default_recipe
from tests.helpers.tiny_runs import SPACE, contents

OPTIONS = DataOptions("synthetic", resolution=8, seed=3, size=60)
RECIPE = default_recipe(epochs=2, batch_size=20, evaluate_every=1)
SPACE_OF_TEN = replace(parse_space(SPACE, "here"), classes=10)
NETWORKS = [SPACE_OF_TEN.resolve(SPACE_OF_TEN.sample(np.random.default_rng(seed))) for seed in (0, 1)]
TASKS = [Task(NETWORKS[0], 0), Task(NETWORKS[1], 0), Task(NETWORKS[0], 1)]


def trainings(folder: Path, **changes: Any) -> Trainings:
    return replace(Trainings(folder, RECIPE, OPTIONS, "cpu"), **changes)


def numbers(found: Trainings, tasks: list[Task] = TASKS) -> list[TrainingRecord | None]:
    """The records without what a clock measured."""
    records = [found.record(task) for task in tasks]
    return [r and r.model_copy(update={"seconds": 0.0, "cpu_seconds": 0.0}) for r in records]


def refuse(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("a training was started")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    """The three trainings, one after the other, never stopped; to be read only."""
    done = trainings(tmp_path_factory.mktemp("whole"))
    done.train(TASKS, 1, False)
    return done


def test_each_is_what_an_independent_training_gives(whole: Trainings, tmp_path: Path) -> None:
    info, train = load_train(OPTIONS)
    device, test = torch.device("cpu"), load_test(OPTIONS)
    for i, task in enumerate(TASKS):
        folder = tmp_path / str(i)
        alone = train_network(
            task.network, RECIPE, info, train, test, device=device, seed=task.seed, folder=folder, resume=False
        )
        record = whole.record(task)
        assert record is not None
        assert whole.accuracy(task) == record.test_accuracy == alone.test_accuracy
        assert (record.seed, record.test_images) == (task.seed, len(test))
        assert record.train_accuracy == alone.history[-1].accuracy
        assert record.images == 2 * 60
        assert record.cpu_seconds > 0
    assert len(whole.records()) == 3
    assert len(contents(whole.folder)) == 3  # no checkpoint and no lock stays


def test_what_is_done_is_not_done_again(whole: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(whole.folder)
    monkeypatch.setattr(module, "train_network", refuse)
    whole.train([*TASKS, *TASKS], 1, False)
    assert contents(whole.folder) == before


def test_other_settings_are_other_trainings(whole: Trainings) -> None:
    task = TASKS[0]
    others = [
        replace(whole, recipe=RECIPE.model_copy(update={"learning_rate": 0.05})),
        replace(whole, options=replace(OPTIONS, seed=4)),
        replace(whole, options=replace(OPTIONS, size=80)),
        replace(whole, device="cuda"),
    ]
    keys = [whole.key(each) for each in TASKS] + [other.key(task) for other in others]
    assert len(set(keys)) == len(keys)
    assert all(other.record(task) is None for other in others)
    elsewhere = replace(whole, options=replace(OPTIONS, data_dir=Path("elsewhere")))
    assert elsewhere.key(task) == whole.key(task)  # where the images lie changes nothing


def test_a_record_is_adopted_where_there_is_none(tmp_path: Path) -> None:
    found = trainings(tmp_path)
    first = TrainingRecord(seed=0, test_accuracy=0.5, seconds=1.0, cpu_seconds=None)
    found.adopt(TASKS[0], first)
    found.adopt(TASKS[0], first.model_copy(update={"test_accuracy": 0.9}))
    assert found.record(TASKS[0]) == first
    assert found.accuracy(TASKS[0]) == 0.5
    assert found.accuracy(TASKS[1]) is None
    assert found.failure(TASKS[0]) is found.failure(TASKS[1]) is None


def test_one_that_diverges_is_recorded_and_left_out(tmp_path: Path) -> None:
    found = trainings(tmp_path, recipe=RECIPE.model_copy(update={"learning_rate": 1e30, "warmup_epochs": 0.0}))
    found.train(TASKS[:1], 1, False)
    record = found.record(TASKS[0])
    assert record is not None
    assert "rollbacks" in record.failed
    assert found.failure(TASKS[0]) == record.failed
    assert record.plain().keys() == {"seed", "failed", "seconds", "cpu_seconds", "taken"}
    assert record.seconds > 0
    assert record.cpu_seconds > 0
    assert found.accuracy(TASKS[0]) is None
    found.train(TASKS[:1], 1, False)  # it is not tried again
    assert found.record(TASKS[0]) == record


def test_a_training_that_another_process_holds_is_waited_for(
    whole: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, waits = trainings(tmp_path), []
    with ExitStack() as held:
        held.enter_context(locked(tmp_path / f"{found.key(TASKS[0])}.lock"))

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if found.record(TASKS[2]) is not None:  # the others are done meanwhile
                assert found.record(TASKS[0]) is None
                held.close()

        monkeypatch.setattr(module, "time", SimpleNamespace(**{**vars(time), "sleep": sleep}))
        found.train(TASKS, 1, False)
    assert len(waits) == 2
    assert numbers(found) == numbers(whole)


def test_what_another_process_did_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trainings(tmp_path)
    monkeypatch.setattr(module, "train_network", refuse)
    with ExitStack() as held:
        held.enter_context(locked(tmp_path / f"{found.key(TASKS[0])}.lock"))

        def sleep(seconds: float) -> None:
            other = TrainingRecord(seed=0, test_accuracy=0.25, seconds=1.0)
            write_record(tmp_path / f"{found.key(TASKS[0])}.json", other)
            held.close()

        monkeypatch.setattr(module, "time", SimpleNamespace(**{**vars(time), "sleep": sleep}))
        found.train(TASKS[:1], 1, False)
    assert found.accuracy(TASKS[0]) == 0.25


@pytest.mark.parametrize("looks", [1, 3])
def test_a_call_that_is_stopped_is_finished_by_the_same_call(
    whole: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    found, left = trainings(tmp_path), looks

    def stop_at_a_look(*arguments: Any) -> TopAccuracies:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return top_accuracies(*arguments)

    monkeypatch.setattr(training, "top_accuracies", stop_at_a_look)
    with pytest.raises(TrainingInterrupted, match="SIGTERM"):
        found.train(TASKS, 1, False)
    assert sum(record is not None for record in numbers(found)) == (looks - 1) // 2
    assert list(tmp_path.glob("*/checkpoint.pt"))
    found.train(TASKS, 1, False)
    assert 6 <= looks - left <= 7  # at three trainings of two epochs: what was done is not done again
    assert numbers(found) == numbers(whole)
    assert len(contents(tmp_path)) == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [('{"seed": 0, "test_acc', "must be JSON"), ("[0.5, 0.6]", "must be a mapping, but got [0.5, 0.6]")],
)
def test_a_damaged_record_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    found = trainings(tmp_path)
    path = tmp_path / f"{found.key(TASKS[0])}.json"
    path.write_text(text)
    for ask in (lambda: found.record(TASKS[0]), found.records, lambda: found.train(TASKS[:1], 1, False)):
        with pytest.raises(ConfigError, match=re.escape(f"file: {told}")) as caught:
            ask()
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_missing_data_are_told(tmp_path: Path) -> None:
    found = trainings(tmp_path, options=DataOptions("cifar10", resolution=32, data_dir=tmp_path / "none"))
    with pytest.raises(DataError):
        found.train(TASKS[:1], 1, False)
    assert not found.records()


@pytest.mark.slow
def test_two_at_a_time_give_what_one_at_a_time_gives(whole: Trainings, tmp_path: Path) -> None:
    found = trainings(tmp_path)
    found.train(TASKS, 2, False)
    assert numbers(found) == numbers(whole)
    assert len(contents(tmp_path)) == 3


@pytest.mark.slow
def test_a_fault_in_a_process_is_told_by_the_one_that_started_it(tmp_path: Path) -> None:
    found = trainings(tmp_path, options=DataOptions("cifar10", resolution=32, data_dir=tmp_path / "none"))
    with pytest.raises(SeNasError, match="none"):
        found.train(TASKS, 2, False)
