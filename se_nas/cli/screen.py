"""What commands print: lines, tables, bars, and how a stopped training goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from se_nas.errors import TrainingInterrupted
from se_nas.hardware.rank import rank_of_environment

if TYPE_CHECKING:
    from rich.table import Table

    from se_nas.report.pages.compare.reading import ComparedRun


def say(line: str) -> None:
    """Print a line as it is, on the first rank of a job alone."""
    if rank_of_environment() == 0:
        print(line, flush=True)


def show(table: Table) -> None:
    """Print a table; one that goes to a file or a pipe is not cut to a terminal's width."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160).print(table)


def tune_allocator() -> None:
    """For training and for timing alike: a latency holds under the allocator that it was measured with."""
    from se_nas.hardware.allocator import tune_allocator

    if tune_allocator():
        say("allocator: freed memory is kept for the next step (mallopt), not returned to the system")


@contextmanager
def bar(description: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; what it yields is told how many are done, and of how many."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


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
    from rich.table import Table

    from se_nas.cost.budget import format_cost
    from se_nas.evidence.intervals import accuracy_interval
    from se_nas.records.models.certificate import SearchCertificate
    from se_nas.records.models.run_result import RunResult
    from se_nas.runs.run_folder import RunFolder

    run = RunFolder(folder)
    certificate = run.read("certificate.json", SearchCertificate)
    table = Table(
        box=None, padding=(0, 2, 0, 0), title=f"certificate: {folder / 'certificate.json'}", title_justify="left"
    )
    for column in ("", "value", "95 % interval", "how", "limit", "holds"):
        table.add_column(column, overflow="fold")
    limits = {entry["metric"]: entry for entry in certificate["budgets"]}
    for entry in certificate["costs"]:
        metric = entry["metric"]
        bound = limits.get(metric) if entry["how"] != "predicted" else None
        table.add_row(
            metric,
            format_cost(metric, entry["value"]),
            " to ".join(f"{end:.3g}" for end in entry["ci95"]) if entry["ci95"] else "",
            entry["how"] + (f", n={entry['n']}" if entry["n"] > 1 else ""),
            format_cost(metric, bound["limit"]) if bound else "",
            ("yes" if bound["holds"] else "NO") if bound else "",
        )
    trained = run.read("result.json", RunResult)["retrain"] if (run / "result.json").exists() else None
    if trained is not None:  # another answer of a search, by `decode`, has no training yet
        accuracy, images = trained["test_accuracy"], trained["test_images"]
        how = f"of {images:,} test images, retrained"
        table.add_row("accuracy", f"{100 * accuracy:.2f} %", accuracy_interval(accuracy, images), how)
    show(table)
    say(f"architecture: {folder / 'architecture.json'}")
