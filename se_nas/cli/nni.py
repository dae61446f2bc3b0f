"""Commands that run a search as an NNI experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from se_nas.cli.options import NewRun, Quiet, RunChanges
from se_nas.cli.screen import print_answer, say, stop_explained, tune_allocator
from se_nas.cli.search import gather_if_asked
from se_nas.nni_bridge.experiment.addresses import HOST, PORT
from se_nas.records.shipped import find_run_file, place_of_results

NewPort = Annotated[int | None, typer.Option(help="Port of NNI's page; by default the one it had.")]
NewHost = Annotated[str | None, typer.Option(help="Address that NNI's page listens on; by default the one it had.")]
Detach = Annotated[bool, typer.Option("--detach", help="Leave the experiment running and give the terminal back.")]
Launched = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run that `se-nas launch` began.")]


def launch(
    run_file: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_FILE",
            help="Run file: a YAML file such as runs/digits_nni.yaml, or the name of a shipped one such as digits_nni.",
        ),
    ],
    changes: RunChanges,
    output: NewRun = None,
    port: Annotated[int, typer.Option(help="Port of NNI's page.")] = PORT,
    host: Annotated[
        str,
        typer.Option(
            help="Address that NNI's page listens on. The page asks nobody for a password: anyone who reaches it can "
            "run commands here. Trials on other machines need an address that they can reach."
        ),
    ] = HOST,
    detach: Detach = False,
    quiet: Quiet = False,
) -> None:
    """Run a search as an NNI experiment that you can watch in NNI's web page.

    In an Optuna-driven search each architecture is a trial, with its choices as readable parameters. In a grid of
    differentiable searches (see `nni:` in the run file) each search is a trial, shown epoch by epoch. When the
    experiment is done, the answer is certified, retrained and reported as after `se-nas search`. The page stays up
    until `se-nas stop RUN`.
    """
    from se_nas.nni_bridge.launch import launch as launch_run

    run_file = find_run_file(run_file)
    config = changes.read(run_file)
    tune_allocator()
    folder = output or place_of_results(run_file) / config.name
    with stop_explained(f"se-nas resume {folder}"):
        launch_run(run_file, config, folder, port=port, host=host, detach=detach, progress=not quiet, say=say)
    _print_answer_if_there(folder, quiet)


def resume(
    run: Launched, port: NewPort = None, host: NewHost = None, detach: Detach = False, quiet: Quiet = False
) -> None:
    """Continue a launched run that was stopped or cut off, or follow one that is still running, until its end."""
    from se_nas.nni_bridge.launch import resume as resume_run

    tune_allocator()
    with stop_explained(f"se-nas resume {run}"):
        resume_run(run, port=port, host=host, detach=detach, progress=not quiet, say=say)
    _print_answer_if_there(run, quiet)


def view(run: Launched, port: NewPort = None, host: NewHost = None) -> None:
    """Show NNI's page of a stopped experiment, without running anything."""
    from se_nas.nni_bridge.launch import view as view_run

    view_run(run, port=port, host=host, say=say)


def stop(run: Launched, quiet: Quiet = False) -> None:
    """Stop the experiment of a launched run and close its page; what was found so far is kept for `se-nas resume`.

    If the experiment is done and nobody waited for it (--detach), the run is finished first: certified, retrained and
    reported. Evidence that the run file asks for is left to `se-nas evidence RUN`.
    """
    from se_nas.nni_bridge.launch import stop as stop_run

    tune_allocator()
    with stop_explained(f"se-nas resume {run}"):
        stop_run(run, progress=not quiet, say=say)


def _print_answer_if_there(folder: Path, quiet: bool) -> None:
    """A detached run, or one of a grid of searches, has no answer of its own yet."""
    if (folder / "result.json").exists():
        print_answer(folder)
        gather_if_asked(folder, quiet)
