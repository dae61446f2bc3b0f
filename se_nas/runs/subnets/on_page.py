"""The page of the run whose network was trained on, written again so that it shows what came of it."""

from __future__ import annotations

from pathlib import Path

from se_nas.hardware.lines import Say
from se_nas.report.pages.run import write_report
from se_nas.runs.run_folder import alone_in
from se_nas.runs.shown import shown_configuration


def show_on_page(folder: Path, say: Say) -> None:
    """Write the page of the run again in which a folder of trained weights lies; nothing where it lies in none.

    No fault in drawing may end the training before it as failed.
    """
    run = folder.resolve().parent
    if not all((run / name).exists() for name in ("report.html", "space.yaml", "result.json")):
        return
    try:
        with alone_in(run):
            page = write_report(run, shown_configuration(run / "config.yaml"))
        say(f"report: {page}")
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        say(f"the report could not be written ({reason}); `se-nas report {run}` tries again")
