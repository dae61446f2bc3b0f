"""The regime of trainings: the noise of one beside the spread of the networks that are to be told apart.

Accuracies follow a one-way random layout, y[j, s] = mu + a_j + e_js: networks j are a sample of those at the budgets,
e is what another seed changes. Networks may have different numbers of seeds, so that the spread comes from unweighted
means of networks: their variance is that of a plus that of e over the harmonic mean h of the numbers of seeds. The
interval of the ratio is exact for equal numbers and close to it else (Thomas and Hultquist, Annals of Statistics 6,
1978, 582-587), that of the spread is Williams's (Biometrika 49, 1962, 278-281) of the same means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import chi2, f

from se_nas.evidence.statistics import COVERAGE, Estimate
from se_nas.records.models.evidence import Regime

_TAIL = (1 - COVERAGE) / 2


def regime(accuracies: Sequence[Sequence[float]], resolution: float = 0.0) -> Regime:
    """Noise, spread and their ratio, all standard deviations.

    Args:
        accuracies: of each network, one for each seed; networks without any do not count.
        resolution: the step between two values that an accuracy can have, 1 / images. A few trainings may agree to the
            step by chance, so that the noise is taken to be at least that of a rounding, resolution / sqrt(12).

    Raises:
        ValueError: an accuracy is not finite.
    """
    found = [np.asarray(values, dtype=np.float64) for values in accuracies if len(values)]
    if not all(np.isfinite(values).all() for values in found):
        raise ValueError("accuracies must be finite")
    networks, trainings = len(found), sum(len(values) for values in found)
    dof = trainings - networks
    noise_method = "pooled standard deviation over seeds, chi-squared"
    spread_method = "standard deviation of the means of networks less the noise, Williams"
    ratio_method = "spread over noise of unweighted means, Thomas and Hultquist's F"
    noise = Estimate(math.nan, None, None, dof, noise_method)
    spread = Estimate(math.nan, None, None, networks, spread_method)
    ratio = Estimate(math.nan, None, None, networks, ratio_method)
    if dof:
        within = sum(float(((values - values.mean()) ** 2).sum()) for values in found) / dof
        within = max(within, resolution**2 / 12)
        low, high = (math.sqrt(dof * within / float(chi2.ppf(at, dof))) for at in (1 - _TAIL, _TAIL))
        noise = Estimate(math.sqrt(within), low, high, dof, noise_method)
    if dof and networks > 1 and within > 0:
        free = networks - 1
        h = networks / sum(1 / len(values) for values in found)
        between = h * float(np.var([values.mean() for values in found], ddof=1))  # as a mean square
        statistic = between / within
        quantiles = [float(f.ppf(at, free, dof)) for at in (1 - _TAIL, _TAIL)]
        # each of a, in units of the noise's variance, and in its own
        value, low, high = (_root((statistic / by - 1) / h) for by in (1.0, *quantiles))
        ratio = Estimate(value, low, high, networks, ratio_method, p := float(f.sf(statistic, free, dof)))
        low, high = (
            _root(free * (between - by * within) / (h * float(chi2.ppf(at, free))))
            for by, at in zip(quantiles, (1 - _TAIL, _TAIL), strict=True)
        )
        spread = Estimate(value * math.sqrt(within), low, high, networks, spread_method, p)
    return Regime(
        networks=networks,
        repeated=sum(len(values) > 1 for values in found),
        trainings=trainings,
        noise=noise.entry,
        spread=spread.entry,
        ratio=ratio.entry,
    )


def _root(variance: float) -> float:
    return math.sqrt(max(variance, 0.0))
