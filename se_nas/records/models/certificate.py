"""What `certificate.json` and `decodes.json` hold; `search.certificate` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    WrapSerializer,
    model_validator,
)

from se_nas.records.fields import LATENCY, Amount, Count, Interval, Metric, Number, Seconds
from se_nas.records.models.environment import Environment
from se_nas.records.models.starting_weights import WeightsSource
from se_nas.records.record import Record

How = Literal["counted", "predicted", "measured"]
_SUREST: tuple[How, ...] = ("measured", "counted", "predicted")


class CostEntry(Record):
    """A cost, and how it is known: with `ci95` as the median of `n` timings.

    Attributes:
        relative_error_std: of a table's prediction, its error on held-out networks.
        predicted_blocks: of a table that was made within a bound of time, how many blocks of the space were not timed.
    """

    metric: Metric
    unit: str
    value: Amount
    how: How
    n: PositiveInt
    ci95: Interval | None
    relative_error_std: Number | None = None
    predicted_blocks: Count | None = None


class BudgetEntry(CostEntry):
    """A cost under its limit."""

    limit: PositiveFloat
    holds: bool


class CrossCheck(Record):
    """The counts of a specification beside those of the network that is built, which must be equal.

    Certificates of before 0.2 have thop's counts, and `norms`, in place of those by torch's counter.
    """

    macs: Count
    params: Count
    built_macs: Amount | None = None
    built_params: Amount | None = None
    counter: str | None = None
    thop_macs: Amount | None = None
    thop_params: Amount | None = None
    norms: Count | None = None
    agree: bool
    note: str | None = None


class LatencyConditions(Record):
    """Under which a latency holds; files of before there were runtimes call theirs a backend.

    Attributes:
        runtime: a name in `cost.latency.runtimes.RUNTIMES`.
        program: of runtime "command".
        arithmetic: see `cost.latency.key.LatencyKey`.
    """

    device: str
    runtime: Annotated[str, Field(validation_alias=AliasChoices("runtime", "backend"))]
    dtype: str
    batch_size: PositiveInt
    threads: Count
    clock: str | None = None
    program: str | None = None
    arithmetic: str | None = None


class Timing(Record):
    """Milliseconds of one run, of `n` runs that were timed."""

    median_ms: Seconds
    mean_ms: Seconds
    ci95_ms: Interval
    n: PositiveInt


def _read_by(kind: Any) -> BeforeValidator:
    """Reads what is of each latency; of the one latency of a run of one device a file has the value itself."""
    one = TypeAdapter[Any](kind)

    def read(value: Any) -> Any:
        if isinstance(value, Mapping) and all(str(name).startswith(LATENCY) for name in value):
            return value
        return {} if value is None else {LATENCY: one.validate_python(value)}

    return BeforeValidator(read)


def _written(value: Mapping[str, object], handler: SerializerFunctionWrapHandler) -> Any:
    found = handler(value)
    return found[LATENCY] if list(found) == [LATENCY] else found


ConditionsByLatency = Annotated[
    dict[Metric, LatencyConditions], Field(min_length=1), _read_by(LatencyConditions), WrapSerializer(_written)
]
MillisecondsByLatency = Annotated[dict[Metric, Seconds], _read_by(Seconds), WrapSerializer(_written)]


class RetrainedPart(Record):
    """What is known of a network that was retrained at another size; `trained` is what its training says of itself."""

    resolution: PositiveInt
    classes: PositiveInt
    costs: tuple[CostEntry, ...]
    cross_check: CrossCheck
    latency_conditions: ConditionsByLatency
    trained: dict[str, object]
    environment: Environment


class Certificate(Record):
    """The budgets that a network keeps and its costs; of a network that no search found `retrained` alone.

    Attributes:
        started_from: the weights that the search's supernet started from; None where they were random.
    """

    format: Literal["se_nas certificate"] = "se_nas certificate"
    version: Literal[1] = 1
    budgets: tuple[BudgetEntry, ...] | None = None
    costs: tuple[CostEntry, ...] | None = None
    cross_check: CrossCheck | None = None
    latency_conditions: ConditionsByLatency | None = None
    environment: Environment | None = None
    started_from: WeightsSource | None = None
    retrained: RetrainedPart | None = None

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if self.costs is None and self.retrained is None:
            raise ValueError("must have the costs of a network, or those of a retrained one")
        return self


class SearchCertificate(Certificate):
    """Of a network that a search found, which has every part but `retrained`."""

    budgets: tuple[BudgetEntry, ...]
    costs: tuple[CostEntry, ...]
    cross_check: CrossCheck
    latency_conditions: ConditionsByLatency
    environment: Environment

    @property
    def known(self) -> dict[Metric, CostEntry]:
        """The cost in each metric, of several ways in which it is known the surest."""
        surest = sorted(self.costs, key=lambda entry: _SUREST.index(entry.how), reverse=True)
        found = {entry.metric: entry for entry in surest}
        return {metric: found[metric] for metric in dict.fromkeys(entry.metric for entry in self.costs)}


class DecodeTry(Record):
    """A decode, and the latencies and the energy that were measured of what it gave."""

    limits: dict[Metric, PositiveFloat]
    costs: dict[Metric, Amount]
    score: Number
    measured_ms: MillisecondsByLatency = Field(default_factory=dict)
    measured_mj: Amount | None = None
