"""What `result.json` holds: of a search, or of a retraining, in memory or on ImageNet."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from se_nas.records.fields import Count, Digits, Metric, Number, Seconds, Seed, Share
from se_nas.records.former_names import by_present_names
from se_nas.records.measure import Measure
from se_nas.records.models.certificate import DecodeTry
from se_nas.records.models.environment import Environment
from se_nas.records.models.started_from import StartedFrom
from se_nas.records.models.stopped import Stopped
from se_nas.records.record import Record


class ResultData(Record):
    """The data set, and how many images each part of a search had."""

    name: str
    classes: PositiveInt
    parts: dict[str, Count]


class ResultSpace(Record):
    """The space that was searched; `size` is the number of its networks."""

    name: str
    digest: str
    size: Digits
    choices: Count


class SearchSummary(Record):
    """A search; what only some strategies have is None of the others.

    Attributes:
        measure: what `validation_accuracy` is; None of a run of before it was written down, of an accuracy.
        stopped: the rules that ended parts of it before they were through.
        own: what a strategy of a plugin says beside that.
    """

    strategy: str
    seconds: Seconds
    images: Count
    validation_accuracy: Number | None = None
    decodes: tuple[DecodeTry, ...] = ()
    epochs: Count | None = None
    pretrain_epochs: Count | None = None
    validation_accuracies: tuple[Share, ...] | None = None
    sampler: str | None = None
    objectives: tuple[str, ...] | None = None
    evaluator: str | None = None
    evaluations: Count | None = None
    distinct: Count | None = None
    infeasible: Count | None = None
    pruned: Count | None = None
    failed: Count | None = None
    front: Count | None = None
    exhausted: bool | None = None
    supernet_seconds: Seconds | None = None
    evaluation_seconds: Seconds | None = None
    measure: Measure | None = None
    stopped: tuple[Stopped, ...] | None = None
    own: dict[str, object] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _by_present_names(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return by_present_names(value, {"warmup_epochs": "pretrain_epochs"}, "search of result.json")


class TrainingPhase(Record):
    """One training of several that went on from each other, with the first and last rate of its schedule."""

    epochs: Count
    learning_rate: Number
    min_learning_rate: Number
    seconds: Seconds | None = None
    images: Count | None = None
    accuracy: Share | None = None
    ema_accuracy: Share | None = None


class RetrainSummary(Record):
    """A training on all training images that fit the memory; `phases`, with those that it went on from.

    Attributes:
        started_from: the weights that it began with in place of random ones.
    """

    epochs: Count
    seconds: Seconds
    images: Count
    test_accuracy: Share
    ema_test_accuracy: Share | None = None
    balanced_accuracy: Share | None = None
    train_accuracy: Share | None
    test_images: PositiveInt
    phases: tuple[TrainingPhase, ...] | None = None
    started_from: StartedFrom | None = None


class LedgerEntry(Record):
    """What a part of a run took."""

    part: str
    seconds: Seconds
    cpu_seconds: Seconds | None = None
    images: Count | None = None


class RunResult(Record):
    """Of a finished search."""

    name: str
    seed: Seed
    data: ResultData
    space: ResultSpace
    budgets: dict[Metric, PositiveFloat]
    search: SearchSummary
    retrain: RetrainSummary | None = None
    environment: Environment
    cost_ledger: tuple[LedgerEntry, ...]


class RetrainResult(Record):
    """Of a retraining that no search has made, on images that fit the memory."""

    data: str
    seed: Seed
    retrain: RetrainSummary
    environment: Environment


class SubnetResult(Record):
    """Of a network with the weights that it inherits from a search's supernet.

    Attributes:
        run: the name of the run, or of the folder of the network that it was cut from.
        validation_accuracy: on the run's validation part; None of a network that was cut.
        accuracy_before: on the test images, of the network that it was cut from; None of one that was not.
        calibration_images: training images that its batch norms were recalibrated on.
    """

    format: Literal["se_nas subnet"] = "se_nas subnet"
    version: Literal[1] = 1
    run: str
    data: str
    seed: Seed
    calibration_images: Count
    validation_accuracy: Share | None = None
    accuracy_before: Share | None = None
    test_accuracy: Share
    test_images: PositiveInt


WhichWeights = Literal["network", "average"]


class BestEpoch(Record):
    """The best epoch on the held-out images, and which of the weights had it."""

    epoch: Count
    weights: WhichWeights
    top1: Share


class ImageNetSummary(Record):
    """A retraining on ImageNet; `phases` and `started_from` as of `RetrainSummary`."""

    data: str
    classes: PositiveInt
    recipe: str
    source: str | None = None
    epochs: Count
    seed: Seed
    top1: Share
    top5: Share
    ema_top1: Share | None = None
    ema_top5: Share | None = None
    balanced_accuracy: Share | None = None
    best: BestEpoch
    train_accuracy: Share | None = None
    held_out_images: PositiveInt
    damaged_images: Count
    phases: tuple[TrainingPhase, ...] | None = None
    started_from: StartedFrom | None = None


class ImageNetLedger(Record):
    """What it took, over all ranks."""

    seconds: Seconds
    device: str
    ranks: PositiveInt
    device_hours: Seconds
    images: Count
    images_per_second: Seconds


class ImageNetResult(Record):
    """Of a finished retraining on ImageNet."""

    retrain: ImageNetSummary
    ledger: ImageNetLedger
    environment: Environment


class AnyRetraining(Record):
    """What `result.json` says of the training of a network in memory, or on disk, where its cost is in a ledger."""

    model_config = ConfigDict(extra="ignore")
    seconds: Seconds | None = None
    images: Count | None = None
    test_accuracy: Share | None = None
    ema_test_accuracy: Share | None = None
    top1: Share | None = None
    ema_top1: Share | None = None
    phases: tuple[TrainingPhase, ...] | None = None

    @property
    def accuracies(self) -> tuple[Share | None, Share | None]:
        """Of the last epoch on the held-out images: of the network, and of the average of its weights."""
        if self.top1 is not None:
            return self.top1, self.ema_top1
        return self.test_accuracy, self.ema_test_accuracy


class AnyRetrained(Record):
    """A `result.json` with a training or without one."""

    model_config = ConfigDict(extra="ignore")
    retrain: AnyRetraining | None = None
    ledger: ImageNetLedger | None = None
