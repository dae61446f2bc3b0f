"""How accurate a trained network is on each class, which a mean over all images hides where some classes have few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from se_nas.evidence.intervals import accuracy_interval
from se_nas.records.models.history import Epoch
from se_nas.report.theme.words import format_percent
from se_nas.training.trained_network import DataCard

_ROWS = 30


@dataclass(frozen=True)
class ClassTable:
    """The classes from the least accurate on.

    Attributes:
        rows: of each its name, its accuracy, the interval of that, and its number of images.
    """

    lead: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def class_table(history: Sequence[Epoch], retraining: Path) -> ClassTable | None:
    """Of the network after the last epoch of a retraining, in its folder; None where that was not written down."""
    last = history[-1] if history else None
    if last is None or not last.class_accuracy or not last.class_images or last.balanced_accuracy is None:
        return None
    card = DataCard.load(retraining)
    numbers = range(len(last.class_accuracy))
    names = card.classes if card is not None and len(card.classes) == len(numbers) else tuple(map(str, numbers))
    known = [
        (share, name, images)
        for share, name, images in zip(last.class_accuracy, names, last.class_images, strict=True)
        if share is not None
    ]
    shown = sorted(known)[:_ROWS]
    lead = (
        f"Balanced accuracy, the mean over the classes: {format_percent(last.balanced_accuracy, 2)}. It is of the "
        "network after the last epoch."
    )
    if len(shown) < len(known):
        lead += f" The {len(shown)} least accurate of {len(known):,} classes; history.json has all."
    if len(known) < len(numbers):
        lead += f" Of {len(numbers) - len(known):,} classes there is no image to look at."
    rows = [(name, format_percent(share, 2), accuracy_interval(share, n), f"{n:,}") for share, name, n in shown]
    return ClassTable(lead, ("class", "accuracy", "95 % interval", "images"), rows)
