"""What a run's evidence is to show, said before it is gathered: `evidence/plan.json`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from se_nas.errors import counted
from se_nas.records.fields import Count, Seed, Share
from se_nas.records.models.environment import Commit
from se_nas.records.record import Record

#: What the answer's claim is against: the mean of the random networks at the budgets, the best of them by training, or
#: the mean of random networks of the answer's size.
Rival = Literal["random_mean", "random_best", "of_size_mean"]


class Primary(Record):
    """The one comparison that is the claim; the others are beside it.

    Attributes:
        against: "random_mean" is the average network that the budgets allow; "random_best" the best of the random
            networks, for each seed chosen by the trainings with the others; "of_size_mean" the average of those that
            are of the answer's size.
        difference: of accuracies, as a share, that is to be found.
        noise: standard deviation of the accuracy of one network over trainings, as a share, from a pilot.
        spread: standard deviation of the accuracies of such random networks without the noise, as a share; of a mean
            alone.
        power: the chance to find a difference so large, if there is one.
    """

    against: Rival
    difference: float = Field(gt=0, lt=1)
    noise: float = Field(gt=0, lt=1)
    spread: float | None = Field(None, ge=0, lt=1)
    power: float = Field(0.8, ge=0.5, lt=1)

    @model_validator(mode="after")
    def _spread_of_a_mean(self) -> Self:
        if (self.spread is None) == self.against.endswith("_mean"):
            raise ValueError("spread must be given with against random_mean or of_size_mean, and only then")
        return self

    @property
    def counted_by(self) -> Literal["random", "of_size"]:
        """The key of an evidence section that says how many networks the claim is against."""
        return "of_size" if self.against == "of_size_mean" else "random"


class EvidencePlan(Record):
    """`plan.json`, written before the first training that the evidence asks for.

    None of the answer is known then but its own retraining.

    Attributes:
        written: when, in UTC.
        commit: of the code.
        networks: how many random ones of the claim there are.
        seeds: with which every network is trained.
        power: that the comparison has with so many seeds.
        needed: seeds that reach the power asked for; None where no number does.
        elsewhere: trainings of other runs with the same settings that were known then, the random networks' perhaps
            among them.
    """

    format: Literal["se_nas plan"] = "se_nas plan"
    version: Literal[1] = 1
    written: str
    commit: Commit | None
    primary: Primary
    networks: Count
    seeds: tuple[Seed, ...]
    power: Share
    needed: Count | None
    elsewhere: Count = 0

    @property
    def before(self) -> str:
        """What it was written before, in words."""
        if self.elsewhere == 0:
            return "before the first training"
        known = f"{counted(self.elsewhere, 'training')} of other runs {'was' if self.elsewhere == 1 else 'were'} known"
        return f"before any training of the answer, while {known}"
