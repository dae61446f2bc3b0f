from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from se_nas.data import sources
from se_nas.data.in_memory.images import ImageSet
from se_nas.errors import ArchitectureError, OutputError
from se_nas.records.run_log import read_log
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import EvaluatorWithEpochs, Pruned
from se_nas.search.black_box.evaluators import stand_alone as stand_alone_evaluator
from se_nas.search.black_box.evaluators.stand_alone import StandAloneEvaluator, short_recipe
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.training import optimizer
from se_nas.training import train as training
from se_nas.training.evaluate import TopAccuracies, top_accuracies
from se_nas.training.optimizer import clip_gradients
from se_nas.training.recipe import Recipe
from tests.helpers.tiny_runs import contents
from tests.search.problems import make_problem

CONFIG = Recipe.model_validate(short_recipe({"epochs": 3, "batch_size": 20, "learning_rate": 0.05}))


class Kill(BaseException):
    """What ends a process amid an evaluation."""


@pytest.fixture
def problem(tiny_space: SearchSpace, tmp_path: Path) -> SearchProblem:
    return make_problem(tiny_space, tmp_path / "search")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "evaluations"


def drawn(problem: SearchProblem, seed: int = 0) -> Architecture:
    return problem.space.sample(np.random.default_rng(seed))


def curve_of(evaluator: StandAloneEvaluator, architecture: Architecture) -> tuple[list[tuple[int, float]], float]:
    curve: list[tuple[int, float]] = []
    answer = evaluator.evaluate(architecture, lambda *point: curve.append(point))
    return curve, answer


def stops_at(last: int, error: BaseException) -> Callable[[int, float], None]:
    def report(epoch: int, accuracy: float) -> None:
        if epoch == last:
            raise error

    return report


def test_every_epoch_is_reported_and_the_last_is_the_answer(
    problem: SearchProblem, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluator = StandAloneEvaluator(problem, CONFIG, folder)
    assert isinstance(evaluator, EvaluatorWithEpochs)
    curve, answer = curve_of(evaluator, drawn(problem))
    assert [epoch for epoch, _ in curve] == [0, 1, 2]
    assert answer == curve[-1][1]
    assert all(round(value * 40) == pytest.approx(value * 40) for _, value in curve)  # of 40 validation images
    assert list(folder.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_the_same_architecture_gets_the_same_accuracies_and_another_seed_others(
    problem: SearchProblem, folder: Path
) -> None:
    evaluator = StandAloneEvaluator(problem, CONFIG, folder)
    first = curve_of(evaluator, drawn(problem))
    assert curve_of(evaluator, drawn(problem, 1)) != first
    assert curve_of(evaluator, drawn(problem)) == first
    assert curve_of(StandAloneEvaluator(dataclasses.replace(problem, seed=1), CONFIG, folder), drawn(problem)) != first


def test_it_learns_from_all_images_but_those_for_validation_and_never_asks_for_test_images(
    problem: SearchProblem, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, source in list(sources.DATASETS.items()):
        if isinstance(source, sources.DataSource):
            monkeypatch.setitem(sources.DATASETS, name, dataclasses.replace(source, load_test=None))  # type: ignore[arg-type]
    given: list[tuple[ImageSet, ImageSet]] = []
    made = stand_alone_evaluator.images_in_memory

    def noted(*arguments: Any, **options: Any) -> Any:
        given.append((arguments[2], arguments[3]))
        return made(*arguments, **options)

    monkeypatch.setattr(stand_alone_evaluator, "images_in_memory", noted)
    curve_of(StandAloneEvaluator(problem, CONFIG, folder), drawn(problem))
    ((learned, looked_at),) = given

    def images(image_set: ImageSet) -> list[bytes]:
        return sorted(image.numpy().tobytes() for image in image_set.images)

    everything = torch.cat([problem.parts["weights"], problem.parts["choices"]])
    assert images(learned) == sorted(image.numpy().tobytes() for image in problem.train.images[everything])
    assert not set(images(learned)) & set(images(looked_at))
    assert len(learned) + len(looked_at) == len(problem.train)


@pytest.mark.parametrize("last", [0, 2])
def test_a_pruned_evaluation_leaves_nothing_behind(problem: SearchProblem, folder: Path, last: int) -> None:
    evaluator = StandAloneEvaluator(problem, CONFIG, folder)
    pruned = Pruned()
    with pytest.raises(Pruned) as raised:
        evaluator.evaluate(drawn(problem), stops_at(last, pruned))
    assert raised.value is pruned
    assert list(folder.iterdir()) == []
    curve, _ = curve_of(evaluator, drawn(problem))
    assert len(curve) == 3  # from the start


@pytest.mark.parametrize("last", [0, 1, 2])
def test_a_killed_evaluation_goes_on_where_it_was_and_reports_the_same_curve(
    problem: SearchProblem, folder: Path, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = curve_of(StandAloneEvaluator(problem, CONFIG, folder / "whole"), drawn(problem))
    with pytest.raises(Kill):
        StandAloneEvaluator(problem, CONFIG, folder).evaluate(drawn(problem), stops_at(last, Kill()))
    assert any(name.endswith("checkpoint.pt") for name in contents(folder))
    looks = 0

    def counted(*arguments: Any) -> TopAccuracies:
        nonlocal looks
        looks += 1
        return top_accuracies(*arguments)

    monkeypatch.setattr(training, "top_accuracies", counted)
    assert curve_of(StandAloneEvaluator(problem, CONFIG, folder), drawn(problem)) == whole
    assert looks == 3 - last  # of the epoch that the kill fell in and those after it
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_an_epoch_that_is_done_again_is_reported_once(
    problem: SearchProblem, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = curve_of(StandAloneEvaluator(problem, CONFIG, folder), drawn(problem))
    steps = 0

    def killed_amid_the_last_epoch(*arguments: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 2 * 8 + 1:
            raise Kill
        clip_gradients(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(optimizer, "clip_gradients", killed_amid_the_last_epoch)
        with pytest.raises(Kill):
            curve_of(StandAloneEvaluator(problem, CONFIG, folder), drawn(problem))
    (log,) = folder.glob("*/log.jsonl")
    assert [line["epoch"] for line in read_log(log) if line["event"] == "epoch"] == [0, 1]
    assert curve_of(StandAloneEvaluator(problem, CONFIG, folder), drawn(problem)) == whole


def test_the_epochs_of_a_killed_evaluation_can_prune_it_without_another_step(
    problem: SearchProblem, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = StandAloneEvaluator(problem, CONFIG, folder)
    with pytest.raises(Kill):
        evaluator.evaluate(drawn(problem), stops_at(2, Kill()))
    monkeypatch.setattr(stand_alone_evaluator, "train", None)
    with pytest.raises(Pruned):
        evaluator.evaluate(drawn(problem), stops_at(1, Pruned()))
    assert list(folder.iterdir()) == []


def test_another_configuration_does_not_go_on_from_the_checkpoint(problem: SearchProblem, folder: Path) -> None:
    other = CONFIG.model_copy(update={"weight_decay": 0.1})
    whole = curve_of(StandAloneEvaluator(problem, other, folder), drawn(problem))
    with pytest.raises(Kill):
        StandAloneEvaluator(problem, CONFIG, folder).evaluate(drawn(problem), stops_at(1, Kill()))
    assert curve_of(StandAloneEvaluator(problem, other, folder), drawn(problem)) == whole


def test_two_evaluations_of_one_architecture_take_turns(problem: SearchProblem, folder: Path) -> None:
    events: list[tuple[int, int, float]] = []
    started = threading.Event()

    def evaluate(who: int) -> None:
        def report(epoch: int, accuracy: float) -> None:
            started.set()
            events.append((who, epoch, accuracy))

        StandAloneEvaluator(problem, CONFIG, folder).evaluate(drawn(problem), report)

    threads = [threading.Thread(target=evaluate, args=(who,)) for who in range(2)]
    threads[0].start()
    assert started.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert [who for who, *_ in events] == [0] * CONFIG.epochs + [1] * CONFIG.epochs
    assert [event[1:] for event in events[: CONFIG.epochs]] == [event[1:] for event in events[CONFIG.epochs :]]
    assert list(folder.iterdir()) == []


def test_an_architecture_of_another_space_is_refused(problem: SearchProblem, folder: Path) -> None:
    other = Architecture("0" * 16, drawn(problem).picks)
    with pytest.raises(ArchitectureError, match="must be of this space"):
        StandAloneEvaluator(problem, CONFIG, folder).evaluate(other, lambda *_: None)
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_told_in_one_line(problem: SearchProblem, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file: the folder must be writable, but got"):
        StandAloneEvaluator(problem, CONFIG, tmp_path / "file").evaluate(drawn(problem), lambda *_: None)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"evaluate_every": 2}, {"average_decay": 0.9}, {"distillation": {"alpha": 0.5, "temperature": 1}}],
)
def test_a_configuration_that_cannot_run_is_refused(wrong: dict[str, Any]) -> None:
    assert OptunaConfig().stand_alone.epochs == 5
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        OptunaConfig.model_validate({"stand_alone": wrong})
