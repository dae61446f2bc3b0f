"""Optuna's samplers and ours, by the name that `sampler:` of a run file gives them; read without Optuna."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from se_nas.records.registry import Registry
from se_nas.space.choice import Option

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@dataclass(frozen=True)
class SamplerSettings:
    """What a sampler is made from.

    Attributes:
        population, tournament: as the run file has them; see `OptunaConfig`.
        seed: another one for each proposal, as a sampler is made for each anew.
        parallel: whether several proposals are evaluated at a time.
        decode: the best picks within the budgets, given for each choice a score of each option.
    """

    population: int
    tournament: int
    seed: int
    parallel: bool
    decode: Callable[[Mapping[str, NDArray[np.float64]]], Mapping[str, Option]]


@dataclass(frozen=True)
class Sampler:
    """One way to propose architectures.

    Attributes:
        label: what it is called in pages.
        build: makes it. It proposes from what it finds in the study alone: what it knew is gone at the next proposal.
        several: whether it can have several objectives.
        grouped: whether it is shown those choices alone that are in use together.
    """

    label: str
    build: Callable[[SamplerSettings], BaseSampler]
    several: bool = True
    grouped: bool = False


def _nsga2(settings: SamplerSettings) -> BaseSampler:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=settings.population, seed=settings.seed)


def _nsga3(settings: SamplerSettings) -> BaseSampler:
    from optuna.samplers import NSGAIIISampler

    return NSGAIIISampler(population_size=settings.population, seed=settings.seed)


def _tpe(settings: SamplerSettings) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(multivariate=True, group=True, constant_liar=settings.parallel, seed=settings.seed)


def _gp(settings: SamplerSettings) -> BaseSampler:
    from optuna.samplers import GPSampler

    return GPSampler(deterministic_objective=True, seed=settings.seed)


def _random(settings: SamplerSettings) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=settings.seed)


def _evolution(settings: SamplerSettings) -> BaseSampler:
    from se_nas.search.black_box.own_samplers.evolution import RegularizedEvolutionSampler

    return RegularizedEvolutionSampler(settings.population, settings.tournament, settings.seed)


def _thompson(settings: SamplerSettings) -> BaseSampler:
    from se_nas.search.black_box.own_samplers.thompson import ThompsonSampler

    return ThompsonSampler(settings.decode, settings.seed)


SAMPLERS: Registry[Sampler] = Registry(
    "sampler",
    {
        "nsga2": Sampler("NSGA-II", _nsga2),
        "nsga3": Sampler("NSGA-III", _nsga3),
        "tpe": Sampler("TPE", _tpe, grouped=True),
        "gp": Sampler("a Gaussian process", _gp),
        "random": Sampler("chance", _random),
        "evolution": Sampler("regularised evolution", _evolution, several=False),
        "predictor": Sampler("Thompson sampling with a linear predictor", _thompson, several=False),
    },
)
#: Stands for regularised evolution with one objective, and for NSGA-II with several.
AUTO = "auto"
