"""Commands that search: a whole run, one worker of a shared search, other budgets of a finished one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from se_nas.cli.options import Budgets, DataDir, NewRun, Quiet, Resume, RunChanges, Storage
from se_nas.cli.screen import print_answer, say, stop_explained, told_by_first, tune_allocator
from se_nas.errors import ConfigError, counted
from se_nas.records.shipped import find_run_file, place_of_results

if TYPE_CHECKING:
    from se_nas.cost.budget import Budget


def search(
    run_file: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_FILE",
            help="Run file: a YAML file such as runs/digits.yaml, or the name of a shipped one such as digits.",
        ),
    ],
    changes: RunChanges,
    output: NewRun = None,
    resume: Resume = False,
    storage: Storage = None,
    quiet: Quiet = False,
) -> None:
    """Do the whole job of a run file: train a supernet, search, certify the answer, retrain it and write a report.

    Everything lands in the run folder; open report.html there. A run that was stopped, however hard, continues with
    --resume and ends with the same numbers.

    `torchrun --standalone --nproc-per-node N -m se_nas search ...` trains the supernet and the winner on N devices.
    """
    from se_nas.hardware.device import pick_device
    from se_nas.hardware.distributed import join_ranks
    from se_nas.runs.run_folder import alone_in
    from se_nas.runs.search import run_search

    with told_by_first():
        run_file = find_run_file(run_file)
        config = changes.read(run_file, begun=resume)
        tune_allocator()
        wanted = pick_device(config.device)
    folder = output or place_of_results(run_file) / config.name
    with ExitStack() as work:
        with stop_explained(), join_ranks(wanted) as (ranks, device):
            with ranks.together():
                if ranks.first:
                    work.enter_context(alone_in(folder))  # for its evidence too
            run = run_search(
                run_file,
                config,
                folder,
                resume=resume,
                progress=not quiet,
                say=say,
                storage=storage,
                ranks=ranks,
                device=device,
            )
        if not ranks.first:
            return
        print_answer(run.path)
        gather_if_asked(run.path, quiet)
        say(f"report: {run / 'report.html'}")


def gather_if_asked(folder: Path, quiet: bool) -> None:
    """The evidence that a run file asks for, once the run has its answer."""
    from se_nas.runs.evidence.gather import gather_evidence
    from se_nas.runs.evidence.gathering import Conditions
    from se_nas.runs.run_folder import RunFolder

    if RunFolder(folder).config.get("evidence") is not None:
        with stop_explained(f"se-nas evidence {folder}"):
            gather_evidence(folder, (), {}, Conditions(progress=not quiet), say)


def worker(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a run that another process has begun, or a copy of it.")
    ],
    storage: Storage = None,
    data_dir: DataDir = None,
    device: Annotated[str | None, typer.Option(help="Device to use in place of the run's.")] = None,
    quiet: Quiet = False,
) -> None:
    """Help with a running Optuna-driven search until it is done, from any machine that reaches its storage.

    Workers may come and go: if one dies, another takes over what it was evaluating.
    """
    from se_nas.runs.worker import work_on

    if storage is None:
        raise ConfigError("--storage", ["must be the storage that `se-nas search` was given, but got none"])
    tune_allocator()
    with stop_explained("run the same command again"):
        done = work_on(run, storage, data_dir=data_dir, device=device, progress=not quiet, say=say)
    say(f"{counted(done, 'evaluation was', 'evaluations were')} done here, and the search has what it needs")


def decode(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished search.")],
    budget: Budgets = None,
    pick: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Take the architecture of the Pareto front of this number in report.html, in place of a decode.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the answer; by default RUN/decodes/BUDGETS or .../pick-NUMBER."),
    ] = None,
) -> None:
    """Answer other budgets from a finished search: a new exact decode and certificate, in seconds.

    The budgets given take the place of the run's own, all of them: one that should still bind is given again.

    With --pick the answer is an architecture of the search's Pareto front, certified under the run's own budgets.
    """
    from se_nas.cost.budget import parse_budget_options
    from se_nas.records.models.run_result import RunResult
    from se_nas.records.record import read_record
    from se_nas.runs.run_file import load_plugins_of
    from se_nas.runs.search import decode_again, pick_from_front
    from se_nas.search.result import SCORES

    load_plugins_of(run / "config.yaml")  # a budget may be on a metric of one
    budgets = parse_budget_options(budget or [], "--budget")
    if pick is not None and budgets:
        raise ConfigError("--pick", ["must be given without --budget, but got both"])
    if pick is None and not budgets:
        raise ConfigError(
            "--budget", ["at least one budget must be given, such as --budget macs=15M, or --pick and a number"]
        )
    name = f"pick-{pick}" if pick is not None else _name_of(budgets)
    folder = output or run / "decodes" / name
    tune_allocator()
    if pick is not None:
        pick_from_front(run, pick, folder)
    else:
        picks = decode_again(run, budgets, folder).architecture.as_dict()
        if "resolution" in picks and (run / "search" / SCORES).exists():
            side = picks["resolution"]
            say(f"resolution {side} did best in the search, of those that keep these budgets; none was looked at anew")
        own = read_record(RunResult, run / "result.json").budgets
        if left := sorted(own.keys() - {b.metric for b in budgets}):
            word = "budget" if len(left) == 1 else "budgets"
            say(f"the run's own {word} on {', '.join(left)} did not bind this answer")
    print_answer(folder)


def subnet(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished search that trained a supernet.")],
    budget: Budgets = None,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the network; by default RUN/subnet, or RUN/decodes/BUDGETS."),
    ] = None,
    data_dir: DataDir = None,
    device: Annotated[str | None, typer.Option(help="Device to use in place of the run's.")] = None,
) -> None:
    """Take the network of a finished search out of its supernet, with the weights that it has there.

    Nothing is trained; its batch norms are recalibrated on training images. The folder is like that of a retraining:
    evaluate, export and excitation take it, and `se-nas retrain --from RUN` trains it on. With budgets it is the
    network of another decode.
    """
    from se_nas.cost.budget import parse_budget_options
    from se_nas.runs.run_file import load_plugins_of
    from se_nas.runs.run_folder import SUBNET
    from se_nas.runs.subnets.fine_tuning import accuracy_lines
    from se_nas.runs.subnets.inherited import make_subnet
    from se_nas.runs.subnets.on_page import show_on_page

    load_plugins_of(run / "config.yaml")
    budgets = parse_budget_options(budget or [], "--budget")
    folder = output or (run / "decodes" / _name_of(budgets) if budgets else run / SUBNET)
    tune_allocator()
    make_subnet(run, budgets, folder, data_dir=data_dir, device=device, say=say)
    for line in accuracy_lines(folder):
        say(line)
    show_on_page(folder, say)
    say(f"network with its weights: {folder}")


def _name_of(budgets: Sequence[Budget]) -> str:
    return "_".join(f"{budget.metric}-{budget.limit:.12g}" for budget in budgets)
