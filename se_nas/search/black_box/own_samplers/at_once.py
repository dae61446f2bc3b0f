"""What Optuna asks of every sampler and never of those that propose all picks at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial


class SamplerAtOnce(BaseSampler):
    """A sampler by `sample_relative` alone, which `ArchitectureSampler` asks with all choices and fills in for.

    Args:
        seed: of all that it draws.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None of its own: it is given one."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Uniform over the options."""
        options = options_of(param_distribution)
        return options[int(self._rng.integers(len(options)))]


def options_of(distribution: BaseDistribution) -> tuple[Any, ...]:
    """The options of a choice, each of whose distributions is categorical."""
    assert isinstance(distribution, CategoricalDistribution)
    return distribution.choices
