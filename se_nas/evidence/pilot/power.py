"""How many seeds a comparison needs, reckoned before it is made.

The power of a comparison is the chance that its 95 % interval leaves out 0 where the true difference is so large. It
follows from the spread of trainings and of networks, which a pilot measures (Cohen, Statistical Power Analysis for the
Behavioral Sciences, 2nd ed., 1988, chapter 2; the noncentral t law of scipy).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from scipy.stats import nct, t

from se_nas.errors import counted
from se_nas.evidence.statistics import COVERAGE, crossed_variance
from se_nas.records.models.plan import Primary

#: No plan asks for more trainings of each network.
MOST_SEEDS = 100


def power_against_mean(difference: float, noise: float, spread: float, networks: int, seeds: int) -> float:
    """The power of `crossed_difference` of an answer and the mean of networks drawn at random.

    Args:
        difference: true mean accuracy of the answer less that of the space.
        noise: standard deviation of the accuracy of one network over trainings.
        spread: standard deviation of the true accuracies of networks.
        networks: how many are drawn; of one this is `power_against_one` and the spread a part of the difference.
        seeds: 2 or more, with each of which all are trained.
    """
    if networks == 1:
        return power_against_one(difference, noise, seeds)
    # expected mean squares of the differences: the answer's noise is that of a seed, the networks' is the residual
    e = noise**2
    a, b = e + seeds * spread**2, e + networks * noise**2
    total, dof = crossed_variance(a, b, e, networks, seeds)
    return _power(difference, math.sqrt(total / (networks * seeds)), dof)


def power_against_one(difference: float, noise: float, seeds: int) -> float:
    """The power of `paired_difference` of two networks, each with noise of its own.

    Args:
        difference: of their true mean accuracies.
        noise: standard deviation of the accuracy of one network over trainings.
        seeds: 2 or more.
    """
    return _power(difference, noise * math.sqrt(2 / seeds), seeds - 1)


def seeds_for(power: float, of: Callable[[int], float]) -> int | None:
    """The fewest seeds whose power is at least so much; None where `MOST_SEEDS` do not reach it.

    Args:
        of: the power by the number of seeds.
    """
    return next((seeds for seeds in range(2, MOST_SEEDS + 1) if of(seeds) >= power), None)


def power_of(primary: Primary, networks: int) -> Callable[[int], float]:
    """The power of a claim's comparison with so many random networks, by the number of seeds."""
    if primary.spread is None:
        return partial(power_against_one, primary.difference, primary.noise)
    return partial(power_against_mean, primary.difference, primary.noise, primary.spread, networks)


def claim_fault(primary: Primary, networks: int, seeds: Sequence[int] | None) -> str | None:
    """Why a claim cannot be tested, or, where its power is to say the seeds, no number of them reaches it."""
    if networks < 2 or (seeds is not None and len(seeds) < 2):
        what = "random networks" if primary.counted_by == "random" else "random networks of the answer's size (of_size)"
        least = f"needs 2 or more {what} and 2 or more seeds, to tell networks and trainings apart"
        got = counted(networks, "network") + ("" if seeds is None else f" and seeds {list(seeds)}")
        return f"primary: a claim {least}, but got {got}"
    power = power_of(primary, networks)
    if seeds is not None or seeds_for(primary.power, power) is not None:
        return None
    more = "" if primary.spread is None else f", or `{primary.counted_by}` more than {networks} networks"
    must = f"must be {power(MOST_SEEDS):.2f} at most{more}"
    return f"primary.power: {must}, as no number of seeds reaches it, but got {primary.power}"


def _power(difference: float, error: float, dof: float) -> float:
    ends, off = float(t.ppf((1 + COVERAGE) / 2, dof)), difference / error
    far = float(nct.cdf(-ends, dof, off))  # nan of scipy's where this tail is less than 1e-8
    return float(nct.sf(ends, dof, off)) + (far if math.isfinite(far) else 0.0)
