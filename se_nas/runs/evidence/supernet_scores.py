"""Accuracies with a supernet's weights, each evaluated once and kept in a file, so that a killed call loses none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from se_nas.hardware.progress_bar import tracked
from se_nas.records.fields import Share
from se_nas.records.files import write_json
from se_nas.records.record import read_value
from se_nas.search.one_shot.inheritance import SupernetEvaluator
from se_nas.space.architecture import Architecture

Norms = Literal["own", "running"]


class SupernetScores:
    """Validation accuracies of architectures, from 0 to 1.

    Args:
        path: of the file that keeps them.
        evaluators: with batch norms of each network's own, and with the supernet's running statistics.
    """

    def __init__(self, path: Path, evaluators: dict[Norms, SupernetEvaluator], progress: bool) -> None:
        self._path, self._evaluators, self._progress = path, evaluators, progress
        self._known: dict[str, float] = read_value(dict[str, Share], path) if path.exists() else {}

    def __call__(self, architectures: Sequence[Architecture], norms: Norms = "own") -> list[float]:
        """Of each architecture."""
        keys = [json.dumps([norms, architecture.space_digest, architecture.picks]) for architecture in architectures]
        left = {key: a for key, a in zip(keys, architectures, strict=True) if key not in self._known}
        words = "evaluating with the supernet's weights"
        for key, architecture in tracked(left.items(), words, len(left), wanted=self._progress):
            self._known[key] = self._evaluators[norms](architecture)
            write_json(self._path, self._known)
        return [self._known[key] for key in keys]
