"""The command line, `se-nas`: every command by its name, and what becomes of an error."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

import se_nas
from se_nas.cli import data, evidence, init, latency, nni, retrain, search, space, trained
from se_nas.cli.command import Commands
from se_nas.cli.screen import fitted, say
from se_nas.errors import SeNasError, cut, short
from se_nas.hardware.rank import Processes, check_rank, leave_job, rank_of_environment

app = Commands(
    name="se-nas",
    help="Search convolutional networks that use Squeeze-and-Excitation exactly where it pays, under hard budgets.",
    epilog="Begin with: se-nas search digits",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
SPACES = "Spaces, devices and images"


def version() -> None:
    """Print the version."""
    say(se_nas.__version__)


#: Every command with an example, by the heading it has in the help.
COMMANDS: dict[str, dict[Callable[..., None], str]] = {
    "Search": {
        search.search: "se-nas search digits --budget macs=60k",
        search.worker: "se-nas worker digits_optuna --storage sqlite:///study.db",
        search.decode: "se-nas decode digits --budget macs=50k --budget params=6k",
        search.subnet: "se-nas subnet digits",
    },
    "Search in NNI": {
        nni.launch: "se-nas launch digits_nni --port 8080 --detach",
        nni.resume: "se-nas resume digits_nni",
        nni.view: "se-nas view digits_nni",
        nni.stop: "se-nas stop digits_nni",
    },
    "The network that was found": {
        retrain.retrain: "se-nas retrain digits/architecture.json --data digits",
        trained.evaluate: "se-nas evaluate digits/retrain",
        trained.prune: "se-nas prune digits/retrain --keep macs=70%",
        trained.export: "se-nas export digits/retrain --to onnx",
    },
    "What it is worth": {
        evidence.report: "se-nas report digits",
        evidence.compare: "se-nas compare digits digits_optuna",
        evidence.evidence: "se-nas evidence digits --set seeds=[0,1,2]",
        evidence.excitation: "se-nas excitation digits",
    },
    "About se_nas": {init.init: "se-nas init my_searches", version: "se-nas version"},
}
#: What several processes of a job may run; the others would do the same work at once, in the same folder.
SHARED: dict[Callable[..., None], Processes] = {
    search.search: "ranks",
    search.worker: "any",
    retrain.retrain: "ranks",
    trained.evaluate: "ranks",
    version: "any",
}
for panel, commands in COMMANDS.items():
    for function, example in commands.items():
        app.add(function, example, panel=panel, processes=SHARED.get(function, "one"))

space_app = Commands(
    no_args_is_help=True, help="Look at search spaces.", epilog="Example: se-nas space show mbconv_cifar"
)
space_app.add(space.show_space, "se-nas space show mbconv_cifar", "show", processes="any")
space_app.add(space.sweep, "se-nas space sweep mbconv_cifar --set se=none,4,16", "sweep")
space_app.add(space.table, "se-nas space table", "table", processes="any")
app.add_typer(space_app, name="space", rich_help_panel=SPACES)
latency_app = Commands(
    cls=latency.TableByDefault,
    help="Time the blocks of a search space on a device. `se-nas latency SPACE` is `se-nas latency table SPACE`.",
    no_args_is_help=True,
    epilog="Example: se-nas latency mbconv_digits --threads 2",
)
latency_app.add(latency.table, "se-nas latency table mbconv_digits --threads 2", "table")
latency_app.add(latency.networks, "se-nas latency networks mbconv_digits --n 200 --out to_time", "networks")
latency_app.add(latency.import_, "se-nas latency import mbconv_digits timed.jsonl --name phone", "import")
latency_app.add(latency.export, "se-nas latency export mbconv_digits latency.json --out timed.jsonl", "export")
app.add_typer(latency_app, name="latency", rich_help_panel=SPACES)
data_app = Commands(
    no_args_is_help=True, help="Prepare images.", epilog="Example: se-nas data shard DIR OUT --resize 256"
)
data_app.add(data.shard, "se-nas data shard DIR OUT --resize 256", "shard")
app.add_typer(data_app, name="data", rich_help_panel=SPACES)

# what typer raises for words that it cannot parse; of that family it exports this subclass alone
_UsageError: Any = typer.BadParameter.__base__


def main() -> None:
    """Run the command line: errors a user can cause are printed on one line each, with exit code 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    for name in ("COLUMNS", "LINES"):  # rich makes lines of this width
        if len(os.environ.get(name, "")) > 5:
            del os.environ[name]
    try:
        check_rank()
        code = app(prog_name="se-nas", standalone_mode=False)
    except SeNasError as error:
        _fail(str(error).splitlines())
    except _UsageError as error:
        if rank_of_environment():
            sys.exit(2)  # every rank finds the same fault in the same words, and the first tells it
        words = error.format_message().replace("Input should be", "must be")
        message = " ".join(words.split())  # empty where the help was shown instead
        command = error.ctx.command_path if error.ctx else app.info.name
        _fail([f"{cut(message, 600)} ({command} --help says more)"] if message else [])
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _fail(
            [f"a path must be one that the file system takes, but got: {short(str(error.filename))}, which is too long"]
        )
    except typer.Abort:
        sys.exit(130)
    sys.exit(code)


def run() -> None:
    """What a shell starts: `main`, and the end of the process as the others of its job need it."""
    try:
        main()
    except SystemExit as end:
        leave_job(end.code)
        raise


def _fail(lines: list[str]) -> NoReturn:
    rank = rank_of_environment()
    for line in lines:
        words = cut(f"rank {rank}: error: {line}" if rank else f"error: {line}")
        print(fitted(words, sys.stderr), file=sys.stderr)
    sys.exit(2)
