"""What commands print: lines, tables, bars, and how a stopped training goes on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from se_nas.errors import SeNasError, TrainingInterrupted, wrapped
from se_nas.hardware.rank import rank_of_environment

if TYPE_CHECKING:
    from rich.table import Table

    from se_nas.records.models.certificate import SearchCertificate
    from se_nas.records.models.run_result import RetrainSummary
    from se_nas.report.pages.compare.reading import ComparedRun


@contextmanager
def told_by_first() -> Iterator[None]:
    """For what every rank of a job does alike before they meet: the first tells of a fault, the others just end."""
    try:
        yield
    except SeNasError as error:
        if rank_of_environment():
            raise SystemExit(2) from error
        raise


def say(line: str) -> None:
    """Print a line, on the first rank of a job alone."""
    if rank_of_environment() == 0:
        print(fitted(line, sys.stdout), flush=True)


def fitted(line: str, stream: TextIO) -> str:
    """A line as it is printed: whole into a file, and on a terminal, which would break it anywhere, between words."""
    return wrapped(line, shutil.get_terminal_size().columns) if stream.isatty() else line


def show(table: Table) -> None:
    """Print a table; one that goes to a file or a pipe is not cut to a terminal's width."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160).print(table)


def tune_allocator() -> None:
    """For training and for timing alike: a latency holds under the allocator that it was measured with.

    Results say so, in their environment.
    """
    from se_nas.hardware.allocator import tune_allocator

    tune_allocator()


@contextmanager
def stop_explained(go_on: str = "add --resume to the same command") -> Iterator[None]:
    """A training stopped by a signal says how to go on; typer would end it without a word."""
    try:
        yield
    except TrainingInterrupted as error:
        if rank_of_environment() == 0:
            print(f"{error} ({go_on})", file=sys.stderr)
        raise typer.Exit(128 + error.signal_number) from error


def print_comparison(runs: Sequence[ComparedRun]) -> None:
    """Runs beside each other, what cannot be compared of them, and groups of seeds."""
    from rich.table import Table
    from rich.text import Text

    from se_nas.report.pages.compare.page import compare

    found = compare(runs)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", *found.runs):
        table.add_column(column, overflow="fold")
    for row in found.rows:
        cells = (Text(f"{cell.text} ★" if cell.best else cell.text, "bold" if cell.best else "") for cell in row.cells)
        table.add_row(row.name, *cells)
    show(table)
    for line in found.differences:
        say(line)
    for group in found.groups:
        title = f"{', '.join(group.runs)}: seeds {', '.join(group.seeds)}"
        seeds = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
        for column in ("", "n", "mean", "standard deviation"):
            seeds.add_column(column, overflow="fold")
        for words in group.rows:
            seeds.add_row(*words)
        show(seeds)


def print_answer(folder: Path) -> None:
    """The certificate of a run's answer as a table, with the accuracy it has, and where the architecture is."""
    from se_nas.records.models.certificate import SearchCertificate
    from se_nas.records.models.run_result import RunResult
    from se_nas.records.record import read_record

    certificate = read_record(SearchCertificate, folder / "certificate.json")
    # another answer of a search, by `decode`, has no training yet
    result = folder / "result.json"
    trained = read_record(RunResult, result).retrain if result.exists() else None
    show(answer_table(certificate, trained))
    say(f"architecture: {folder / 'architecture.json'}")
    say(f"certificate: {folder / 'certificate.json'}")


def answer_table(certificate: SearchCertificate, trained: RetrainSummary | None) -> Table:
    """A row a metric: its value, the limit and whether it is kept, and how it is known; and the accuracy."""
    from rich.table import Table

    from se_nas.cost.budget import format_cost
    from se_nas.evidence.intervals import accuracy_interval

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "value", "limit", "holds"):
        table.add_column(column, no_wrap=True, overflow="ignore")
    table.add_column("how it is known", overflow="fold")
    limits = {entry.metric: entry for entry in certificate.budgets}
    for entry in certificate.known.values():
        bound = limits.get(entry.metric)
        known = [
            f"{entry.how}{'' if entry.how == 'predicted' else f' {entry.n} times'}, "
            f"{entry.ci95[0]:.3g} to {entry.ci95[1]:.3g}"
            if entry.ci95
            else entry.how
        ]
        known += [
            f"predicted {format_cost(other.metric, other.value)}"
            for other in certificate.costs
            if other.metric == entry.metric and other.how == "predicted" and other != entry
        ]
        table.add_row(
            entry.metric,
            format_cost(entry.metric, entry.value),
            format_cost(entry.metric, bound.limit) if bound else "",
            ("yes" if bound.holds else "NO") if bound else "",
            "; ".join(known),
        )
    if trained is not None:
        images = trained.test_images
        how = f"{accuracy_interval(trained.test_accuracy, images)}; of {images:,} test images, retrained"
        table.add_row("accuracy", f"{100 * trained.test_accuracy:.2f} %", "", "", how)
    return table
