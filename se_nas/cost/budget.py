"""A budget: an upper limit on one cost metric of the architecture that is searched for."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from se_nas.cost.metrics import METRICS, Metric
from se_nas.errors import ConfigError, did_you_mean, short

_POWERS = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9}
_NUMBER = re.compile(r"([0-9]*\.?[0-9]+)(?:[eE]([-+]?[0-9]{1,3}))?\s*([kKMG]?)(B?)")


@dataclass(frozen=True)
class Budget:
    """`metric` (a key of METRICS) must be at most `limit`, in the metric's unit."""

    metric: str
    limit: float

    def holds(self, cost: float) -> bool:
        """Whether a cost keeps the budget."""
        return cost <= self.limit

    def __str__(self) -> str:
        return f"{self.metric} <= {format_cost(self.metric, self.limit)}"


def parse_budgets(values: Mapping[str, object], source: str) -> tuple[Budget, ...]:
    """Budgets from plain data such as `{"macs": "20M", "latency_ms": 3.0}`; k, M and G mean thousands and so on.

    Of bytes the limit may end in B, as in 4MB.

    Raises:
        ConfigError: with every unknown metric and every limit that is no number above 0.
    """
    problems, budgets = [], []
    for metric, value in values.items():
        if metric not in METRICS:
            hint = did_you_mean(str(metric), METRICS)
            problems.append(f"budgets.{metric}: a budget must be on one of {', '.join(METRICS)}{hint}")
            continue
        # Python refuses to write out a whole number of thousands of digits
        match = _NUMBER.fullmatch((short(value) if isinstance(value, int) else str(value)).strip())
        if match and match[4] and METRICS[metric].unit != match[4]:
            match = None
        # read as one number: 4.1 * 1e6 would fall short of 4.1M
        limit = float(f"{match[1]}e{int(match[2] or 0) + _POWERS[match[3]]}") if match else math.nan
        if not 0 < limit < math.inf:
            must = "a limit must be a number above 0 such as 20M or 3.5"
            problems.append(f"budgets.{metric}: {must}, but got {short(value)}")
            continue
        budgets.append(Budget(metric, limit))
    if problems:
        raise ConfigError(source, problems)
    return tuple(budgets)


def parse_budget_options(options: Iterable[str], source: str) -> tuple[Budget, ...]:
    """Budgets from command-line words such as `macs=15M`, one for each metric."""
    words = list(options)
    wrong = [word for word in words if word.count("=") != 1]
    if wrong:
        raise ConfigError(
            source, [f"a budget must be METRIC=LIMIT such as macs=15M, but got {short(w)}" for w in wrong]
        )
    pairs = [word.split("=") for word in words]
    metrics = [metric for metric, _ in pairs]
    if twice := [metric for metric in dict.fromkeys(metrics) if metrics.count(metric) > 1]:
        raise ConfigError(source, [f"{short(metric)}: must be given once, but is given twice" for metric in twice])
    return parse_budgets(dict(pairs), source)


def format_cost(metric: str, value: float, up: bool = False) -> str:
    """A cost for people: `4.21 M MACs`, `310 k parameters`, `1.93 ms`; `up` rounds it up, to be read as a limit.

    Of a metric that is not registered, as that of a table made by hand, the name is its unit.
    """
    known = METRICS.get(metric) or Metric(title=metric, unit=metric, prefixes=False)
    return known.format(value, up)
