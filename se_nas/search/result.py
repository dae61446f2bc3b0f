"""What a search leaves: its finding, and the files in its folder that other commands read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable
from se_nas.errors import ConfigError
from se_nas.records.checkpoint import load_checkpoint
from se_nas.search.answer import Answer, Latency, answer, answer_among
from se_nas.search.black_box.evaluation import best_first, evaluations_from
from se_nas.search.one_shot.weight_training import CHECKPOINT
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.supernet.supernet import SuperNet

#: Files in the problem's folder: of an Optuna-driven search the study, its name, the supernet and the table. A
#: differentiable search leaves a supernet there where that of a restart was best.
STUDY = "study.journal"
STUDY_NAME = "study.json"
SUPERNET = "supernet.pt"
TABLE = "table.jsonl"


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        answer: the architecture for the problem's budgets, certified; given what is known of latency.
        accuracy: of an architecture on the validation part, as the search judges it.
        summary: what `result.json` says of the search.
        seconds: wall time, added up over resumed processes; images: training images seen.
        ledger: the same by parts of the search, with CPU seconds where they were counted.
    """

    answer: Callable[[Latency], Answer]
    accuracy: Callable[[Architecture], float]
    summary: dict[str, Any]
    seconds: float
    images: int
    ledger: list[dict[str, Any]]


#: What the strategies leave in a problem's folder for other budgets.
SCORES = "scores.json"


EVALUATIONS = "evaluations.json"


def load_supernet(folder: Path, space: SearchSpace) -> SuperNet | None:
    """The trained supernet of a finished search, on the CPU; None of a search that had none.

    Args:
        folder: the problem's.

    Raises:
        CheckpointError: its file is damaged.
    """
    if (folder / SUPERNET).exists():
        weights = load_checkpoint(folder / SUPERNET)["supernet"]
    elif (folder / CHECKPOINT).exists():
        weights = load_checkpoint(folder / CHECKPOINT)["parts"]["supernet"]
    else:
        return None
    supernet = SuperNet(space)
    supernet.load_state_dict(weights)
    return supernet


def answer_again(
    folder: Path,
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    latency: Latency,
    budgets: Sequence[Budget],
) -> Answer:
    """The answer of a finished search under other budgets: a decode of its scores, or the best that it evaluated.

    Args:
        folder: the problem's, where the search left what it learned.

    Raises:
        ConfigError: it holds no finished search.
        InfeasibleBudgetError: no architecture keeps the budgets.
    """
    if (folder / SCORES).exists():
        return answer(space, tables, latency, budgets, _read(folder / SCORES))
    if (folder / EVALUATIONS).exists():
        source = str(folder / EVALUATIONS)
        missing = [budget.metric for budget in budgets if budget.metric not in tables]
        if missing:
            raise ConfigError(
                "budgets", [f"{metric}: needs a cost table, but the run was made without one" for metric in missing]
            )
        ranked = best_first(evaluations_from(space, _read(folder / EVALUATIONS), source), budgets)
        return answer_among(space, tables, latency, budgets, ((e.architecture, e.accuracy or 0.0) for e in ranked))
    raise ConfigError(
        str(folder.parent),
        [f"must be the folder of a run whose search is done, but it has no {folder.name}/{SCORES} or {EVALUATIONS}"],
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), [f"file: must be JSON that can be read, but got: {error}"]) from error
