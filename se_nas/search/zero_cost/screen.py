"""A first filter: of many random architectures, those of the best NASWOT are what a search evaluates first.

Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS" (arXiv 2101.08134), section 5, call it zero-cost warm-up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from rich.console import Console

from se_nas.errors import counted
from se_nas.hardware.progress_bar import tracked
from se_nas.records.bounds import MOST_COUNT
from se_nas.records.fields import Count, Number, Seconds
from se_nas.records.record import Record, read_record, write_record
from se_nas.search.budgets.repair import Repair
from se_nas.search.problem import SearchProblem
from se_nas.search.zero_cost.evaluator import ZeroCostConfig, ZeroCostEvaluator
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option

#: In the problem's folder.
SCREEN = "screen.json"


class ScreenConfig(ZeroCostConfig):
    """How many architectures are scored; see also `ZeroCostConfig`.

    Attributes:
        drawn: at random, each made to keep the budgets.
        kept: of the best scores, evaluated first, the best before the others.
    """

    drawn: int = Field(192, ge=2, le=MOST_COUNT)
    kept: int = Field(24, ge=1, le=MOST_COUNT)

    @model_validator(mode="after")
    def _fewer_kept(self) -> ScreenConfig:
        if self.kept >= self.drawn:
            raise ValueError(f"kept: must be less than drawn, {self.drawn:,}, but got {self.kept:,}")
        return self


class Screened(Record):
    """An architecture that was kept."""

    picks: dict[str, Option]
    score: Number


class ScreenFile(Record):
    """What `screen.json` holds.

    Attributes:
        drawn: as many as were asked for; distinct: of these, and such as the evaluator can judge.
        unscored: those that have no finite score.
        seconds, cpu_seconds: that all took.
    """

    format: Literal["se_nas screen"] = "se_nas screen"
    version: Literal[1] = 1
    drawn: Count
    distinct: Count
    unscored: Count
    kept: tuple[Screened, ...]
    seconds: Seconds
    cpu_seconds: Seconds


def screen(problem: SearchProblem, config: ScreenConfig, known: Collection[Architecture] | None) -> ScreenFile:
    """Draw, score and write down, once: where the problem's folder has the file, what it holds.

    Args:
        known: what can be evaluated; None for all.

    Raises:
        ConfigError: there are too few images.
        InfeasibleBudgetError: no architecture keeps the budgets.
    """
    path = problem.folder / SCREEN
    if path.exists():
        return read_record(ScreenFile, path)
    began, cpu_began = time.monotonic(), time.process_time()
    score = ZeroCostEvaluator(problem, config, "search.screen")
    repair = Repair(problem.space, problem.tables, problem.budgets)
    drawn = [a for a in drawn_by(repair, config.drawn, problem.seed) if known is None or a in known]
    shown = tracked(drawn, "first filter", len(drawn), wanted=problem.progress)
    scores = {architecture: score(architecture) for architecture in shown}
    ranked = sorted((a for a in scores if math.isfinite(scores[a])), key=scores.__getitem__, reverse=True)
    file = ScreenFile(
        drawn=config.drawn,
        distinct=len(scores),
        unscored=len(scores) - len(ranked),
        kept=tuple(Screened(picks=dict(a.as_dict()), score=scores[a]) for a in ranked[: config.kept]),
        seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - cpu_began,
    )
    write_record(path, file)
    if problem.progress:
        words = f"the best {len(file.kept):,} of {counted(file.distinct, 'network')} by NASWOT are evaluated first"
        Console(stderr=True).print(f"screen: {words}", highlight=False)
    return file


def drawn_by(repair: Repair, count: int, seed: int) -> list[Architecture]:
    """The distinct ones of so many random architectures, each made to keep the budgets."""
    space, rng = repair.space, np.random.default_rng([seed, 4])
    return list(dict.fromkeys(repair.nearest(space.sample(rng).as_dict(), rng) for _ in range(count)))
