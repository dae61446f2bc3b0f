"""Why a search ended before it had done all that it was to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import PositiveFloat

from se_nas.records.fields import Count, Seconds
from se_nas.records.record import Record, parse_record

#: The keys of `search:` by which a search ends early.
Rule = Literal["max_seconds", "patience"]
#: The unit of a supernet's training that comes before evaluations.
SUPERNET_EPOCHS = "epochs of the supernet"


class Stopped(Record):
    """A part of a search that a rule ended.

    Attributes:
        rule, limit: the key of `search:` and its value.
        done, planned: of what `unit` says, such as epochs.
        seconds: wall time of the search by then, added up over resumed processes.
    """

    rule: Rule
    limit: PositiveFloat
    done: Count
    planned: Count
    unit: str
    seconds: Seconds

    @property
    def goes_on(self) -> bool:
        """Whether a resumed run goes on with it: not with a supernet, as evaluations with its weights are compared."""
        return self.unit != SUPERNET_EPOCHS

    @property
    def words(self) -> str:
        """The same as people read it."""
        return f"{self.rule} = {self.limit:g} after {self.done:,} of {self.planned:,} {self.unit}"


def parse_stopped(summary: Mapping[str, Any]) -> list[Stopped]:
    """What the summary of a search lists as `stopped`."""
    return [parse_record(Stopped, part, "the search's summary") for part in summary.get("stopped", ())]
