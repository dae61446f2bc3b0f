"""The real tuner on a study that needs no run: a tiny space, accuracy alone, random proposals."""

from __future__ import annotations

import functools
from pathlib import Path

from se_nas.nni_bridge.tuner import SeNasTuner
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.study import ArchitectureStudy
from se_nas.space.yaml.file import load_space


def open_toy_study(run: Path) -> ArchitectureStudy:
    config = OptunaConfig(sampler="random", objectives=("accuracy",), evaluator="table", table="none")
    space = load_space(run / "space.yaml")
    return ArchitectureStudy("toy", space, (), {}, config, 3, file=run / "study.journal", parallel=True)


class ToyTuner(SeNasTuner):
    @functools.cached_property
    def study(self) -> ArchitectureStudy:  # type: ignore[override]
        return open_toy_study(self.run)
