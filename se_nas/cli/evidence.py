"""Commands that look at what a run found: its evidence, what SE learned, its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from se_nas.cli.options import Average, DataDir, Device, Plugins, Quiet, Weights, parse_changes
from se_nas.cli.screen import say, stop_explained, tune_allocator
from se_nas.errors import counted
from se_nas.records.bounds import MOST_BATCH, MOST_COUNT, MOST_WORKERS


def evidence(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run with a retraining.")],
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="Gather only this part, one of {se_nas.runs.evidence.registry:PARTS}; may be repeated. By default "
            "all parts are gathered."
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="KEY=VALUE changes what is gathered, and is kept for later calls: seeds=[0,1,2,3,4], random=8, "
            "best_of=50, ratios=[4,16], "
            "published=[FILE], others=[RUN], searches=[1,2], within=30, space=30, contexts=4, stand_alone_se=true, "
            "timed=10; may be repeated.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, max=MOST_WORKERS, help="Networks that are trained at a time; they share the threads.")
    ] = 1,
    finished_only: Annotated[
        bool, typer.Option("--finished-only", help="Start no training, and show what the finished ones say.")
    ] = False,
    data_dir: DataDir = None,
    device: Annotated[str | None, typer.Option(help="Device to use in place of the run's.")] = None,
    quiet: Quiet = False,
) -> None:
    """Test whether to believe the answer of a search, by controls, rankings, repeated searches and timings.

    Random networks, SE nowhere and everywhere, and published ones, all within the same budgets, are trained by the
    run's own recipe with the same seeds, and their differences from the answer have 95 % intervals. Everything goes to
    RUN/evidence and into RUN/report.html. If a call is stopped, however hard, give it again to finish it: what has been
    trained is never trained again.
    """
    from se_nas.runs.evidence.gather import gather_evidence
    from se_nas.runs.evidence.gathering import Conditions

    tune_allocator()
    conditions = Conditions(jobs, finished_only, progress=not quiet)
    with stop_explained("run the same command again"):
        page = gather_evidence(
            run, part or (), parse_changes(change), conditions, say, data_dir=data_dir, device=device
        )
    say(f"report: {page}")


def excitation(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Folder of a run with a retraining, or of a retraining; or an architecture.json and --weights.",
        ),
    ],
    data: Annotated[str | None, typer.Option(help="Data set; by default what the network was trained on.")] = None,
    data_dir: DataDir = None,
    weights: Weights = None,
    average: Average = None,
    images: Annotated[
        int, typer.Option(min=1, max=MOST_COUNT, help="Look at no more test images than this, evenly spaced.")
    ] = 10_000,
    show: Annotated[
        list[str] | None,
        typer.Option("--class", help="Draw the gates of this class; may be repeated, at most 4 times."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=MOST_BATCH, help="Images that are evaluated at once.")] = 100,
    workers: Annotated[
        int, typer.Option(min=0, max=MOST_WORKERS, help="Processes that decode images that stay on disk.")
    ] = 4,
    output: Annotated[
        Path | None, typer.Option("--out", help="Folder for the results; by default RUN/excitation.")
    ] = None,
    plugin: Plugins = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Look at what SE learned: the gates of every unit by class and depth, and the accuracy that each is worth.

    Writes excitation.html with its plots, excitation.json, the importance of every channel for pruning
    (importance.json), and the gates of every class (gates.npz). An SE that does nothing is named. If RUN has a report,
    it is written again and shows this too.
    """
    from se_nas.hardware.device import pick_device
    from se_nas.report.pages.excitation.notes import notes
    from se_nas.runs.excitation import Request, excitation_folder, study_run
    from se_nas.runs.run_folder import alone_in

    folder = output or excitation_folder(source)
    tune_allocator()
    request = Request(
        source=source,
        data=data,
        data_dir=data_dir,
        weights=weights,
        average=average,
        images=images,
        classes=show or (),
        batch_size=batch_size,
        workers=workers,
    )
    reported = output is None and (source / "report.html").exists()
    with alone_in(source if reported else folder):
        found, page = study_run(request, folder, pick_device(device), progress=not quiet, say=say)
        say(f"accuracy with every SE: {found.accuracy:.2%} on {counted(found.images, 'test image')}")
        for line in notes(found):
            say(line)
        say(f"page: {page}")
        if reported:
            _write_report(source)  # which shows it too


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of the runs, at least two.")],
    output: Annotated[Path, typer.Option("--out", help="File of the page.")] = Path("compare.html"),
    plugin: Plugins = None,
) -> None:
    """Compare runs: their accuracy, costs, budgets, time and settings, in a table here and on a page.

    The page also has all Pareto fronts in one plot, and the SE of every block. What cannot be compared is named. Runs
    that differ only in their seed are summed up by n, mean and spread. The runs' records are read, and nothing is
    computed again.
    """
    from se_nas.cli.screen import print_comparison
    from se_nas.report.pages.compare.page import check_place, write_comparison
    from se_nas.report.pages.compare.reading import read_runs

    check_place(output)
    found = read_runs(runs)
    page = write_comparison(output, found)
    print_comparison(found)
    say(f"page: {page}")


def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a run, or of a retraining on images that stay on disk.")
    ],
) -> None:
    """Write the report.html of a run, or of a retraining on images that stay on disk, once it is finished."""
    _write_report(run)


def _write_report(run: Path) -> None:
    from se_nas.runs.verbs import render_report

    say(f"report: {render_report(run)}")
