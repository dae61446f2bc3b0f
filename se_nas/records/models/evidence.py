"""What the files of a run's `evidence/` hold that the report shows, a model each; `runs.evidence` writes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from se_nas.records.fields import LATENCY, Amount, Count, Metric, Number, Seconds, Seed, Share
from se_nas.records.models.certificate import LatencyConditions
from se_nas.records.models.environment import Commit
from se_nas.records.models.plan import EvidencePlan
from se_nas.records.record import Record

#: A seed as a key of JSON.
SeedKey = Annotated[str, Field(pattern=r"^[0-9]{1,30}$")]
#: A block, or a whole stage, of a certain kind where it has several: "stage2.block1.wide".
BlockName = Annotated[str, Field(pattern=r"^stage[0-9]+(\.block[0-9]+)?(\.[^.]+)?$")]
Accuracies = dict[SeedKey, Share | None]


class EstimateEntry(Record):
    """An `evidence.statistics.Estimate`."""

    value: Number | None
    low: Number | None
    high: Number | None
    n: Count
    method: str = ""
    p: Share | None = None
    excludes_zero: bool = False

    @model_validator(mode="after")
    def _interval_of_a_value(self) -> Self:
        if (self.low is None) != (self.high is None) or (self.value is None and self.low is not None):
            raise ValueError("an interval must have two ends, and a value within them")
        return self


class WithMetrics(Record):
    """Has a number, or None, for each metric that is registered, those of plugins beside ours."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _of_metrics(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            _METRIC.validate_python(name)
            _COST.validate_python(value)
        return self

    def of(self, metric: str) -> float | None:
        """The number of a metric; None where it is not known."""
        found: float | None = getattr(self, metric, None)
        return found


_METRIC: TypeAdapter[str] = TypeAdapter(Metric)
_COST: TypeAdapter[float | None] = TypeAdapter(Number | None)


class NetworkCosts(WithMetrics):
    """Costs of a network that is compared, and how its latency is known."""

    macs: Amount
    params: Amount
    latency_ms: Amount | None = None
    latency_how: Literal["predicted", "measured"] | None = None


class ControlEntry(Record):
    """A network that is compared, and its test accuracies by seed."""

    name: str
    kind: Literal[
        "answer", "other_answer", "search_seed", "random", "of_size", "best_of_random", "baseline", "published"
    ]
    label: str
    costs: NetworkCosts
    supernet_accuracy: Share | None = None
    se: tuple[str | None, ...] | None = None
    accuracies: Accuracies
    failed: dict[SeedKey, str] | None = None


class ComparisonEntry(EstimateEntry):
    """The difference of a network and others, paired by seed."""

    ours: str
    label: str
    theirs: tuple[str, ...]
    networks: Count | None = None
    left_out: tuple[str, ...] | None = None
    by_seed: dict[SeedKey, Number] | None = None
    p_holm: Share | None = None
    selected: bool | None = None
    primary: bool | None = None


#: The spread of networks is at least so many times the noise of a training where trainings tell networks apart.
LEAST_RATIO = 3.0


class Regime(Record):
    """How far networks differ beside how far trainings of one do; standard deviations of accuracies, as shares.

    Attributes:
        networks: that were trained, all at the budgets; `repeated` of them with several seeds.
        noise: of the accuracy of one network over trainings; its n counts degrees of freedom.
        spread: of the accuracies of networks without the noise.
        ratio: of the spread to the noise.
    """

    networks: Count
    repeated: Count
    trainings: Count
    noise: EstimateEntry
    spread: EstimateEntry
    ratio: EstimateEntry

    @property
    def holds(self) -> bool | None:
        """Whether the spread is `LEAST_RATIO` times the noise, as far as was measured; None where neither is known."""
        return None if self.ratio.value is None else self.ratio.value >= LEAST_RATIO


class ControlsPart(Record):
    """`controls.json`; `regime` is of the random networks, and not known of evidence from before it was reckoned."""

    format: Literal["se_nas controls"] = "se_nas controls"
    version: Literal[1] = 1
    seeds: tuple[Seed, ...]
    test_images: PositiveInt
    recipe: dict[str, JsonValue] | None = None
    budgets: dict[Metric, PositiveFloat] | None = None
    networks: tuple[ControlEntry, ...]
    comparisons: tuple[ComparisonEntry, ...]
    plan: EvidencePlan | None = None
    regime: Regime | None = None

    @property
    def waiting(self) -> int:
        """Trainings that are not done yet."""
        return sum(self.waiting_for(network) for network in self.networks)

    def waiting_for(self, network: ControlEntry) -> int:
        """The same of one network."""
        done = {seed for seed, accuracy in network.accuracies.items() if accuracy is not None}
        return len({str(seed) for seed in self.seeds} - done - set(network.failed or {}))

    @model_validator(mode="after")
    def _known_networks(self) -> Self:
        known = {network.name for network in self.networks}
        for one in self.comparisons:
            for name in (one.ours, *one.theirs, *(one.left_out or ())):
                if name not in known:
                    raise ValueError(f"comparisons must be of the networks that are listed, and {name!r:.60} is not")
            if not one.theirs:
                raise ValueError("a comparison must be with some network")
        return self


class RankedEntry(NetworkCosts):
    """A network that the supernet ranked."""

    name: str
    supernet: Share
    uncalibrated: Share
    accuracies: Accuracies


class CorrelationPair(Record):
    """Of one score with the trained accuracies."""

    kendall: EstimateEntry
    spearman: EstimateEntry


class RegretEntry(WithMetrics):
    """What the best of the first `k` by each score lacks to the best of all."""

    k: PositiveInt
    supernet: Number | None = None
    uncalibrated: Number | None = None
    macs: Number | None = None
    params: Number | None = None
    latency_ms: Number | None = None
    random: Number | None = None


class RankingSet(Record):
    """The ranking of one set of networks; of too few there are no correlations."""

    name: str
    truth_seeds: tuple[Seed, ...] | None = None
    networks: tuple[RankedEntry, ...]
    correlations: dict[str, CorrelationPair] | None = None
    partial_kendall: EstimateEntry | None = None
    gain_over_macs: EstimateEntry | None = None
    gain_of_recalibration: EstimateEntry | None = None
    seed_ceiling: EstimateEntry | None = None
    regret: tuple[RegretEntry, ...] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.correlations and ("supernet" not in self.correlations or self.partial_kendall is None):
            raise ValueError("correlations must have that of the supernet, and a partial one beside them")
        return self


class RankingPart(Record):
    """`ranking.json`."""

    format: Literal["se_nas ranking"] = "se_nas ranking"
    version: Literal[1] = 1
    seeds: tuple[Seed, ...]
    test_images: PositiveInt
    recipe: dict[str, JsonValue] | None = None
    sets: tuple[RankingSet, ...]


class SearchAnswerEntry(Record):
    """The answer of one search; `se` is its option of SE by block, None where the block is not there."""

    name: str
    seed: Seed
    costs: dict[Metric, Amount]
    se: dict[str, str | None]
    accuracies: Accuracies


class WithChance(Record):
    """A number beside what it is of random networks."""

    value: Number | None = None
    random: Number | None = None


class BlockAgreement(Record):
    """How far the searches agree on the SE of one block."""

    block: BlockName
    options: tuple[str | None, ...]
    on_off: Share | None = None
    ratio: Share | None = None
    random_on_off: Share | None = None
    random_ratio: Share | None = None


class AccuracySpread(Record):
    """Of the answers' accuracies.

    Attributes:
        p: of what is between searches, if the answers are worth the same; evidence of older versions lacks it.
    """

    mean: Share | None = None
    between_searches: Number | None = None
    between_trainings: Number | None = None
    p: Share | None = None


class StabilityPart(Record):
    """`stability.json`."""

    format: Literal["se_nas stability"] = "se_nas stability"
    version: Literal[1] = 1
    seeds: tuple[Seed, ...]
    answers: tuple[SearchAnswerEntry, ...]
    distance: WithChance
    blocks: tuple[BlockAgreement, ...]
    on_off: WithChance
    ratio: WithChance
    accuracy: AccuracySpread


class GainEntry(WithMetrics):
    """What an option of SE is worth in a block, and what it costs there."""

    option: str
    hidden: Count | None = None
    gain: Number | None = None
    low: Number | None = None
    high: Number | None = None
    params: Number | None = None
    macs: Number | None = None
    latency_ms: Number | None = None


class BlockGains(Record):
    """The gains in one block over its reference."""

    block: BlockName
    resolution: PositiveInt | None = None
    channels: PositiveInt
    chosen: str | None
    reference: str
    options: tuple[GainEntry, ...]


class StandAloneGain(EstimateEntry):
    """What an SE of the answer is worth when it is trained with and without."""

    block: BlockName
    option: str
    by_seed: dict[SeedKey, Number] | None = None


class WherePart(Record):
    """`where_se_pays.json`."""

    format: Literal["se_nas where SE pays"] = "se_nas where SE pays"
    version: Literal[1] = 1
    images: PositiveInt
    contexts: PositiveInt
    blocks: tuple[BlockGains, ...]
    stand_alone: tuple[StandAloneGain, ...] = ()


class TimedEntry(Record):
    """A network by the latency table and by the clock."""

    name: str
    predicted_ms: Number
    measured_ms: PositiveFloat
    low: Number | None = None
    high: Number | None = None


class TimedSet(Record):
    """How well the table predicts some networks."""

    name: str
    networks: tuple[TimedEntry, ...]
    mape: Number | None = None
    bias: Number | None = None
    within_5: Share | None = None
    within_10: Share | None = None
    spearman: EstimateEntry | None = None


class LatencyCheck(Record):
    """How well the latency table of a device predicts."""

    conditions: LatencyConditions
    sets: tuple[TimedSet, ...]


class LatencyPart(Record):
    """`latency_check.json`; that of a run of one device has what it says of it at the top."""

    format: Literal["se_nas latency check"] = "se_nas latency check"
    version: Literal[1] = 1
    devices: dict[Metric, LatencyCheck]

    @model_validator(mode="before")
    @classmethod
    def _of_one(cls, value: Any) -> Any:
        if isinstance(value, dict) and "sets" in value:
            rest = {name: item for name, item in value.items() if name not in LatencyCheck.model_fields}
            check = {name: item for name, item in value.items() if name in LatencyCheck.model_fields}
            return {**rest, "devices": {LATENCY: LatencyCheck.model_validate(check)}}
        return value

    @model_serializer(mode="wrap")
    def _as_one(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        if list(self.devices) == [LATENCY]:
            found |= found.pop("devices")[LATENCY]
        return found


class SpentEntry(Record):
    """A line of the ledger."""

    part: str
    seconds: Seconds
    device_seconds: Seconds | None = None
    images: Count | None = None
    joules: Number | None = None


class LedgerPart(Record):
    """`ledger.json`."""

    format: Literal["se_nas ledger"] = "se_nas ledger"
    version: Literal[1] = 1
    parts: tuple[SpentEntry, ...]
    energy_source: str | None = None


class TrainingRecord(Record):
    """A stand-alone training that is done: its accuracy, or why it diverged; see `runs.evidence.trainings`.

    One that diverged whatever was tried has beside `failed` its seed and the seconds of the call in which it was given
    up; the run's own retraining, which is adopted, has None for `cpu_seconds`.

    Attributes:
        taken: whether another run has made it.
    """

    seed: Seed
    test_accuracy: Share | None = None
    test_images: Count | None = None
    train_accuracy: Share | None = None
    seconds: Seconds
    cpu_seconds: Seconds | None = None
    images: Count | None = None
    commit: Commit | None = None
    failed: str | None = None
    taken: bool = False

    @model_validator(mode="after")
    def _done(self) -> Self:
        if self.test_accuracy is None and self.failed is None:
            raise ValueError("a training must have an accuracy, or say why it has none")
        return self
