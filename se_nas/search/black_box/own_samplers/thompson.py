"""Thompson sampling with a linear predictor as a sampler of Optuna's.

The accuracy of a network is predicted as a sum over its picks, by Bayesian ridge regression on the evaluations so far
(Tipping, JMLR 1, 2001; scikit-learn's `BayesianRidge`, which finds the noise and the prior by the evidence). Of the
posterior one set of scores is drawn (Thompson, Biometrika 25, 1933; for linear models Agrawal and Goyal, arXiv
1209.3352), and the proposal is the network within the budgets whose scores sum to most: the exact decode, as no list of
candidates has it. A draw is as bold as the data leave room for, so that several workers propose different networks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from se_nas.search.black_box.own_samplers.at_once import SamplerAtOnce, options_of
from se_nas.space.choice import Option

#: Complete trials before anything is predicted; until then proposals are drawn at random.
FIRST = 16

Scores = dict[str, npt.NDArray[np.float64]]


class ThompsonSampler(SamplerAtOnce):
    """See the module.

    Args:
        decode: the best picks within the budgets by scores, for each choice one number an option.
    """

    def __init__(self, decode: Callable[[Scores], Mapping[str, Option]], seed: int) -> None:
        super().__init__(seed)
        self._decode = decode

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Option]:
        """The picks that are best by scores drawn from the posterior; nothing while too little is known."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        options = {name: options_of(distribution) for name, distribution in sorted(search_space.items())}
        if len(complete) < FIRST:
            return {}
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        values = sign * np.array([float(entry.value or 0.0) for entry in complete])
        rows = np.array(
            [[entry.params.get(n) == o for n, all_of in options.items() for o in all_of] for entry in complete]
        )
        drawn = self._drawn(rows.astype(np.float64), values)
        ends = np.cumsum([len(all_of) for all_of in options.values()])[:-1]
        return dict(self._decode(dict(zip(options, np.split(drawn, ends), strict=True))))

    def _drawn(self, rows: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(options,) scores from the posterior, given the (trials, options) picks and the (trials,) values."""
        from sklearn.linear_model import BayesianRidge  # takes a second to import

        spread = float(values.std())
        if spread == 0.0:  # nothing is known of any option
            blind: npt.NDArray[np.float64] = self._rng.standard_normal((rows.shape[1],))
            return blind
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a fit that has not converged, which is as good
            found = BayesianRidge().fit(rows, (values - values.mean()) / spread)
        drawn: npt.NDArray[np.float64] = self._rng.multivariate_normal(found.coef_, found.sigma_, method="eigh")
        return drawn
