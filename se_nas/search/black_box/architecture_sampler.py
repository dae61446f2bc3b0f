"""Optuna samplers over a search space: every proposal is a canonical architecture that keeps the budgets and is new.

`ArchitectureSampler` lets any of Optuna's samplers, or our regularised evolution, propose picks; fills in what it left
open; repairs what breaks a budget by the exact decode; and moves what was evaluated before to an unseen neighbour.

NSGA-II: Deb et al. 2002. NSGA-III: Deb and Jain 2014. TPE: https://arxiv.org/abs/2304.11127. Regularised evolution:
Real et al., https://arxiv.org/abs/1802.01548.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Mapping
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import BaseTrial, FrozenTrial

from se_nas.search.black_box.candidate import Unseen
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.samplers import SAMPLERS, SamplerSettings
from se_nas.search.budgets.repair import Repair
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace

#: Single changes to a proposal that was evaluated before, until the nearest new one is looked up or, in a space that is
#: too large for that, the proposal is taken as it is.
MOVES = 20
#: Where a trial's attributes keep its picks, written at once before Optuna writes them one by one.
PROPOSAL = "proposal"

Distributions = dict[str, BaseDistribution]


def distributions(space: SearchSpace) -> Distributions:
    """Each choice as Optuna's categorical distribution."""
    return {choice.name: CategoricalDistribution(choice.options) for choice in space.choices}


class ArchitectureSampler(BaseSampler):
    """Wraps a sampler so that it proposes new, canonical, feasible architectures.

    The wrapped sampler is made anew for each proposal and seeded from (seed, number of the proposal): all else that it
    knows it reads from the study, so that a search resumed after a kill proposes what it would have proposed.

    Args:
        repair: decides what a proposal must keep.
        seen: the architectures proposed so far; read at each proposal.
        unseen: all others that may be proposed; None where that is all of a large space. Read likewise.
        parallel: whether several proposals are evaluated at a time.
    """

    def __init__(
        self,
        space: SearchSpace,
        config: OptunaConfig,
        repair: Repair,
        *,
        seed: int,
        seen: Collection[Architecture],
        unseen: Unseen | None,
        parallel: bool,
    ) -> None:
        self._space, self._config, self._seed, self._repair = space, config, seed, repair
        self._seen, self._unseen, self._parallel = seen, unseen, parallel
        self._distributions = distributions(space)
        self._sampler = SAMPLERS[config.chosen_sampler]

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Put it into a generation, enqueued ones too, so that they can become parents."""
        base = self._base(self._seed)
        if isinstance(base, optuna.samplers.BaseGASampler):
            base.get_trial_generation(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Distributions:
        """All choices, always."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: Distributions
    ) -> dict[str, Option]:
        """Picks for every choice of the space; for a proposal that a kill cut short, those that it began with."""
        begun = trial.system_attrs.get(PROPOSAL)
        if begun is not None:
            return dict(begun)
        words = repr((self._seed, "proposal", trial.number)).encode()
        seed = int.from_bytes(hashlib.blake2b(words, digest_size=4).digest(), "little")
        rng = np.random.default_rng(seed)
        picks = {**self._space.sample(rng).as_dict(), **self._proposed(study, trial, seed)}
        found = self._new(self._repair.nearest(picks, rng), rng).as_dict()
        study._storage.set_trial_system_attr(trial._trial_id, PROPOSAL, found)
        return found

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never asked for, because `sample_relative` covers every choice."""
        raise AssertionError(f"{param_name} is no choice of space {self._space.name}")

    def _base(self, seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            config = self._config
            decode = self._repair.best
            return self._sampler.build(
                SamplerSettings(config.population, config.tournament, seed, self._parallel, decode)
            )

    def _proposed(self, study: optuna.Study, trial: FrozenTrial, seed: int) -> Mapping[str, Option]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            base = self._base(seed)
            if isinstance(base, optuna.samplers.BaseGASampler):
                # a generation's parents are drawn once and kept; what comes after must not depend on whether just now
                base.get_parent_population(study, base.get_trial_generation(study, trial))
                base = self._base(seed)
            grouped = self._sampler.grouped
            space = base.infer_relative_search_space(study, trial) if grouped else self._distributions
            return base.sample_relative(study, trial, space)

    def _new(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        choices = self._space.choices
        for _ in range(MOVES):
            if architecture not in self._seen:
                break
            choice = choices[int(rng.integers(len(choices)))]
            option = choice.options[int(rng.integers(len(choice.options)))]
            architecture = self._repair.nearest({**architecture.as_dict(), choice.name: option}, rng)
        if self._unseen and architecture not in self._unseen:
            return self._unseen.nearest(architecture, rng)
        return architecture


class SuggestedPicks(dict[str, Option]):
    """Picks that a trial is asked for when they are first looked at."""

    def __init__(self, trial: BaseTrial, space: SearchSpace) -> None:
        super().__init__()
        self._trial, self._space = trial, space

    def __missing__(self, choice: str) -> Option:
        options = self._space.choice_by_name[choice].options
        self[choice] = cast(Option, self._trial.suggest_categorical(choice, options))
        return self[choice]


def suggest(trial: BaseTrial, space: SearchSpace, grouped: bool) -> Architecture:
    """Ask a trial for every choice as a parameter; where the sampler groups them, for those alone that are in use."""
    picks = SuggestedPicks(trial, space)
    for width in space.widths:
        width.axis.picked(picks)
    for _, op in space.slots_in_use(picks):
        op.picked(picks)
    if not grouped:
        return space.architecture({choice.name: picks[choice.name] for choice in space.choices})
    return completed(picks, space)


def completed(picks: Mapping[str, Option], space: SearchSpace) -> Architecture:
    """The architecture of picks that may lack choices that are not in use."""
    return space.architecture({choice.name: choice.options[0] for choice in space.choices} | dict(picks))
