"""Rules by which a search ends early and answers with the best that it has: a time, or a plateau."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import PositiveFloat

from se_nas.records.models.stopped import Rule, Stopped
from se_nas.records.numbers import Count
from se_nas.search.strategy_config import StrategyConfig

#: Of `max_seconds`, what comes before the first evaluation may take this share, so that there is time for evaluations.
PREPARE_SHARE = 0.75


class StoppingConfig(StrategyConfig):
    """Base of the models of `search:` of strategies that can end early, which ask `rule_that_stops`.

    Both may be changed where a run is resumed: a search that they ended goes on from where it was.

    Attributes:
        max_seconds: the search ends after so much wall time, added up over resumed processes, once the epoch or the
            evaluation in progress is done; null for no limit.
        patience: the search ends after so many validations, or distinct evaluations, in a row without a better one;
            null for no limit.
    """

    max_seconds: PositiveFloat | None = None
    patience: Count | None = None

    def rule_that_stops(self, seconds: float, since_better: int) -> Rule | None:
        """The rule by which a search ends now; None where it goes on."""
        if self.max_seconds is not None and seconds >= self.max_seconds:
            return "max_seconds"
        if self.patience is not None and since_better >= self.patience:
            return "patience"
        return None

    def stopped(self, rule: Rule, seconds: float, done: int, planned: int, unit: str) -> Stopped:
        """What `stopped` of a result's summary lists."""
        limit = getattr(self, rule)
        return Stopped(rule=rule, limit=limit, done=done, planned=planned, unit=unit, seconds=seconds)


def since_better(values: Sequence[float]) -> int:
    """How many values came after the first of the greatest."""
    return len(values) - 1 - list(values).index(max(values)) if values else 0
