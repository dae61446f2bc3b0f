from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
import torch
from torch import nn

from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import default_recipe, load_recipe
from se_nas.training.schedule import learning_rates
from tests.training.test_timm_parts import recipe

STEP: dict[str, Any] = {"schedule": "step", "decay_epochs": 2.4, "decay_rate": 0.97}


def test_the_default_rises_to_the_peak_and_then_falls_along_half_a_cosine() -> None:
    given = default_recipe(epochs=10, learning_rate=1.0, min_learning_rate=0.1)
    rates = [learning_rates(given, 10)(step) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.55)
    assert all(first > second for first, second in itertools.pairwise(rates[10:]))
    assert rates[32] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * 22 / 90)))


@pytest.mark.parametrize(
    ("step", "steps", "warmup", "rate"), [(0, 1, 0, 1.0), (0, 5, 1, 0.2), (4, 5, 1, 1.0), (0, 5, 0.5, 0.5)]
)
def test_the_default_of_short_runs(step: int, steps: int, warmup: float, rate: float) -> None:
    given = default_recipe(epochs=1, learning_rate=1.0, warmup_epochs=warmup)
    assert learning_rates(given, steps)(step) == pytest.approx(rate)


def as_timm_trains(given: Recipe, steps_per_epoch: int) -> list[float]:
    """The rate at each step of timm's training script: the scheduler is told of each update, then of each epoch."""
    from timm.scheduler import create_scheduler_v2

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=given.peak_learning_rate)
    noise = given.learning_rate_noise
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=given.schedule,
        num_epochs=given.epochs,
        decay_epochs=given.decay_epochs,
        decay_rate=given.decay_rate or 0.1,
        min_lr=given.min_learning_rate * given.batch_size / given.reference_batch_size,
        warmup_lr=given.warmup_learning_rate * given.batch_size / given.reference_batch_size,
        warmup_epochs=given.warmup_epochs,
        noise=list(noise) if noise else None,
        step_on_epochs=given.schedule_per == "epoch",
        updates_per_epoch=steps_per_epoch,
    )
    seen, updates = [], 0
    for epoch in range(given.epochs):
        for _ in range(steps_per_epoch):
            seen.append(optimizer.param_groups[0]["lr"])
            updates += 1
            scheduler.step_update(num_updates=updates)
        scheduler.step(epoch + 1)
    return seen


@pytest.mark.parametrize("per", ["step", "epoch"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"warmup_epochs": 3, "warmup_learning_rate": 1e-3, "min_learning_rate": 1e-4},
        {"warmup_epochs": 3, **STEP},
        {"learning_rate_noise": (0.42, 0.9), **STEP},
    ],
)
def test_rates_are_those_of_timms_training_script(per: str, changes: dict[str, Any]) -> None:
    given = recipe(schedule_per=per, **changes)
    rate = learning_rates(given, 7)
    expected = as_timm_trains(given, 7)
    assert len(set(expected)) >= (4 if per == "epoch" else 5)
    assert [rate(step) for step in range(70)] == expected
    order = list(range(70))
    random.Random(0).shuffle(order)
    assert [rate(step) for step in order] == [expected[step] for step in order]


def test_rates_of_the_se_paper() -> None:
    rate = learning_rates(load_recipe("se-paper"), 10)
    assert [rate(step) for step in (0, 299, 300, 600, 999)] == pytest.approx([0.6, 0.6, 0.06, 0.006, 0.0006])
