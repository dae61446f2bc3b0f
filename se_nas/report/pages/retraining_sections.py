"""What the page of a retraining says, in words and tables of words; its recipe is in `retraining_recipe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict

from se_nas.cost.metrics import is_aside
from se_nas.errors import counted, format_seconds
from se_nas.evidence.intervals import accuracy_interval
from se_nas.records.fields import Count
from se_nas.records.models.certificate import Certificate
from se_nas.records.models.history import Epoch
from se_nas.records.models.run_result import ImageNetResult
from se_nas.records.models.started_from import StartedFrom
from se_nas.records.record import Record
from se_nas.report.pages.class_accuracy import ClassTable
from se_nas.report.pages.costs import CostRows, architecture_words, cost_checks, cost_table, named_cost
from se_nas.report.pages.rows import Rows, environment_rows, plain, record_rows, spaced
from se_nas.report.plots.figure import metric_word
from se_nas.report.theme.words import ABSENT, TIMES, format_percent
from se_nas.space.architecture_file import ArchitectureFile
from se_nas.training.recipe import Recipe

_DAMAGED_ROWS = 50


class DataEntry(Record):
    """What `config.yaml` says of the images."""

    model_config = ConfigDict(extra="ignore")
    name: str
    train: Count | None = None
    val: Count | None = None


class TeacherEntry(Record):
    """What it says of a teacher."""

    source: str
    checkpoint: str | None = None


class RetrainingConfig(Record):
    """The parts of a retraining's `config.yaml` that its page shows; the recipe has a reader of its own."""

    model_config = ConfigDict(extra="ignore")
    data: DataEntry
    recipe: Any = None
    teacher: TeacherEntry | None = None


@dataclass(frozen=True)
class FinishedRetraining:
    """What a retraining's folder holds."""

    result: ImageNetResult
    architecture: ArchitectureFile
    certificate: Certificate
    history: tuple[Epoch, ...]
    classes: ClassTable | None
    data: DataEntry
    recipe: Recipe
    teacher: TeacherEntry | None
    damaged: Mapping[str, str]

    @property
    def tested_at(self) -> str:
        """The size of the held-out images."""
        return _side_by_side(self.recipe.eval_transform(self.architecture.network.resolution).resolution)


@dataclass(frozen=True)
class MeasuredShare:
    """An accuracy and its interval."""

    share: str
    interval: str


@dataclass(frozen=True)
class AccuracyRow:
    """Of some weights; None where it was not measured."""

    weights: str
    top1: MeasuredShare | None
    top5: MeasuredShare | None


@dataclass(frozen=True)
class Searched:
    """What the search of the network certified, at the size that it was for."""

    costs: CostRows
    conditions: Sequence[tuple[str, Rows]]


@dataclass(frozen=True)
class Damaged:
    """Images that could not be decoded, the first of them with why; `left` are not listed."""

    lead: str
    shown: Rows
    left: int


@dataclass(frozen=True)
class RetrainingSections:
    """The page but for its recipe; None of what the retraining has not."""

    eyebrow: str
    name: str
    top1: str
    words: str
    averaged: bool
    accuracies: Sequence[AccuracyRow]
    classes: ClassTable | None
    facts: Rows
    architecture: str
    curves: str
    certificate: str
    costs: CostRows
    checks: list[tuple[str, Rows]]
    searched: Searched | None
    took: Rows
    damaged: Damaged | None
    data: Rows
    environment: Rows


def retraining_sections(run: FinishedRetraining) -> RetrainingSections:
    """What the page of a retraining says."""
    found, part, network = run.result.retrain, run.certificate.retrained, run.architecture.network
    top1 = found.top1 if found.ema_top1 is None else found.ema_top1
    whose = "of the network" if found.ema_top1 is None else "of the averaged weights"
    return RetrainingSections(
        eyebrow=f"se_nas · retrained on {run.data.name}, {found.classes:,} classes · recipe {found.recipe} · "
        f"seed {found.seed}",
        name=run.architecture.space_name,
        top1=f"{100 * top1:.2f}",
        words=f"top-1 accuracy {whose} after the last epoch, on {found.held_out_images:,} held-out images at "
        f"{run.tested_at}; 95 % interval {accuracy_interval(top1, found.held_out_images)} (Wilson; from the draw of "
        "these images alone, for this one training)",
        averaged=found.ema_top1 is not None,
        accuracies=_accuracies(run),
        classes=run.classes,
        facts=_facts(run),
        architecture=architecture_words(network),
        curves=_curve_words(run),
        certificate=f"Each cost of the network that was built and trained, for {_side_by_side(network.resolution)} "
        f"images and {network.head.classes:,} classes, and how it is known.",
        costs=cost_table(part.costs if part else (), None),
        checks=cost_checks(part.cross_check, part.latency_conditions) if part else [],
        searched=_searched(run.certificate),
        took=_took(run),
        damaged=_damaged(run.damaged) if run.damaged else None,
        data=_data(run),
        environment=environment_rows(run.result.environment),
    )


def _side_by_side(side: int) -> str:
    return f"{side} {TIMES} {side}"


# ---- what came of it


def _facts(run: FinishedRetraining) -> Rows:
    network, recipe, part = run.architecture.network, run.recipe, run.certificate.retrained
    return [
        *(
            (entry.how, named_cost(entry.metric, entry.value))
            for entry in (part.costs if part else ())
            if not is_aside(entry.metric)
        ),
        ("blocks with SE", f"{sum(block.se is not None for block in network.blocks)} of {len(network.blocks)}"),
        ("trained at", _side_by_side(recipe.train_transform(network.resolution).resolution)),
        ("epochs", f"{recipe.epochs:,}"),
        ("device-hours", f"{run.result.ledger.device_hours:.3g}"),
        *_started_from(run.result.retrain.started_from),
    ]


def _started_from(found: StartedFrom | None) -> Rows:
    """The weights that a training began with, what they were worth where they come from, and what stayed of them."""
    if found is None:
        return []
    rows: Rows = [("started from", found.weights.words())]
    if found.source_data is not None:
        classes = counted(found.source_classes or 0, "class", "classes")
        share = "" if found.source_accuracy is None else f"{format_percent(found.source_accuracy, 2)} of "
        rows.append(("before, there", f"{share}{found.source_data}, {classes}"))
    classifier = f"new, of {counted(found.classes, 'class', 'classes')}" if found.replaced else "kept"
    return [*rows, ("classifier", classifier), ("frozen", found.frozen_words or ABSENT)]


def _accuracies(run: FinishedRetraining) -> list[AccuracyRow]:
    """Top-1 and top-5 of the last weights, of their average, and of the best epoch."""
    found, best = run.result.retrain, run.result.retrain.best
    epoch, prefix = best.epoch + 1, "ema_val" if best.weights == "average" else "val"
    top5 = next((getattr(row, f"{prefix}_top5", None) for row in run.history if row.epoch == epoch), None)
    weights = "averaged weights" if best.weights == "average" else "network"
    rows: list[tuple[str, float | None, float | None]] = [("network, last epoch", found.top1, found.top5)]
    rows += [("averaged weights, last epoch", found.ema_top1, found.ema_top5)] if found.ema_top1 is not None else []
    rows += [(f"best: {weights}, epoch {epoch}", best.top1, top5)]
    images = found.held_out_images
    return [AccuracyRow(words, _measured(top1, images), _measured(top5, images)) for words, top1, top5 in rows]


def _measured(share: float | None, images: int) -> MeasuredShare | None:
    return None if share is None else MeasuredShare(format_percent(share, 2), accuracy_interval(share, images))


def _curve_words(run: FinishedRetraining) -> str:
    every = run.recipe.evaluate_every
    words = f"Held-out images at {run.tested_at}, {'every epoch' if every == 1 else f'every {every} epochs'}. "
    if any(row.accuracy is not None for row in run.history):
        words += "Training accuracy is that of augmented images while the weights change."
        return f"{words} Epochs with mixed images have none." if run.recipe.mixes else words
    return f"{words}Images were mixed in training, so it has no accuracy of its own."


# ---- what it costs


def _searched(certificate: Certificate) -> Searched | None:
    if certificate.budgets is None:
        return None
    every = certificate.latency_conditions or {}
    conditions = [(metric_word(metric), spaced(record_rows(found))) for metric, found in every.items()]
    return Searched(cost_table(certificate.costs or (), certificate.budgets), conditions)


def _took(run: FinishedRetraining) -> Rows:
    ledger, environment = run.result.ledger, run.result.environment
    device = environment.gpu if ledger.device == "cuda" else environment.cpu
    rate, ranks = ledger.images_per_second, ledger.ranks
    return [
        ("wall time", format_seconds(ledger.seconds)),
        ("device", device or ledger.device),
        ("ranks", f"{ranks:,}"),
        ("device-hours", f"{ledger.device_hours:.4g}"),
        ("training images seen", f"{ledger.images:,}"),
        ("images/s", f"{rate:,.4g}" if rate < 1000 else f"{rate:,.0f}"),
        *([("images/s of each rank", f"{rate / ranks:,.4g}")] if ranks > 1 else []),
    ]


# ---- by what


def _damaged(damaged: Mapping[str, str]) -> Damaged:
    shown = list(damaged.items())[:_DAMAGED_ROWS]
    plural = "image" if len(damaged) == 1 else "images"
    lead = f"{len(damaged):,} {plural} could not be decoded and were left out."
    return Damaged(lead, shown, len(damaged) - len(shown))


def _data(run: FinishedRetraining) -> Rows:
    counts = (("training images", run.data.train), ("held-out images", run.data.val))
    rows = [(words, plain(count)) for words, count in counts if count is not None]
    found = run.result.retrain
    return [*rows, ("classes", plain(found.classes)), ("seed", plain(found.seed))]
