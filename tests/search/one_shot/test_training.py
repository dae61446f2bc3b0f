from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from se_nas.cost.counts import network_counts
from se_nas.data.in_memory.batches import DeviceImages
from se_nas.data.in_memory.images import ImageSet
from se_nas.errors import CheckpointError, ConfigError
from se_nas.layers.network import Network
from se_nas.records.checkpoint import load_checkpoint
from se_nas.records.run_log import read_log
from se_nas.search.one_shot import training as one_shot
from se_nas.search.one_shot.config import OneShotConfig
from se_nas.search.one_shot.distillation import alpha_divergence
from se_nas.search.one_shot.samplings import alike, fair_picks
from se_nas.search.one_shot.training import OneShotResult, train_one_shot
from se_nas.search.one_shot.weight_training import CHECKPOINT
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from se_nas.training.loop import StepContext
from tests.helpers.strategies import spaces
from tests.search.problems import make_problem

SAMPLINGS = ("sandwich", "strict_fairness", "uniform")
#: Options whose state a resumed training must take up again, in one training.
WITH_OPTIONS = {"sampling": "best_up", "random_subnets": 1, "distillation": "alpha", "average_decay": 0.9}

#: 160 images of two parts in batches of 20: 8 steps an epoch.
CONFIG = OneShotConfig(epochs=3, batch_size=20, validate_every=2, calibration_images=40)


def config(**changes: Any) -> OneShotConfig:
    return CONFIG.model_copy(update=changes)


def assert_same(one: OneShotResult, other: OneShotResult) -> None:
    assert one.history == other.history
    for name, tensor in one.supernet.state_dict().items():
        assert torch.equal(tensor, other.supernet.state_dict()[name]), name


def context(step: int, seed: int = 1) -> StepContext:
    return StepContext(step, step // 8, step % 8, attempt=0, lr_scale=1.0, seed=seed)


@pytest.fixture(scope="module")
def trained(
    tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[SearchProblem, OneShotResult]]:
    """One uninterrupted training by each sampling."""
    found = {}
    for sampling in SAMPLINGS:
        problem = make_problem(tiny_space, tmp_path_factory.mktemp(sampling))
        found[sampling] = (problem, train_one_shot(problem, config(sampling=sampling)))
    return found


# ---- whole trainings


@pytest.mark.parametrize(("sampling", "stop_at"), [("sandwich", 5), ("strict_fairness", 13), ("uniform", 22)])
def test_a_training_resumed_after_an_interruption_ends_as_one_never_stopped(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampling: str, stop_at: int
) -> None:
    problem, result = trained[sampling]
    problem = dataclasses.replace(problem, folder=tmp_path)
    step = one_shot._OneShot.step
    steps: list[int] = []

    def interrupted(self: Any, at: StepContext) -> Any:
        steps.append(at.step)
        if len(steps) == stop_at + 1:
            raise KeyboardInterrupt
        return step(self, at)

    monkeypatch.setattr(one_shot._OneShot, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_one_shot(problem, config(sampling=sampling))
    resumed = train_one_shot(dataclasses.replace(problem, resume=True), config(sampling=sampling))
    assert_same(resumed, result)
    assert steps[: stop_at + 1] == list(range(stop_at + 1))
    # an epoch's end is trusted, and on disk, once a loss of the next one is sound; so is every 20th step
    assert steps[stop_at + 1] == (20 if stop_at > 20 else (stop_at - 1) // 8 * 8)


def test_a_finished_training_is_taken_up_as_it_is(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, result = trained["sandwich"]
    monkeypatch.setattr(one_shot._OneShot, "step", None)
    assert_same(train_one_shot(dataclasses.replace(problem, resume=True), CONFIG), result)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_history_and_the_sums_say_what_was_trained(trained, sampling: str) -> None:
    _, result = trained[sampling]
    assert [row.epoch for row in result.history] == [0, 1, 2]
    for name in ("largest_accuracy", "smallest_accuracy"):
        assert result.history[0].of(name) is None
        assert all(0 <= row.of(name) <= 1 for row in result.history[1:])  # every second epoch, and the last
    for row in result.history:
        assert math.isfinite(row.loss)
        assert 0 <= row.accuracy <= 1
        assert (row.of("distillation") is not None) == (sampling == "sandwich")
    assert result.images == 3 * 8 * 20
    # the greatest number of options in this space is 3
    assert result.seconds > 0


# a subnet alone a step is the slowest start, and a teacher that knows nothing yet holds its students back
@pytest.mark.parametrize(("sampling", "epochs"), [("sandwich", 10), ("strict_fairness", 8), ("uniform", 20)])
def test_training_lowers_the_loss(tiny_space: SearchSpace, tmp_path: Path, sampling: str, epochs: int) -> None:
    problem = make_problem(tiny_space, tmp_path)
    result = train_one_shot(problem, config(sampling=sampling, epochs=epochs, validate_every=epochs))
    assert result.history[-1].loss < 0.87 * result.history[0].loss
    assert result.history[-1].of("largest_accuracy") > 0.15  # of 10 classes
    assert result.history[-1].of("smallest_accuracy") > 0.15


def test_another_seed_trains_another_way(trained, tmp_path: Path) -> None:
    problem, result = trained["strict_fairness"]
    other = train_one_shot(dataclasses.replace(problem, folder=tmp_path, seed=1), config(sampling="strict_fairness"))
    assert [row.loss for row in other.history] != [row.loss for row in result.history]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_validation_images_leave_no_trace_in_the_weights(trained, tmp_path: Path, sampling: str) -> None:
    problem, result = trained[sampling]
    poisoned = ImageSet(problem.train.images.clone(), problem.train.labels.clone())
    validation = problem.parts["validation"]
    poisoned.images[validation] = 255 - poisoned.images[validation]
    poisoned.labels[validation] = (poisoned.labels[validation] + 1) % problem.info.classes
    other = train_one_shot(dataclasses.replace(problem, folder=tmp_path, train=poisoned), config(sampling=sampling))
    for name, tensor in result.supernet.state_dict().items():
        assert torch.equal(tensor, other.supernet.state_dict()[name]), name
    assert [row.of("largest_accuracy") for row in other.history] != [
        row.of("largest_accuracy") for row in result.history
    ]


def test_every_image_of_both_other_parts_trains_once_an_epoch(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem(tiny_space, tmp_path)
    seen: list[Tensor] = []
    batch = DeviceImages.batch

    def spy(self: Any, indices: Tensor, *arguments: Any) -> Any:
        seen.append(indices)
        return batch(self, indices, *arguments)

    monkeypatch.setattr(DeviceImages, "batch", spy)
    train_one_shot(problem, config(sampling="uniform", epochs=2))
    epochs = torch.cat(seen).reshape(2, -1)
    both = torch.cat([problem.parts["weights"], problem.parts["choices"]]).sort().values
    assert torch.equal(epochs[0].sort().values, both)
    assert torch.equal(epochs[1].sort().values, both)
    assert not torch.equal(epochs[0], epochs[1])


def test_a_batch_of_nan_rolls_back_and_the_training_ends_finite(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, _ = trained["sandwich"]
    calls = 0
    batch = DeviceImages.batch

    def planted(self: Any, indices: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        x, y = batch(self, indices, *arguments)
        return (torch.full_like(x, math.nan) if calls == 12 else x), y

    monkeypatch.setattr(DeviceImages, "batch", planted)
    result = train_one_shot(dataclasses.replace(problem, folder=tmp_path), CONFIG)
    assert len([line for line in read_log(tmp_path / "log.jsonl") if line.get("event") == "rollback"]) == 1
    assert all(tensor.isfinite().all() for tensor in result.supernet.state_dict().values())


def test_a_training_with_every_option_resumed_ends_as_one_never_stopped(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The candidates, the average and what the teacher is, too."""
    options = config(**WITH_OPTIONS, epochs=2, teacher="somewhere")
    problem = make_problem(tiny_space, tmp_path / "whole", teacher=lambda: teacher_of(tiny_space))
    result = train_one_shot(problem, options)
    saved = load_checkpoint(tmp_path / "whole" / CHECKPOINT)["parts"]
    for name, tensor in result.supernet.state_dict().items():
        assert torch.equal(tensor, saved["average"][name]), name
    assert any(not torch.equal(saved["average"][name], tensor) for name, tensor in saved["supernet"].items())

    problem = dataclasses.replace(problem, folder=tmp_path / "stopped")
    step = one_shot._OneShot.step

    def interrupted(self: Any, at: StepContext) -> Any:
        if at.step == 11:
            raise KeyboardInterrupt
        return step(self, at)

    monkeypatch.setattr(one_shot._OneShot, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_one_shot(problem, options)
    monkeypatch.setattr(one_shot._OneShot, "step", step)
    again = dataclasses.replace(problem, resume=True)
    with pytest.raises(CheckpointError, match=r"search\.supernet\.teacher must be the network that the training began"):
        train_one_shot(dataclasses.replace(again, teacher=lambda: teacher_of(tiny_space, seed=1)), options)
    assert_same(train_one_shot(again, options), result)


def teacher_of(space: SearchSpace, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    space = dataclasses.replace(space, classes=10, channels=3)
    return Network(space.resolve(next(space.enumerate()))).eval()


# ---- what a step trains


def test_a_sandwich_holds_the_largest_the_smallest_and_random_ones(tiny_space: SearchSpace, tmp_path: Path) -> None:
    problem = make_problem(tiny_space, tmp_path)
    space = problem.space
    training = one_shot._OneShot(problem, config(random_subnets=3))
    macs = {architecture: network_counts(space.resolve(architecture)).macs for architecture in space.enumerate()}
    random: set[Architecture] = set()
    for step in range(20):
        largest, smallest, *others = training.subnets(context(step, seed=step))
        assert macs[largest] == max(macs.values())
        assert macs[smallest] == min(macs.values())
        assert len(others) == 3
        random.update(others)
    assert random <= set(macs)
    assert len(random) > 20
    assert training.subnets(context(0, seed=7)) == training.subnets(context(9, seed=7))


@given(spaces(), st.integers(-3, 2**40), st.integers(1, 13))
def test_strict_fairness_draws_every_option_equally_often(space: SearchSpace, seed: int, steps: int) -> None:
    assume(space.choices)
    most = max(len(choice.options) for choice in space.choices)
    counts: dict[str, Counter[Any]] = {choice.name: Counter() for choice in space.choices}
    for step in range(steps):
        drawn = fair_picks(space, seed, step)
        assert len(drawn) == most
        for choice in space.choices:
            counts[choice.name].update(picks[choice.name] for picks in drawn)
            each = [counts[choice.name][option] for option in choice.options]
            assert sum(each) == most * (step + 1)
            assert max(each) - min(each) <= 1
            if most % len(choice.options) == 0 or (step + 1) % len(choice.options) == 0:
                assert max(each) == min(each)


def test_strictly_fair_picks_are_independent_and_depend_on_seed_and_step_alone(tiny_space: SearchSpace) -> None:
    draws = {step: fair_picks(tiny_space, 0, step) for step in range(300)}
    assert all(fair_picks(tiny_space, 0, step) == draws[step] for step in (299, 17, 0))
    assert fair_picks(tiny_space, 1, 0) != draws[0]
    # 900 draws: each of the 4 pairs of two choices of two options comes about 225 times, deviation 13
    one, other = [choice for choice in tiny_space.choices if len(choice.options) == 2][:2]
    pairs = Counter((picks[one.name], picks[other.name]) for drawn in draws.values() for picks in drawn)
    assert len(pairs) == 4
    assert all(150 < count < 300 for count in pairs.values())


def test_a_training_draws_fairly_over_all_its_steps(tiny_space: SearchSpace, tmp_path: Path) -> None:
    """Whatever the seeds of its steps are, which a rollback changes."""
    problem = make_problem(tiny_space, tmp_path, seed=5)
    training = one_shot._OneShot(problem, config(sampling="strict_fairness"))
    for step in range(10):
        expected = [problem.space.architecture(picks) for picks in fair_picks(problem.space, 5, step)]
        assert training.subnets(context(step, seed=step)) == expected


def test_uniform_sampling_trains_one_subnet_a_step(tiny_space: SearchSpace, tmp_path: Path) -> None:
    training = one_shot._OneShot(make_problem(tiny_space, tmp_path), config(sampling="uniform"))
    drawn = [training.subnets(context(0, seed=seed)) for seed in range(30)]
    assert all(len(subnets) == 1 for subnets in drawn)
    assert len({subnets[0] for subnets in drawn}) > 15


@pytest.mark.parametrize("sampling", ["best_up", "worst_up"])
def test_the_best_or_the_worst_of_alike_subnets_on_the_steps_images_is_trained(
    tiny_space: SearchSpace, tmp_path: Path, sampling: str
) -> None:
    problem = make_problem(tiny_space, tmp_path)
    training = one_shot._OneShot(problem, config(sampling=sampling, random_subnets=2, candidates=4))
    x, y = training.images.at(8).batch(problem.parts["weights"][:20])
    at = context(0, seed=5)
    assert training.subnets(at) == [training.largest, training.smallest]
    chosen = training.attended(at, 0, x, y)
    rng = np.random.default_rng([5, 0])
    for found in chosen:
        candidates = alike(problem.tables["macs"], rng, 4)
        with torch.no_grad():
            losses = [
                F.cross_entropy(training.supernet.activate(subnet)(x), y, label_smoothing=0.1) for subnet in candidates
            ]
        wanted = max if sampling == "worst_up" else min
        assert found == candidates[losses.index(wanted(losses))]
        assert min(losses) < max(losses)
    assert all(p.grad is None for p in training.supernet.parameters())
    others = {tuple(training.attended(context(0, seed=seed), 0, x, y)) for seed in range(4)}
    assert len(others) > 1


def test_the_average_is_of_the_weights_after_each_step_and_is_what_is_validated(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    training = one_shot._OneShot(make_problem(tiny_space, tmp_path), config(sampling="uniform", average_decay=0.1))
    kept = []
    for step in range(2):
        training._step(context(step, seed=step))
        kept.append({name: tensor.clone() for name, tensor in training.supernet.state_dict().items()})
    averaged = training.trained.state_dict()
    for name, tensor in averaged.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, 0.1 * kept[0][name] + 0.9 * kept[1][name])
    assert training.trained is not training.supernet
    for p in training.supernet.parameters():
        p.data.fill_(math.nan)
    assert training.validate(training.largest) >= 0
    assert all(tensor.isfinite().all() for tensor in training.trained.state_dict().values())


# ---- gradients


def gradients(training: one_shot._OneShot) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in training.supernet.named_parameters()
    }


def assert_sum(total: dict[str, Tensor], parts: list[dict[str, Tensor]]) -> None:
    for name, gradient in total.items():
        torch.testing.assert_close(gradient, sum(part[name] for part in parts), rtol=1e-4, atol=1e-6)
    assert any(gradient.abs().max() > 1e-3 for gradient in total.values())


@pytest.mark.parametrize("sampling", ["strict_fairness", "uniform"])
def test_the_gradient_of_a_step_is_the_sum_of_those_of_its_subnets(
    tiny_space: SearchSpace, tmp_path: Path, sampling: str
) -> None:
    problem = make_problem(tiny_space, tmp_path)
    training = one_shot._OneShot(problem, config(sampling=sampling))
    x, y = training.images.batch(problem.parts["weights"][:20])
    subnets = training.subnets(context(3))
    training.add_gradients(subnets, x, y)
    together = gradients(training)
    alone = []
    for subnet in subnets:
        training.supernet.zero_grad()
        F.cross_entropy(training.supernet.activate(subnet)(x), y, label_smoothing=0.1).backward()
        alone.append(gradients(training))
    assert_sum(together, alone)


def test_the_gradient_of_a_sandwich_is_that_of_the_labels_and_of_a_fixed_teacher(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    problem = make_problem(tiny_space, tmp_path)
    training = one_shot._OneShot(problem, CONFIG)
    x, y = training.images.batch(problem.parts["weights"][:20])
    largest, *students = training.subnets(context(3))
    training.add_gradients([largest, *students], x, y)
    together = gradients(training)

    training.supernet.zero_grad()
    logits = training.supernet.activate(largest)(x)
    F.cross_entropy(logits, y, label_smoothing=0.1).backward()
    alone = [gradients(training)]
    target = logits.detach().softmax(1)
    for student in students:
        training.supernet.zero_grad()
        F.cross_entropy(training.supernet.activate(student)(x), target).backward()
        alone.append(gradients(training))
    assert_sum(together, alone)


@pytest.mark.parametrize(("distillation", "taught"), [("none", False), ("alpha", False), ("alpha", True)])
def test_the_gradient_of_a_step_follows_what_is_learned_from(
    tiny_space: SearchSpace, tmp_path: Path, distillation: str, taught: bool
) -> None:
    """Labels alone; the largest one's answers; and with a teacher, of every subnet, its answers beside the labels."""
    teacher = teacher_of(tiny_space) if taught else None
    problem = make_problem(tiny_space, tmp_path, teacher=teacher and (lambda: teacher))
    options = {"distillation": distillation, "teacher": "somewhere" if taught else None, "random_subnets": 1}
    training = one_shot._OneShot(problem, config(**options))
    x, y = training.images.at(8).batch(problem.parts["weights"][:20])
    subnets = training.subnets(context(3))
    metrics = training.add_gradients(subnets, x, y)
    assert ("distillation" in metrics) == (distillation != "none")
    together = gradients(training)
    alone = []
    soft = teacher(x).detach() if teacher is not None else training.supernet.activate(training.largest)(x).detach()
    for number, subnet in enumerate(subnets):
        training.supernet.zero_grad()
        predicted = training.supernet.activate(subnet)(x)
        loss = torch.zeros(())
        if taught or distillation == "none" or number == 0:
            loss = loss + F.cross_entropy(predicted, y, label_smoothing=0.1)
        if taught or (distillation == "alpha" and number > 0):
            loss = loss + alpha_divergence(predicted, soft)
        loss.backward()
        alone.append(gradients(training))
    assert_sum(together, alone)


def test_what_no_subnet_of_a_step_holds_stays_as_it_is(tiny_space: SearchSpace, tmp_path: Path) -> None:
    """Neither weight decay nor the momentum of earlier steps moves it."""
    problem = make_problem(tiny_space, tmp_path)
    training = one_shot._OneShot(problem, config(sampling="uniform", weight_decay=0.1))
    training.subnets = lambda at, part: [training.largest]  # type: ignore[method-assign]
    training.step(context(0))
    before = {name: p.detach().clone() for name, p in training.supernet.named_parameters()}
    training.subnets = lambda at, part: [training.smallest]  # type: ignore[method-assign]
    training.step(context(1))
    moved = {name: not torch.equal(p, before[name]) for name, p in training.supernet.named_parameters()}
    second_block = [name for name in moved if name.startswith("slots.1.")]  # the smallest is too shallow for it
    assert second_block
    assert not any(moved[name] for name in second_block)
    assert all(moved[name] for name in moved if name.startswith(("stem.", "head.")))


# ---- configurations


@pytest.mark.parametrize(
    "wrong", [{"sampling": "fair"}, {"epochs": 0}, {"random_subnets": -1}, {"learning_rate": 0.0}, {"epoch": 3}]
)
def test_a_configuration_that_cannot_run_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        OneShotConfig.model_validate(wrong)


@pytest.mark.parametrize(
    ("wrong", "key", "must"),
    [
        ({"sampling": "uniform", "distillation": "kl"}, "distillation", "without a teacher, unless sampling is one of"),
        ({"sampling": "strict_fairness", "distillation": "alpha"}, "distillation", "without a teacher, unless"),
        ({"distillation": "none", "teacher": "there"}, "distillation", "must be auto, kl or alpha with a teacher"),
        ({"teacher_checkpoint": "there.pt"}, "teacher_checkpoint", "must be left out without teacher"),
        ({"candidates": 5}, "candidates", "must be null unless sampling is best_up or worst_up"),
        ({"sampling": "best_up", "candidates": 1}, "candidates", "greater than or equal to 2"),
        ({"sampling": "worst_up", "random_subnets": 0}, "random_subnets", "at least 1 with sampling worst_up"),
        ({"average_decay": 1.0}, "average_decay", "less than 1"),
    ],
)
def test_options_that_make_no_sense_together_are_refused_by_the_one_that_does_not_fit(
    wrong: dict[str, Any], key: str, must: str
) -> None:
    with pytest.raises(ValidationError, match=must) as error:
        OneShotConfig.model_validate(wrong)
    assert [fault["loc"] for fault in error.value.errors()] == [(key,)]


def test_a_teacher_that_is_named_but_not_given_is_refused(tiny_space: SearchSpace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"search\.supernet.*teacher: must be given"):
        train_one_shot(make_problem(tiny_space, tmp_path), config(teacher="somewhere"))


def test_what_a_configuration_gives_back_it_takes() -> None:
    for values in ({}, WITH_OPTIONS, {"sampling": "uniform"}):
        options = OneShotConfig.model_validate(values)
        assert OneShotConfig.model_validate(options.model_dump(mode="json")) == options


def test_a_space_without_a_choice_is_refused_before_any_training(tmp_path: Path) -> None:
    space = parse_space(
        {"name": "fixed", "resolution": 8, "stem": {"width": 8}, "stages": [{"width": 8, "depth": 1}]}, "fixed"
    )
    with pytest.raises(ConfigError, match="must leave a choice"):
        train_one_shot(make_problem(space, tmp_path / "search"), CONFIG)
    assert list(tmp_path.rglob("*")) == []
