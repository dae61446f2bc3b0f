"""What a search leaves: its finding, and the files in its folder that other commands read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from se_nas.cost.latencies import Latencies
from se_nas.errors import ConfigError
from se_nas.records.checkpoint import load_checkpoint
from se_nas.records.fields import Number
from se_nas.records.files import write_json
from se_nas.records.measure import ACCURACY, Measure
from se_nas.records.models.run_result import LedgerEntry
from se_nas.records.record import read_value
from se_nas.search.answer import Answer, answer
from se_nas.search.one_shot.weight_training import CHECKPOINT
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.supernet.supernet import SuperNet

#: Files in the problem's folder: of an Optuna-driven search the study, its name, the supernet and the table. A
#: differentiable search leaves a supernet there where that of a restart was best.
STUDY = "study.journal"
STUDY_NAME = "study.json"
SUPERNET = "supernet.pt"
TABLE = "table.jsonl"


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found.

    Attributes:
        answer: the architecture for the problem's budgets, certified; given what is known of each latency.
        accuracy: of an architecture, as the search judges it.
        measure: what that is.
        summary: what `result.json` says of the search.
        seconds: wall time, added up over resumed processes; images: training images seen.
        ledger: the same by parts of the search, with CPU seconds where they were counted.
        others: what it would answer beside, in the budgets as they are predicted, best first.
    """

    answer: Callable[[Latencies], Answer]
    accuracy: Callable[[Architecture], float]
    summary: Mapping[str, object]
    seconds: float
    images: int
    ledger: tuple[LedgerEntry, ...]
    measure: Measure = ACCURACY
    others: Callable[[], Sequence[Architecture]] = tuple


#: In the problem's folder: the rules that had ended the search when the run gave its answer.
STOPPED = "stopped.json"

#: What the strategies leave in a problem's folder for other budgets.
SCORES = "scores.json"
EVALUATIONS = "evaluations.json"


def result_by_scores(
    problem: SearchProblem,
    scores: Mapping[str, Sequence[float]],
    accuracy: Callable[[Architecture], float],
    *,
    summary: Mapping[str, object] | None = None,
    seconds: float = 0.0,
    images: int = 0,
    ledger: Sequence[LedgerEntry] = (),
    measure: Measure = ACCURACY,
    others: Callable[[], Sequence[Architecture]] = tuple,
) -> SearchResult:
    """What a search found that scores options: the answer is the exact decode of its scores, under any budgets.

    Args:
        scores: for each choice one number an option; they are written into the problem's folder.
    """
    write_json(problem.folder / SCORES, {name: list(values) for name, values in scores.items()})
    return SearchResult(
        answer=lambda latencies: answer(problem.space, problem.tables, latencies, problem.budgets, scores),
        accuracy=accuracy,
        summary=dict(summary or {}),
        seconds=seconds,
        images=images,
        ledger=tuple(ledger),
        measure=measure,
        others=others,
    )


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


def read_scores(path: Path, space: SearchSpace) -> dict[str, tuple[float, ...]]:
    """What the scores' file holds: a number for each option of each choice of the space.

    Raises:
        ConfigError: it is damaged, or of another space.
    """
    scores: dict[str, tuple[float, ...]] = read_value(dict[str, tuple[Number, ...]], path)
    wanted = {choice.name: len(choice.options) for choice in space.choices}
    if {name: len(values) for name, values in scores.items()} != wanted:
        raise ConfigError(str(path), [f"file: must have a score for each option of each choice of space {space.name}"])
    return scores
