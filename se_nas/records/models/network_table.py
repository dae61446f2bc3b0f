"""What a table of trained networks holds, such as one of all placements of SE; `evaluator: table` looks in it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, PositiveInt

from se_nas.records.fields import Amount, Metric, Seconds, Share
from se_nas.records.models.certificate import LatencyConditions
from se_nas.records.models.environment import Environment
from se_nas.records.models.evidence import SeedKey
from se_nas.records.record import Record


def _one_at_least(accuracies: dict[str, float]) -> dict[str, float]:
    if not accuracies:
        raise ValueError("must hold one accuracy or more")
    return accuracies


class TableSpace(Record):
    """Whose networks they are; the digest is `SearchSpace.digest`."""

    name: str
    digest: str


class TableNetwork(Record):
    """A network that was trained.

    Attributes:
        accuracies: on the test images, by the seed of the training; a network may have more than the others.
        costs: by metric; latencies have the runtime in their name, such as `latency_ms.eager`.
        cpu_seconds: of its trainings together.
    """

    picks: dict[str, Any]
    accuracies: Annotated[dict[SeedKey, Share], AfterValidator(_one_at_least)]
    costs: dict[Metric, Amount]
    cpu_seconds: Seconds

    @property
    def accuracy(self) -> float:
        """The mean over the seeds."""
        return sum(self.accuracies.values()) / len(self.accuracies)


class TableNoise(Record):
    """How far trainings of one network lie apart, and how far networks do; in points of per cent.

    Attributes:
        between_seeds: standard deviation between trainings of one network that differ in their seed, pooled over
            networks with two or more; None where there is none.
        between_networks: standard deviation between the means of the networks, which holds a part of that noise too.
    """

    between_seeds: Amount | None
    between_networks: Amount


class NetworkTable(Record):
    """A whole table.

    Attributes:
        train_images: that a network sees in an epoch; those of an incomplete last batch are others each time.
        recipe: by which every network was trained, value by value.
        latency: how each latency in `costs` was measured, by metric; all in one process, in turns.
        environments: what the trainings ran with; of several that differ in nothing but load and time, the first.
    """

    format: Literal["se_nas network table"] = "se_nas network table"
    version: Literal[1] = 1
    space: TableSpace
    data: str
    train_images: PositiveInt
    test_images: PositiveInt
    recipe: dict[str, Any]
    noise: TableNoise
    cpu_seconds: Seconds
    latency: dict[Metric, LatencyConditions]
    environments: tuple[Environment, ...]
    networks: tuple[TableNetwork, ...]
