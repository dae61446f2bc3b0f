"""What the figures of a run's evidence share; each is drawn from the record of its part alone: `ControlsPart` etc.

Accuracies and their differences are shares there; differences are drawn in points, hundredths of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from se_nas.records.models.evidence import Accuracies, ComparisonEntry
from se_nas.space.choice import Place

SIGNIFICANT = 0.05
"""A difference counts where its p-value, corrected for how many differences are looked at, is below this."""

_DASHES = (0, (4, 3))
_WHISKERS = 60  # networks up to which each has the range of its trainings drawn


class Trained(Protocol):
    """A network with the test accuracies of its trainings by seed."""

    @property
    def accuracies(self) -> Accuracies:
        """A share each, None where a training is not done."""


def points(share: float) -> str:
    """A difference of accuracies in points, with its sign; what rounds to none has no sign."""
    return f"{100 * share:+.2f}" if round(100 * share, 2) else "0.00"


def is_significant(comparison: ComparisonEntry) -> bool:
    """Whether a difference's interval leaves out 0, and still counts once all comparisons are allowed for."""
    p = comparison.p_holm
    return comparison.excludes_zero and (p is None or p < SIGNIFICANT)


def trained_accuracy(network: Trained, seeds: Sequence[int] | None = None) -> float | None:
    """Mean accuracy of a network's trainings, a share, of all or of these seeds; None where none has ended."""
    wanted = None if seeds is None else {str(seed) for seed in seeds}
    known = network.accuracies.items()
    values = [value for seed, value in known if value is not None and (wanted is None or seed in wanted)]
    return math.fsum(values) / len(values) if values else None


def seed_differences(comparison: ComparisonEntry) -> list[float]:
    """Ours less theirs for each seed that the comparison is over, shares."""
    return list((comparison.by_seed or {}).values())


def capital(words: str) -> str:
    """Words that begin a sentence, the rest as it is."""
    return words[:1].upper() + words[1:]


def block_words(block: str) -> tuple[str, str]:
    """Stage and block of "stage1.block2", and its kind where it has one, as words; no block for a whole stage."""
    place = Place.named(f"{block}.se")
    words = ("" if place.block is None else f"block {place.block}", place.op or "")
    return place.stage_words, " ".join(filter(None, words))
