"""A comparison of runs as one page that loads nothing, and the same as plain rows for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from se_nas.errors import OutputError
from se_nas.records.files import write_atomic
from se_nas.records.measure import ACCURACY, Measure
from se_nas.report.pages.compare.reading import ComparedRun
from se_nas.report.pages.compare.rows import (
    Row,
    SeedGroup,
    comparison_rows,
    differences,
    metrics_of,
    seed_groups,
    timed_alike,
    validation_accuracy,
)
from se_nas.report.pages.render import render
from se_nas.report.plots.comparison import SearchedRun, compared_fronts
from se_nas.report.plots.figure import figure_svg
from se_nas.report.theme.words import ABSENT

_TITLE = "Runs compared"
#: By this a page is known as one of ours, which may be written over.
_MARK = f">{_TITLE} - se_nas<"


@dataclass(frozen=True)
class Comparison:
    """What is said of some runs.

    Attributes:
        differences: what makes figures incomparable.
        blocks: a row for each block, with each run's SE there.
        left_out: runs that the plot of the fronts cannot show, with the reason.
    """

    runs: Sequence[str]
    rows: Sequence[Row]
    differences: Sequence[str]
    groups: Sequence[SeedGroup]
    blocks: Sequence[Sequence[str]]
    left_out: Sequence[str]


def compare(runs: Sequence[ComparedRun]) -> Comparison:
    """What there is to say of the runs."""
    return Comparison(
        runs=[run.label for run in runs],
        rows=comparison_rows(runs),
        differences=differences(runs),
        groups=seed_groups(runs),
        blocks=_blocks(runs),
        left_out=[f"{label} {reason}" for label, reason in _left_out(runs).items()],
    )


def check_place(path: Path) -> None:
    """Raise OutputError where something other than a comparison is in the page's place."""
    if path.is_dir() or (path.exists() and _MARK not in path.read_bytes()[:1024].decode(errors="replace")):
        raise OutputError(f"{path}: must be free, or a page of se-nas compare, but is something else; choose --out")


def write_comparison(path: Path, runs: Sequence[ComparedRun]) -> Path:
    """Write the page.

    Raises:
        OutputError: something other than a comparison is in its place, or it cannot be written.
    """
    check_place(path)
    page = render("compare.html", title=_TITLE, page=compare(runs), figures=_figures(runs))
    return write_atomic(path, page)


def _blocks(runs: Sequence[ComparedRun]) -> list[list[str]]:
    """A row for each block by its number; a network that has fewer has none there."""
    networks = [run.finished.architecture.network.blocks if run.finished else () for run in runs]
    return [
        [str(number + 1), *(_placed(blocks[number].se) if number < len(blocks) else "" for blocks in networks)]
        for number in range(max(map(len, networks)))
    ]


def _placed(se: object) -> str:
    return ABSENT if se is None else str(getattr(se, "label", se))


# ---- the fronts


def _judged(runs: Sequence[ComparedRun]) -> Measure:
    """What the searches measured; of the first that says so."""
    return next((found for found in map(_measure, runs) if found is not None), ACCURACY)


def _measure(run: ComparedRun) -> Measure | None:
    return run.finished.result.search.measure if run.finished else None


def _left_out(runs: Sequence[ComparedRun]) -> dict[str, str]:
    """The runs that the plot of the fronts cannot show, each with the reason."""
    reasons = {}
    for run in runs:
        if run.finished is None:
            reasons[run.label] = "is not finished"
        elif validation_accuracy(run) is None:
            reasons[run.label] = "has no validation of its answer"
        elif (measure := _measure(run)) is not None and measure.name != _judged(runs).name:
            reasons[run.label] = f"measured {measure.name}"
    return reasons


def _figures(runs: Sequence[ComparedRun]) -> dict[str, Markup]:
    left = _left_out(runs)
    shown = [_searched(run) for run in runs if run.label not in left]
    metrics = [metric for metric in metrics_of(runs) if timed_alike(metric, runs)]
    metrics = [m for m in metrics if any(m in run.costs for run in shown)]
    if not shown or not metrics:
        return {}
    return {"fronts": figure_svg(compared_fronts(shown, metrics, _judged(runs)), "fronts")}


def _searched(run: ComparedRun) -> SearchedRun:
    assert run.finished is not None
    study = run.finished.study
    accuracy = validation_accuracy(run)
    assert accuracy is not None
    return SearchedRun(
        label=run.label,
        costs={metric: float(entry.value) for metric, entry in run.costs.items()},
        accuracy=accuracy,
        evaluations=study.evaluations if study else (),
        worth=study.measure.worth if study else float,
    )
