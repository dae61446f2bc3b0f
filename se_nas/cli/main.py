"""The command line, `se-nas`: every command by its name, and what becomes of an error."""

from __future__ import annotations

import logging
import sys
from typing import Any, NoReturn

import typer

import se_nas
from se_nas.cli import data, evidence, latency, nni, retrain, search, space
from se_nas.cli.command import Commands
from se_nas.cli.screen import say
from se_nas.errors import SeNasError, cut
from se_nas.hardware.rank import rank_of_environment

app = Commands(
    name="se-nas",
    help="Search CNNs that use Squeeze-and-Excitation exactly where it pays, under hard budgets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
space_app = Commands(no_args_is_help=True, help="Look at search spaces.")
app.add_typer(space_app, name="space")
data_app = Commands(no_args_is_help=True, help="Prepare images.")
app.add_typer(data_app, name="data")

for function in (
    *(search.search, search.worker),
    *(nni.launch, nni.resume, nni.view, nni.stop),
    *(search.decode, retrain.retrain, retrain.evaluate, retrain.export),
    *(evidence.excitation, evidence.evidence, latency.latency, evidence.report),
):
    app.command()(function)
space_app.command("show")(space.show_space)
space_app.command("sweep")(space.sweep)
space_app.command("table")(space.table)
data_app.command("shard")(data.shard)


@app.command()
def version() -> None:
    """Print the version."""
    say(se_nas.__version__)


# what typer raises for words that it cannot parse; of that family it exports this subclass alone
_UsageError: Any = typer.BadParameter.__base__


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
