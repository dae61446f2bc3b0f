"""What `search:` of a run file holds, whatever the strategy."""

from __future__ import annotations

from se_nas.records.record import Record


class StrategyConfig(Record):
    """Base of the models of `search:`, each of which gives `strategy` the name of its entry as a default.

    Reports show every value: none may be a secret.
    """

    strategy: str
