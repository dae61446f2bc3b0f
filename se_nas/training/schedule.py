"""The learning rate as a function of the step: nothing to save, and a run that goes back finds the same rates.

Cosine: https://arxiv.org/abs/1608.03983; linear warm-up: https://arxiv.org/abs/1706.02677. Without `warmup_prefix` the
rates are those of timm's schedulers, their noise included (https://github.com/huggingface/pytorch-image-models).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from se_nas.training.recipe import Recipe

_NOISE_SEED = 42
_GREATEST_NOISE = 0.67


def learning_rates(recipe: Recipe, steps_per_epoch: int) -> Callable[[int], float]:
    """The learning rate of each step of the run, counted from 0."""
    per_epoch = recipe.schedule_per == "epoch"
    unit = 1 if per_epoch else steps_per_epoch  # the schedule's own time to an epoch
    peak, lowest = recipe.peak_learning_rate, recipe.min_learning_rate * recipe.batch_scale
    first = None if recipe.warmup_learning_rate is None else recipe.warmup_learning_rate * recipe.batch_scale
    warmup: float = recipe.warmup_epochs * unit
    if first is None:
        warmup = int(warmup)  # whole shares
    before = warmup if recipe.warmup_prefix else 0
    length = max(1, recipe.epochs * unit - before)
    noisy = None if recipe.learning_rate_noise is None else [share * length for share in recipe.learning_rate_noise]

    def scheduled(time: float) -> float:
        if recipe.schedule == "step":
            assert recipe.decay_epochs is not None
            assert recipe.decay_rate is not None
            decayed: float = peak * recipe.decay_rate ** (time // (recipe.decay_epochs * unit))
            return decayed
        return lowest + 0.5 * (peak - lowest) * (1 + math.cos(math.pi * min(time, length) / length))

    def rate(step: int) -> float:
        time = step // steps_per_epoch if per_epoch else step
        if time >= warmup:
            value = scheduled(time - before)
        elif first is None:
            value = peak * (time + 1) / warmup
        else:
            value = first + time * ((peak - first) / warmup)
        return value + value * _noise(time) if noisy and noisy[0] <= time < noisy[1] else value

    return rate


def _noise(time: int) -> float:
    """timm's: normal, drawn again while it is too great."""
    generator = torch.Generator().manual_seed(_NOISE_SEED + time)
    while True:
        drawn = torch.randn(1, generator=generator).item()
        if abs(drawn) < _GREATEST_NOISE:
            return drawn
