"""What a study proposes, and what it says when it has nothing more to propose."""

from __future__ import annotations

from dataclasses import dataclass

from se_nas.space.architecture import Architecture


class SpaceExhausted(Exception):
    """Every architecture that keeps the budgets has been proposed, as far as can be told."""


class EnoughProposed(Exception):
    """Other workers are at the last of the evaluations that are wanted."""


@dataclass(frozen=True)
class Candidate:
    """An architecture to evaluate.

    Attributes:
        number: of the proposal; `tell` takes it back.
        costs: by metric; excess: by budgeted metric, (cost - limit) / limit.
    """

    number: int
    architecture: Architecture
    costs: dict[str, float]
    excess: dict[str, float]
