"""Regularised evolution as a sampler of Optuna's: Real et al., https://arxiv.org/abs/1802.01548."""

from __future__ import annotations

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from se_nas.search.black_box.own_samplers.at_once import SamplerAtOnce, options_of
from se_nas.space.choice import Option


class RegularizedEvolutionSampler(SamplerAtOnce):
    """Ageing evolution: of the last `population` complete trials, draw `tournament`, and mutate one pick of the best.

    Feasible trials come before infeasible ones, then the better value, then the smaller sum of violations.
    """

    def __init__(self, population: int, tournament: int, seed: int) -> None:
        super().__init__(seed)
        self._population, self._tournament = population, tournament

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
        others = [option for option in options_of(search_space[name]) if option != parent.params.get(name)]
        return {**parent.params, name: others[int(self._rng.integers(len(others)))]}
