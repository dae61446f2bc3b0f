"""Successive halving of evaluations by their first epochs, as a function of what was reported and of nothing else.

Asynchronous successive halving: https://arxiv.org/abs/1810.05934. Hyperband, which is successive halving in several
brackets: https://arxiv.org/abs/1603.06560. Optuna's own pruners remember in each trial which rungs it has passed, so
that one asked twice, as after a kill, answers otherwise; and draw brackets by the study's name.
"""

from __future__ import annotations

import itertools
import math

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from se_nas.search.black_box.config import OptunaConfig

#: Of those that reach a rung, one in so many goes on.
REDUCTION = 3


class HalvingPruner(BasePruner):
    """After 1, 3, 9, ... epochs only the best third goes on; the last epoch is never followed by pruning.

    Args:
        epochs: of a whole evaluation.
        hyperband: proposals are dealt to brackets, each of which has its first rung later, the last one none.
    """

    def __init__(self, epochs: int, hyperband: bool) -> None:
        self._rungs = list(itertools.takewhile(lambda e: e < epochs, (REDUCTION**k for k in itertools.count())))
        # a proposal's bracket is its number of rungs; the fewer rungs, the fewer proposals, for each then costs more
        most = len(self._rungs)
        shares = [(n, math.ceil((most + 1) / (n + 1) * REDUCTION**n)) for n in range(most, -1, -1)]
        self._deal = [n for n, share in shares for _ in range(share)] if hyperband else [most]

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the evaluation, at the epoch that it reported last, is to end."""
        epoch = trial.last_step
        bracket = self._bracket(trial)
        if epoch is None or epoch + 1 not in self._rungs[len(self._rungs) - bracket :]:
            return False
        reached = sorted(
            other.intermediate_values[epoch]
            for other in study.get_trials(deepcopy=False)
            if epoch in other.intermediate_values and self._bracket(other) == bracket
        )
        return trial.intermediate_values[epoch] < reached[-max(1, len(reached) // REDUCTION)]

    def _bracket(self, trial: FrozenTrial) -> int:
        return self._deal[trial.number % len(self._deal)]


def make_pruner(config: OptunaConfig) -> BasePruner:
    """The pruner that a configuration names."""
    if config.pruner == "none" or config.epochs is None:
        return optuna.pruners.NopPruner()
    return HalvingPruner(config.epochs, hyperband=config.pruner == "hyperband")
