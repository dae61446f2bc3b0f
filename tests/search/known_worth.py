"""Evaluators that need no training: a known function of the architecture, alone and with epochs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.search.black_box.evaluation import OnEpoch
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace


def worth(architecture: Architecture) -> float:
    """A sum over the picks, each worth something of its own: from 0 to 1, and different for every architecture."""
    return sum(_share(f"{name}={option}") for name, option in architecture.picks) / max(1, len(architecture.picks))


def _share(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little") / 2**32


class Rising:
    """An evaluator whose accuracies rise to `worth` over some epochs."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def evaluate(self, architecture: Architecture, on_epoch: OnEpoch) -> float:
        """The worth; what is told on the way keeps the order of worths."""
        for epoch in range(self._epochs):
            on_epoch(epoch, worth(architecture) * (epoch + 1) / self._epochs)
        return worth(architecture)


def binding(space: SearchSpace, share: float = 0.5) -> list[Budget]:
    """Budgets on MACs and parameters, each of which this share of the networks keeps."""
    tables = count_tables(space)
    every = list(space.enumerate())
    return [Budget(m, sorted(tables[m].cost(a) for a in every)[int(share * len(every))]) for m in ("macs", "params")]


def feasible(space: SearchSpace, budgets: Sequence[Budget]) -> list[Architecture]:
    """By brute force, the architectures that keep the budgets."""
    tables = count_tables(space)
    return [a for a in space.enumerate() if all(b.holds(tables[b.metric].cost(a)) for b in budgets)]


def write_table(path: Path, space: SearchSpace) -> Path:
    """Every network of a space with its known worth."""
    lines = [json.dumps({"picks": a.as_dict(), "accuracy": worth(a)}) for a in space.enumerate()]
    path.write_text("\n".join(lines) + "\n")
    return path
