"""Regularised evolution as a sampler of Optuna's: Real et al., https://arxiv.org/abs/1802.01548."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from se_nas.space.choice import Option


class RegularizedEvolutionSampler(BaseSampler):
    """Ageing evolution: of the last `population` complete trials, draw `tournament`, and mutate one pick of the best.

    Feasible trials come before infeasible ones, then the better value, then the smaller sum of violations.
    """

    def __init__(self, population: int, tournament: int, seed: int) -> None:
        self._population, self._tournament = population, tournament
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Whatever it is given; `ArchitectureSampler` gives all choices."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Option]:
        """The parent's picks with one changed; nothing while the first population is drawn at random."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(complete) < self._population:
            return {}
        alive = complete[-self._population :]
        drawn = self._rng.choice(len(alive), min(self._tournament, len(alive)), replace=False)
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0

        def fitness(entry: FrozenTrial) -> tuple[float, float]:
            excess = sum(max(0.0, value) for value in entry.constraints.values())
            return -excess, sign * float(entry.value or 0.0)

        parent = max((alive[int(i)] for i in drawn), key=fitness)
        name = sorted(search_space)[int(self._rng.integers(len(search_space)))]
        distribution = search_space[name]
        assert isinstance(distribution, CategoricalDistribution)
        others = [option for option in distribution.choices if option != parent.params.get(name)]
        return {**parent.params, name: others[int(self._rng.integers(len(others)))]}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Uniform over the options."""
        assert isinstance(param_distribution, CategoricalDistribution)
        return param_distribution.choices[int(self._rng.integers(len(param_distribution.choices)))]
