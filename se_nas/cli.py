"""The command line, `se-nas`: each command parses, calls one function, and prints what it gave."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
import typer.core
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import se_nas
from se_nas.cost.budget import format_cost, parse_budget_options
from se_nas.cost.latency.table import build_latency_table, cached_latency_table, latency_report_lines
from se_nas.cost.latency.timing import latency_key, measure_networks
from se_nas.cost.table import CostTable, count_tables
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.on_disk.shard_writing import write_shards
from se_nas.errors import ConfigError, SeNasError, cut, short
from se_nas.evidence.sweep import MeasuredSweep, Sweep, parse_sweep, sweep_space, write_sweep
from se_nas.export.write import FORMS
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.device import pick_device
from se_nas.nni_bridge.experiment.addresses import HOST, PORT
from se_nas.records.files import write_atomic
from se_nas.records.numbers import MOST_SEED, MOST_WORKERS
from se_nas.report.pages.excitation import notes
from se_nas.report.pages.retraining import is_retraining, write_retrain_report
from se_nas.report.pages.run import write_report
from se_nas.report.plots.figure import figure_png
from se_nas.report.plots.sweep import sweep_plot
from se_nas.report.space_table import space_table
from se_nas.runs.evidence.gather import PARTS, Conditions, gather_evidence
from se_nas.runs.excitation import Request, excitation_folder, study_run
from se_nas.runs.export import export_retrained
from se_nas.runs.retrain import retrain_exported
from se_nas.runs.retrain_imagenet import Job, Teacher, evaluate_on_imagenet, retrain_on_imagenet
from se_nas.runs.run_file import load_run, parse_recipe
from se_nas.runs.run_folder import RunFolder, alone_in
from se_nas.runs.search import decode_again, run_search
from se_nas.runs.shown import shown_configuration
from se_nas.runs.worker import work_on
from se_nas.search.black_box.storage_url import masked
from se_nas.search.budgets.decode import greatest_cost, least_cost
from se_nas.space.search_space import SearchSpace
from se_nas.space.size import exact_size, rounded_size
from se_nas.space.templates import NO_SE
from se_nas.space.yaml_file import load_space
from se_nas.training.distributed import rank_of_environment
from se_nas.training.loop import TrainingInterrupted
from se_nas.training.recipe_files import RECIPES

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Command(typer.core.TyperCommand):
    """A command none of whose values may be empty: an empty path would be taken for the working folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        param: Any
        for param in self.get_params(ctx):
            values = given.get(param.name)
            if "" in (values if isinstance(values, (list, tuple)) else [values]):
                raise typer.BadParameter("must not be empty", ctx=ctx, param=param)
        return super().parse_args(ctx, args)


class _Commands(typer.Typer):
    """Commands that are all a `_Command`."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[_Function], _Function]:
        """As typer's."""
        return super().command(name, cls=_Command, **settings)


app = _Commands(
    name="se-nas",
    help="Search CNNs that use Squeeze-and-Excitation exactly where it pays, under hard budgets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
space_app = _Commands(no_args_is_help=True, help="Look at search spaces.")
app.add_typer(space_app, name="space")
data_app = _Commands(no_args_is_help=True, help="Prepare images.")
app.add_typer(data_app, name="data")

# tables written to a file or a pipe are not cut to a terminal's width
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps; auto takes the fastest there is.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder that holds the data set (CIFAR's official layout, or class folders).")
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch a CIFAR data set into --data-dir if it is not there.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from what the output folder holds.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]


def _without_password(context: typer.Context, option: typer.CallbackParam, url: str | None) -> str | None:
    """Of `--storage`: every user of a machine can read the command lines there; not so the environment."""
    source = context.get_parameter_source(option.name or "")
    if url and source and source.name == "COMMANDLINE" and masked(url) != url:
        must = "must hold no password where others can read it, on the command line: put the URL into SE_NAS_STORAGE"
        raise ConfigError("--storage", [f"{must}, or its password into PGPASSWORD or ~/.pgpass, but got {masked(url)}"])
    return url


Storage = Annotated[
    str | None,
    typer.Option(
        envvar="SE_NAS_STORAGE",
        callback=_without_password,
        help="Database that several workers share, such as postgresql+psycopg://user@host/name; never written down. "
        "A URL with a password comes by the variable.",
    ),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option("--budget", help="METRIC=LIMIT, such as macs=15M, params=300k or latency_ms=2.5; may be repeated."),
]

Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="PATH=VALUE replaces a value of the run file, such as search.epochs=5; may be repeated."
    ),
]
Average = Annotated[
    bool | None, typer.Option(help="The averaged weights or the last; by default the averaged where there are any.")
]
MaxDamaged = Annotated[
    int, typer.Option(min=0, help="So many images may be damaged, on each rank: each is named and left out.")
]
Enqueue = Annotated[
    list[str] | None,
    typer.Option(
        help="Of an Optuna-driven search: evaluate this first: an architecture.json, a finished run's folder, or a "
        "baseline such as no_se or se_r16; may be repeated."
    ),
]
NewRun = Annotated[Path | None, typer.Option("--out", help="Run folder; by default NAME beside the run file.")]
OtherDevice = Annotated[str | None, typer.Option(help="Replaces the run's device.")]
OtherSeed = Annotated[int | None, typer.Option(help="Replaces the run's seed.")]


#: Heading in the help of options that only retraining on ImageNet has.
_IMAGENET = "With --data imagenet"
DEFAULT_RECIPE = "mobile-150"
_BAR = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


# what typer raises for words that it cannot parse; of that family it exports this subclass alone
_UsageError: Any = typer.BadParameter.__base__


def _say(line: str) -> None:
    if rank_of_environment() == 0:
        out.print(line, markup=False)


def _tune_allocator() -> None:
    """For training and for timing alike: a latency holds under the allocator that it was measured with."""
    if tune_allocator():
        _say("allocator: freed memory is kept for the next step (mallopt), not returned to the system")


@contextmanager
def _stop_explained(go_on: str = "add --resume to the same command") -> Iterator[None]:
    """A training stopped by a signal says how to go on; typer would end it without a word."""
    try:
        yield
    except TrainingInterrupted as error:
        if rank_of_environment() == 0:
            print(f"{error} ({go_on})", file=sys.stderr)
        raise typer.Exit(128 + error.signal_number) from error


@app.command()
def search(
    run_file: Annotated[Path, typer.Argument(help="Run file (YAML), such as runs/digits.yaml.")],
    output: NewRun = None,
    resume: Resume = False,
    data_dir: DataDir = None,
    download: Download = False,
    device: OtherDevice = None,
    seed: OtherSeed = None,
    budget: Budgets = None,
    change: Changes = None,
    enqueue: Enqueue = None,
    storage: Storage = None,
    quiet: Quiet = False,
) -> None:
    """Do the whole job of a run file: supernet, search, decode, certificate, retraining of the winner, report.

    Everything lands in the run folder; open report.html there. A run that was stopped, however hard, goes on with
    --resume and ends with the same numbers.
    """
    config = load_run(run_file, _changes(change, data_dir, download, device, seed, budget, enqueue))
    _tune_allocator()
    folder = output or run_file.parent / config.name
    with alone_in(folder):  # for its evidence too
        with _stop_explained():
            run = run_search(run_file, config, folder, resume=resume, progress=not quiet, say=_say, storage=storage)
        _print_answer(run.path)
        _gather_if_asked(run.path, quiet)
        _say(f"report: {run / 'report.html'}")


def _changes(
    words: list[str] | None,
    data_dir: Path | None,
    download: bool,
    device: str | None,
    seed: int | None,
    budget: list[str] | None,
    enqueue: list[str] | None,
) -> dict[str, Any]:
    """What the command line says otherwise than the run file, by dotted path."""
    changes = _parse_changes(words)
    if data_dir is not None:
        changes["data.dir"] = str(data_dir)
    if download:
        changes["data.download"] = True
    if device is not None:
        changes["device"] = device
    if seed is not None:
        changes["seed"] = seed
    for wanted in parse_budget_options(budget or [], "--budget"):
        changes[f"budgets.{wanted.metric}"] = wanted.limit
    if enqueue:
        changes["search.enqueue"] = [str(Path(word).resolve()) if Path(word).exists() else word for word in enqueue]
    return changes


def _parse_changes(words: list[str] | None) -> dict[str, Any]:
    """`--set PATH=VALUE` words as values by dotted path; ConfigError for a word of another form."""
    changes: dict[str, Any] = {}
    for word in words or []:
        path, equals, value = word.partition("=")
        if not (path and equals):
            raise ConfigError("--set", [f"a change must be PATH=VALUE such as search.epochs=5, but got {short(word)}"])
        try:
            changes[path] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date or a number like none
            raise ConfigError("--set", [f"{path}: the value must be YAML, but got {short(value)}"]) from error
    return changes


@app.command()
def worker(
    run: Annotated[Path, typer.Argument(help="Folder of a run that another process has begun, or a copy of it.")],
    storage: Storage = None,
    data_dir: DataDir = None,
    device: OtherDevice = None,
    quiet: Quiet = False,
) -> None:
    """Join a running Optuna-driven search from any machine that reaches its storage, until the search is done.

    A worker may come and go: if it dies, another evaluates what it was evaluating.
    """
    if storage is None:
        raise ConfigError("--storage", ["must be the storage that `se-nas search` was given, but got none"])
    _tune_allocator()
    with _stop_explained("run the same command again"):
        done = work_on(run, storage, data_dir=data_dir, device=device, progress=not quiet, say=_say)
    _say(f"{done} evaluations were done here; the search has what it needs")


Port = Annotated[int, typer.Option(help="Of the page.")]
NewPort = Annotated[int | None, typer.Option(help="Of the page; by default the one it had.")]
NewHost = Annotated[str | None, typer.Option(help="Address to listen on; by default the one it had.")]
Detach = Annotated[bool, typer.Option("--detach", help="Do not wait for the experiment to end.")]
Launched = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run that `se-nas launch` began.")]


@app.command()
def launch(
    run_file: Annotated[Path, typer.Argument(help="Run file (YAML), such as runs/digits_nni.yaml.")],
    output: NewRun = None,
    port: Port = PORT,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. NNI's page asks nobody for a password: anyone who reaches it can run commands "
            "here. Trials on other machines need an address that they reach."
        ),
    ] = HOST,
    data_dir: DataDir = None,
    download: Download = False,
    device: OtherDevice = None,
    seed: OtherSeed = None,
    budget: Budgets = None,
    change: Changes = None,
    enqueue: Enqueue = None,
    detach: Detach = False,
    quiet: Quiet = False,
) -> None:
    """Run a search as an NNI experiment, to be watched in NNI's web dashboard.

    An Optuna-driven search has one trial for each architecture, with its readable picks; of differentiable searches
    (see `nni:` in the run file) each trial is a whole one, shown epoch by epoch. When the experiment is done, the
    answer is certified, retrained and reported as after `se-nas search`; the page stays up until `se-nas stop RUN`.
    """
    from se_nas.nni_bridge.launch import launch as launch_run

    config = load_run(run_file, _changes(change, data_dir, download, device, seed, budget, enqueue))
    _tune_allocator()
    folder = output or run_file.parent / config.name
    with _stop_explained(f"se-nas resume {folder}"):
        launch_run(run_file, config, folder, port=port, host=host, detach=detach, progress=not quiet, say=_say)
    _print_answer_of_launch(folder, quiet)


@app.command()
def resume(
    run: Launched, port: NewPort = None, host: NewHost = None, detach: Detach = False, quiet: Quiet = False
) -> None:
    """Go on with a launched run that was stopped or cut off, or watch one that is running, to its end."""
    from se_nas.nni_bridge.launch import resume as resume_run

    _tune_allocator()
    with _stop_explained(f"se-nas resume {run}"):
        resume_run(run, port=port, host=host, detach=detach, progress=not quiet, say=_say)
    _print_answer_of_launch(run, quiet)


@app.command()
def view(run: Launched, port: NewPort = None, host: NewHost = None) -> None:
    """Open the page of a stopped experiment, read-only."""
    from se_nas.nni_bridge.launch import view as view_run

    view_run(run, port=port, host=host, say=_say)


@app.command()
def stop(run: Launched, quiet: Quiet = False) -> None:
    """Stop the experiment of a launched run and close its page; what was found so far is kept for `se-nas resume`.

    A run whose experiment was done, but that was left alone (--detach), is finished: certified, retrained, reported.
    Evidence that its run file asks for is not gathered here, but by `se-nas evidence RUN`.
    """
    from se_nas.nni_bridge.launch import stop as stop_run

    _tune_allocator()
    with _stop_explained(f"se-nas resume {run}"):
        stop_run(run, progress=not quiet, say=_say)


@app.command()
def decode(
    run: Annotated[Path, typer.Argument(help="Folder of a finished search.")],
    budget: Budgets = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="Folder for the answer; by default RUN/decodes/BUDGETS.")
    ] = None,
) -> None:
    """Answer other budgets from a finished search: a new exact decode and certificate in seconds, no new search."""
    budgets = parse_budget_options(budget or [], "--budget")
    if not budgets:
        raise ConfigError("--budget", ["at least one budget must be given, such as --budget macs=15M"])
    name = "_".join(f"{b.metric}-{b.limit!r}" for b in budgets)
    folder = output or run / "decodes" / name
    _tune_allocator()
    decode_again(run, budgets, folder)
    _print_answer(folder)


@app.command("retrain")
def retrain_command(
    architecture: Annotated[
        Path,
        typer.Argument(
            help="architecture.json of a search, or a baseline such as search_spaces/baselines/mobilenetv3_large.yaml."
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="imagenet (or any images in its layout), or one that fits the memory: digits, cifar10, cifar100, "
            "folder, synthetic."
        ),
    ] = "digits",
    data_dir: DataDir = None,
    download: Download = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            help=f"A YAML file or, for imagenet, one of {', '.join(RECIPES)}; by default {DEFAULT_RECIPE} for "
            "imagenet, a short one with SGD for the others."
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE replaces a value of the recipe, such as mixup=0.2; may be repeated."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Replaces the recipe's epochs.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Replaces the recipe's batch size, over all ranks together.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Replaces the recipe's peak learning rate.")] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            help="The architecture's space, to scale the network as its `scaling:` says now.", rich_help_panel=_IMAGENET
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="For distillation: the folder of a retraining, or a timm model.", rich_help_panel=_IMAGENET),
    ] = None,
    teacher_checkpoint: Annotated[
        Path | None, typer.Option(help="Weights of the teacher; a timm model needs them.", rich_help_panel=_IMAGENET)
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Start from the weights of this file instead of random ones: of a timm model of this architecture "
            "(a state_dict that was written by torch.save), or of a retraining. Tensors are paired by their order and "
            "shape alone: take the timm model that the baseline's header names, as one that looks like it (tf_..., "
            "legacy_...) loads as well and gives wrong outputs. A classifier of other classes stays random."
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_WORKERS, help="Processes of each rank that decode images.", rich_help_panel=_IMAGENET
        ),
    ] = 4,
    max_damaged: MaxDamaged = 100,
    keep_every: Annotated[
        int | None,
        typer.Option(min=1, help="Keep the weights of every N-th epoch in epochs/.", rich_help_panel=_IMAGENET),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Of the initial weights, the order and the augmentation.")
    ] = 0,
    output: Annotated[
        Path | None, typer.Option("--out", help="Folder; by default retrain-DATA beside the file.")
    ] = None,
    device: Device = "auto",
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train an architecture from scratch, or from given weights, and say its accuracy on the test images.

    On ImageNet the network is scaled as its space says; with the same options,
    `torchrun --standalone --nproc-per-node N -m se_nas retrain ...` trains on N devices.
    """
    shorthand = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    changes = {**_parse_changes(change), **{name: value for name, value in shorthand.items() if value is not None}}
    folder = output or architecture.with_name(
        f"retrain-{data}" if architecture.suffix == ".json" else f"{architecture.stem}-{data}"
    )
    _tune_allocator()
    if data == "imagenet":
        if download:
            raise ConfigError("--download", ["must be left out: ImageNet is not to be had without an account"])
        job = Job(
            architecture,
            recipe or DEFAULT_RECIPE,
            data_dir,
            folder,
            changes,
            space,
            Teacher(teacher, str(teacher_checkpoint) if teacher_checkpoint else None) if teacher else None,
            seed,
            workers,
            max_damaged,
            keep_every,
            weights,
        )
        _retrain_on_imagenet(job, device, resume, quiet)
        return
    only_there = {"--space": space, "--teacher": teacher, "--teacher-checkpoint": teacher_checkpoint}
    if misplaced := [name for name, value in {**only_there, "--keep-every": keep_every}.items() if value is not None]:
        raise ConfigError(misplaced[0], [f"must be left out without --data imagenet, but got --data {data}"])
    settings = parse_recipe(Path(recipe) if recipe else None, changes)
    options = DataOptions(data, data_dir, download=download, seed=seed)
    with _stop_explained():
        trained = retrain_exported(
            architecture,
            settings,
            options,
            pick_device(device),
            folder,
            seed=seed,
            resume=resume,
            progress=not quiet,
            weights=weights,
            say=_say,
        )
    _say(f"test accuracy: {trained.test_accuracy:.2%} ({data}, {settings.epochs} epochs, seed {seed})")
    if trained.ema_test_accuracy is not None:
        _say(f"of the averaged weights: {trained.ema_test_accuracy:.2%}")
    _say(f"weights and history: {folder}")


def _retrain_on_imagenet(job: Job, device: str, resume: bool, quiet: bool) -> None:
    with _stop_explained():
        result = retrain_on_imagenet(job, pick_device(device), resume=resume, progress=not quiet, say=_say)
    if result is None:  # a rank that does not speak
        return
    found, ledger = result["retrain"], result["ledger"]
    _say(f"top-1 {found['top1']:.2%}, top-5 {found['top5']:.2%} on {found['held_out_images']:,} held-out images")
    if found["ema_top1"] is not None:
        _say(f"of the averaged weights: top-1 {found['ema_top1']:.2%}, top-5 {found['ema_top5']:.2%}")
    best = found["best"]
    _say(f"best: top-1 {best['top1']:.2%} in epoch {best['epoch'] + 1} ({best['weights']} weights)")
    for entry in RunFolder(job.folder).read("certificate.json")["retrained"]["costs"]:
        interval = f", 95 % {entry['ci95'][0]:.3g} to {entry['ci95'][1]:.3g}, n={entry['n']}" if entry["ci95"] else ""
        _say(f"{entry['metric']}: {format_cost(entry['metric'], entry['value'])} ({entry['how']}{interval})")
    if found["damaged_images"]:
        _say(f"left out as damaged: {found['damaged_images']} images ({job.folder / 'damaged.json'})")
    _say(
        f"{ledger['images_per_second']:,.1f} images/s, {ledger['device_hours']:.3g} {ledger['device']}-hours; "
        f"weights, history and certificate: {job.folder}"
    )


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a retraining on ImageNet.")],
    data_dir: DataDir = None,
    weights: Annotated[
        Path | None, typer.Option(help="File of weights, such as FOLDER/best.pt; by default FOLDER/network.pt.")
    ] = None,
    average: Average = None,
    resolution: Annotated[int | None, typer.Option(min=8, help="Of the test images; by default the recipe's.")] = None,
    crop: Annotated[
        float | None, typer.Option(help="Share of the resized image that is looked at; by default the recipe's.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once, on each rank.")] = 128,
    workers: Annotated[
        int, typer.Option(min=0, max=MOST_WORKERS, help="Processes of each rank that decode images.")
    ] = 4,
    max_damaged: MaxDamaged = 100,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Top-1 and top-5 accuracy of a network that was retrained on ImageNet, at any test resolution."""
    if crop is not None and not 0 < crop <= 1:
        raise ConfigError("--crop", [f"must be above 0 and at most 1, but got {crop:g}"])
    _tune_allocator()
    found = evaluate_on_imagenet(
        run,
        data_dir,
        pick_device(device),
        weights=weights,
        average=average,
        resolution=resolution,
        crop=crop,
        batch_size=batch_size,
        workers=workers,
        max_damaged=max_damaged,
        progress=not quiet,
    )
    if found is not None:
        left_out = f", {found['damaged']} damaged ones left out" if found["damaged"] else ""
        _say(
            f"top-1 {found['top1']:.2%}, top-5 {found['top5']:.2%} on {found['images']:,} images "
            f"at {found['resolution']}x{found['resolution']}{left_out}"
        )


@app.command()
def export(
    source: Annotated[
        Path, typer.Argument(help="Folder of a retraining, such as RUN/retrain, or an architecture.json and --weights.")
    ],
    to: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(FORMS)}; may be repeated; by default all of them.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--out", help="Folder; by default export beside the weights.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="File of weights, such as FOLDER/best.pt; by default FOLDER/network.pt.")
    ] = None,
    average: Average = None,
) -> None:
    """Hand a trained network on: ONNX, torch.export, a plain module that needs only torch, a timm model.

    Each form is read back from its file and compared with the network before it is kept; export.json says how well they
    agree, and how fast ONNX Runtime is beside PyTorch.
    """
    folder = output or (source if source.is_dir() else source.parent) / "export"
    _tune_allocator()
    export_retrained(source, folder, to or list(FORMS), weights=weights, average=average, say=_say)
    _say(f"exported to: {folder}")


@app.command()
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
    weights: Annotated[
        Path | None, typer.Option(help="File of weights, such as FOLDER/best.pt; by default FOLDER/network.pt.")
    ] = None,
    average: Average = None,
    images: Annotated[int, typer.Option(min=1, help="At most so many test images, evenly spaced.")] = 10_000,
    show: Annotated[
        list[str] | None,
        typer.Option("--class", help="Draw the gates of this class; may be repeated, at most 4 times."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 100,
    workers: Annotated[
        int, typer.Option(min=0, max=MOST_WORKERS, help="Processes that decode images that stay on disk.")
    ] = 4,
    output: Annotated[Path | None, typer.Option("--out", help="Folder; by default excitation in RUN.")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """What SE learned: the gates of every SE unit by class and by depth, and the accuracy that each unit is worth.

    Writes excitation.html with its plots, excitation.json, the importance of every channel for pruning
    (importance.json), and the gates of every class (gates.npz). Where an SE does nothing it says so. A report that RUN
    has is written again with it.
    """
    folder = output or excitation_folder(source)
    _tune_allocator()
    request = Request(source, data, data_dir, weights, average, images, show or (), batch_size, workers)
    reported = output is None and (source / "report.html").exists()
    with alone_in(source if reported else folder):
        found, page = study_run(request, folder, pick_device(device), progress=not quiet)
        _say(f"accuracy as it is: {found.accuracy:.2%} on {found.images:,} test images")
        for line in notes(found):
            _say(line)
        _say(f"page: {page}")
        if reported:
            report(source)  # which shows it too


@app.command()
def evidence(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run with a retraining.")],
    part: Annotated[
        list[str] | None,
        typer.Option(help=f"Gather this part alone: {', '.join(PARTS)}; may be repeated. By default all."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="KEY=VALUE, kept for later calls: seeds=[0,1,2,3,4], random=8, best_of=50, ratios=[4,16], "
            "published=[FILE], others=[RUN], searches=[1,2], within=30, space=30, contexts=4, stand_alone_se=true, "
            "timed=10; may be repeated.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, max=MOST_WORKERS, help="Stand-alone trainings at a time, which share the threads.")
    ] = 1,
    finished_only: Annotated[
        bool, typer.Option("--finished-only", help="Show what the trainings that are done say; start none.")
    ] = False,
    data_dir: DataDir = None,
    device: OtherDevice = None,
    quiet: Quiet = False,
) -> None:
    """Whether to believe the answer of a search: controls, rank correlation, stability, where SE pays, latency, cost.

    Random networks, SE nowhere and everywhere, and published ones, all within the same budgets, are trained by the
    run's own recipe with the same seeds, and their differences from the answer have 95 % intervals. Everything goes to
    RUN/evidence and into RUN/report.html. A call that was stopped, however hard, is finished by the same call; what has
    been trained is never trained again.
    """
    _tune_allocator()
    conditions = Conditions(jobs, finished_only, progress=not quiet)
    with _stop_explained("run the same command again"):
        page = gather_evidence(
            run, part or (), _parse_changes(change), conditions, _say, data_dir=data_dir, device=device
        )
    _say(f"report: {page}")


@data_app.command("shard")
def data_shard(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Images as train/CLASS/* and val/CLASS/*.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the shards; give it as --data-dir later.")],
    resize: Annotated[
        int | None,
        typer.Option(
            min=8, help="Resize greater shorter sides to so many pixels, such as 256: smaller files, faster decoding."
        ),
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=95, help="Of JPEGs that were resized.")] = 90,
    images_per_shard: Annotated[int, typer.Option(min=1, help="Images in one tar file.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the order of the training images.")] = 0,
    workers: Annotated[int, typer.Option(min=0, max=MOST_WORKERS, help="Processes that decode and encode.")] = 4,
    max_damaged: MaxDamaged = 100,
    quiet: Quiet = False,
) -> None:
    """Pack a folder of images into WebDataset tar files: few large files instead of a million small ones.

    A call that was broken off is finished by the same call.
    """
    with Progress(*_BAR, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task("writing shards", total=None)
        summary = write_shards(
            root,
            output,
            resize=resize,
            quality=quality,
            images_per_shard=images_per_shard,
            seed=seed,
            workers=workers,
            max_damaged=max_damaged,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    written = ", ".join(f"{count:,} {half}" for half, count in summary.images.items())
    _say(f"images: {written}; {summary.shards} shards ({summary.kept} of them kept), {summary.bytes / 1e9:.3g} GB")
    for name, reason in summary.damaged.items():
        _say(f"damaged and left out: {name} ({reason})")
    _say(f"use them with --data-dir {output}")


@app.command()
def latency(
    space_file: Annotated[Path, typer.Argument(metavar="SPACE", help="Search space (YAML).")],
    device: Device = "auto",
    backend: Annotated[str, typer.Option(help="eager, or cuda_graph on CUDA.")] = "eager",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    batch_size: Annotated[int, typer.Option(help="Images in one run; a latency is that of the run.")] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again even if a table is cached.")] = False,
    quiet: Quiet = False,
) -> None:
    """Time every block of a space, calibrate on whole networks, and say how well held-out networks are predicted.

    The table is cached and reused by searches under the same conditions (SE_NAS_CACHE names another cache folder).
    """
    space = load_space(space_file)
    _tune_allocator()
    key = latency_key(pick_device(device).type, backend, dtype, batch_size, threads)
    for line in latency_report_lines(build_latency_table(space, key, progress=not quiet, fresh=fresh)):
        _say(line)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="Folder of a run, or of a retraining on ImageNet.")]) -> None:
    """Write report.html of a finished run, or of a finished retraining on ImageNet, again."""
    retraining = is_retraining(run)
    with alone_in(run):
        page = write_retrain_report(run) if retraining else write_report(run, shown_configuration(run / "config.yaml"))
    _say(f"report: {page}")


@app.command()
def version() -> None:
    """Print the version."""
    _say(se_nas.__version__)


@space_app.command("show")
def space_show(space_file: Annotated[Path, typer.Argument(metavar="FILE", help="Search space (YAML).")]) -> None:
    """The exact number of distinct networks, each stage's choices, and the least and greatest costs."""
    space = load_space(space_file)
    tune_allocator()
    _say(
        f"{space.name}: {exact_size(space.size)} distinct networks ({rounded_size(space.size)}), "
        f"{len(space.choices)} choices, digest {space.digest}"
    )
    head = space.head_spec
    stem = "".join(
        f"{conv.kernel}x{conv.kernel} to {conv.out_channels} channels, stride {conv.stride}, "
        f"{'3x3 max-pooling, ' if conv.pool else ''}"
        for conv in space.stem_convs
    )
    _say(f"stem: {stem}{space.resolution}x{space.resolution} input")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in (
        "stage",
        "width",
        "stride",
        "depth",
        "block",
        "kernel",
        "expansion",
        "SE",
        "ratio of",
        "SE at",
        "once per stage",
    ):
        table.add_column(column, overflow="fold")
    for number, stage in enumerate(space.stages, 1):
        for row, op in enumerate(stage.ops):
            options = " ".join(NO_SE if option is None else str(option) for option in op.se.options)
            first = [str(number), str(stage.width), str(stage.stride), " ".join(map(str, stage.depths))]
            table.add_row(
                *(first if row == 0 else [""] * 4),
                op.name if len(stage.ops) > 1 else op.kind,
                " ".join(map(str, op.kernels)),
                " ".join(f"{e:g}" for e in op.expansions),
                options,
                op.se.ratio_of if options != NO_SE else "",
                op.se.position if options != NO_SE else "",
                " ".join(stage.share) if row == 0 else "",
            )
    out.print(table)
    _say(f"head: {head.width or 'no'} channels, {head.classes} classes")
    tables: dict[str, CostTable] = dict(count_tables(space))
    cached = cached_latency_table(space, latency_key())
    if cached is not None:
        tables["latency_ms"] = cached.table
    for metric in tables:
        least, greatest = (
            format_cost(metric, find(space, tables, metric).costs[metric]) for find in (least_cost, greatest_cost)
        )
        how = "" if metric != "latency_ms" else " (predicted by the cached table; CPU, batch 1, 1 thread)"
        _say(f"{metric}: {least} to {greatest}{how}")
    if cached is None:
        _say(_measured_span(space, tables))


@space_app.command("sweep")
def space_sweep(
    space_file: Annotated[Path, typer.Argument(metavar="FILE", help="Search space, or a published network (YAML).")],
    change: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="PART=OPTION,... such as se=none,2,4,8,16,32, se=eca,ese, kernel=3,5 or se.position=standard,pre: a "
            "part as the blocks of space files have it.",
        ),
    ],
    output: Annotated[Path | None, typer.Option("--out", help="Folder for sweep.json and sweep.png.")] = None,
    device: Device = "auto",
    backend: Annotated[str, typer.Option(help="eager, or cuda_graph on CUDA.")] = "eager",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    batch_size: Annotated[int, typer.Option(help="Images in one run; a latency is that of the run.")] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    rounds: Annotated[int, typer.Option(min=0, help="Timed runs of each network; with 0 latency is left out.")] = 40,
    quiet: Quiet = False,
) -> None:
    """An ablation by costs: one part of every block varied, with parameters, MACs and measured latency.

    What the space leaves open otherwise is chosen for the most MACs. Networks are timed in turn.
    """
    if len(change) > 1:
        raise ConfigError("--set", [f"a sweep is of one part, but got {len(change)}: {' and '.join(change)}"])
    part, options = parse_sweep(change[0])
    sweep = sweep_space(load_space(space_file), part, options)
    measured = None
    if rounds:
        _tune_allocator()
        key = latency_key(pick_device(device).type, backend, dtype, batch_size, threads)
        with Progress(*_BAR, console=Console(stderr=True), transient=True, disable=quiet) as bar:
            task = bar.add_task("timing networks", total=None)
            latencies = measure_networks(
                [point.network for point in sweep.points],
                key,
                lambda done, total: bar.update(task, completed=done, total=total),
                rounds=rounds,
            )
        measured = MeasuredSweep(key, tuple(latencies))
    _print_sweep(sweep, measured)
    if output is not None:
        with alone_in(output):
            _say(f"figures: {write_sweep(output, sweep, measured)}")
            _say(f"plot: {write_atomic(output / 'sweep.png', figure_png(sweep_plot(sweep, measured)))}")


def _print_sweep(sweep: Sweep, measured: MeasuredSweep | None) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in (sweep.part, "parameters", "MACs", *(["latency", "95 % interval"] if measured else [])):
        table.add_column(column, justify="right")
    for place, point in enumerate(sweep.points):
        row = [point.option, f"{point.counts.params:,}", f"{point.counts.macs:,}"]
        if measured is not None:
            latency = measured.latencies[place]
            row += [f"{latency.median_ms:.4g} ms", f"{latency.ci95_ms[0]:.4g} to {latency.ci95_ms[1]:.4g} ms"]
        table.add_row(*row)
    out.print(table)
    if measured is not None:
        _say(f"latency: median on {measured.conditions}")


@space_app.command("table")
def space_table_command(
    folder: Annotated[Path, typer.Argument(help="Folder of search spaces.")] = Path("search_spaces"),
) -> None:
    """A Markdown table of every space in a folder: its blocks, number of networks, and exact counts."""
    _say(space_table(folder))


def _measured_span(space: SearchSpace, tables: dict[str, CostTable]) -> str:
    found = [find(space, tables, "macs").architecture for find in (least_cost, greatest_cost)]
    least, greatest = measure_networks([space.resolve(architecture) for architecture in found], latency_key())
    return (
        f"latency_ms: {least.median_ms:.3g} ms to {greatest.median_ms:.3g} ms (measured on the networks of "
        "the least and the greatest MACs; CPU, batch 1, 1 thread; `se-nas latency` makes the table that gives the "
        "exact span)"
    )


def _print_answer_of_launch(folder: Path, quiet: bool) -> None:
    """A detached or a swept run has no answer of its own yet."""
    if (folder / "result.json").exists():
        _print_answer(folder)
        _gather_if_asked(folder, quiet)


def _gather_if_asked(folder: Path, quiet: bool) -> None:
    """The evidence that a run file asks for, once the run has its answer."""
    if RunFolder(folder).config.get("evidence") is not None:
        with _stop_explained(f"se-nas evidence {folder}"):
            gather_evidence(folder, (), {}, Conditions(progress=not quiet), _say)


def _print_answer(folder: Path) -> None:
    certificate = RunFolder(folder).read("certificate.json")
    table = Table(
        box=None, padding=(0, 2, 0, 0), title=f"certificate: {folder / 'certificate.json'}", title_justify="left"
    )
    for column in ("cost", "value", "95 % interval", "how", "limit", "holds"):
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
    out.print(table)
    _say(f"architecture: {folder / 'architecture.json'}")


def main() -> None:
    """Run the command line: errors a user can cause are printed on one line each, with exit code 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        code = app(prog_name="se-nas", standalone_mode=False)
    except SeNasError as error:
        _fail(str(error).splitlines())
    except _UsageError as error:
        if rank_of_environment():
            sys.exit(2)  # every rank finds the same fault in the same words, and the first tells it
        words = error.format_message().replace("Input should be", "must be")
        message = " ".join(words.split())  # empty where the help was shown instead
        command = error.ctx.command_path if error.ctx else app.info.name
        _fail([f"{message} ({command} --help says more)"] if message else [])
    except typer.Abort:
        sys.exit(130)
    sys.exit(code)


def _fail(lines: list[str]) -> NoReturn:
    rank = rank_of_environment()
    for line in lines:
        print(cut(f"rank {rank}: error: {line}" if rank else f"error: {line}"), file=sys.stderr)
    sys.exit(2)
