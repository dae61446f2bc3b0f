"""The networks among which a search's answer was chosen by trainings: `finalists/finalists.json` of a run."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from se_nas.records.fields import Count, Number, Seconds, Share
from se_nas.records.record import Record

#: The search's own answer, a network near it, one drawn within the budgets, or what the search would answer beside.
Origin = Literal["answer", "neighbour", "random", "other"]


class Finalist(Record):
    """A network that was in the choice.

    Attributes:
        picks: its architecture.
        origin: how it came to be one.
        judged: what the search says of it.
        accuracies: on the validation images, after its training in each round that it was in.
        failed: why the training after these could not go on, by which the network is out; null where none failed.
        seconds, cpu_seconds: of all these trainings.
    """

    picks: dict[str, int | Number | str]
    origin: Origin
    judged: Number
    accuracies: tuple[Share, ...] = ()
    failed: str | None = None
    seconds: Seconds = 0.0
    cpu_seconds: Seconds = 0.0

    @property
    def trainings(self) -> int:
        """How many it had, the one that failed among them."""
        return len(self.accuracies) + (self.failed is not None)


class FinalistsFile(Record):
    """`finalists.json`: once a round is through, those of the longest trainings first, and among them the best.

    Who is out comes last.
    """

    format: Literal["se_nas finalists"] = "se_nas finalists"
    version: Literal[1] = 1
    rounds: tuple[tuple[Count, Count], ...]
    finalists: tuple[Finalist, ...]

    @model_validator(mode="after")
    def _in_rounds(self) -> Self:
        if not self.rounds or self.rounds[0][0] < len(self.finalists) or not self.finalists:
            raise ValueError("finalists must be one or more, and no more than the first round has")
        if any(one.trainings > len(self.rounds) for one in self.finalists):
            raise ValueError("a finalist must have no more trainings than there are rounds")
        return self

    @property
    def seconds(self) -> float:
        """That all trainings took."""
        return sum(one.seconds for one in self.finalists)

    @property
    def gain(self) -> tuple[float, int] | None:
        """What the best has more than the search's own answer in the last round that both were in, and its epochs.

        It is 0 where the answer is the best; None where they were in no round yet. By being the best it reads high.
        """
        own = next((one for one in self.finalists if one.origin == "answer"), None)
        best = self.finalists[0]
        last = 0 if own is None else min(len(own.accuracies), len(best.accuracies))
        if own is None or not last:
            return None
        return best.accuracies[last - 1] - own.accuracies[last - 1], self.rounds[last - 1][1]
