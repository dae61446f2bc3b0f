"""Commands that make latency tables, and the files that they are made of or give."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from se_nas.cli.options import Plugins, Quiet, SpaceFile, TimingConditions
from se_nas.cli.screen import say, tune_allocator


class TableByDefault(typer.core.TyperGroup):
    """A group whose first word may be a space: then a table of it is meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer's, with the command's name where none is there."""
        named = args and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if named or not args else ["table", *args])


def table(
    space_file: SpaceFile,
    conditions: TimingConditions,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again even if a table is cached.")] = False,
    max_seconds: Annotated[
        float | None,
        typer.Option(help="Most seconds of timing. Where all takes longer, some blocks are timed, the rest predicted."),
    ] = None,
    plugin: Plugins = None,
    quiet: Quiet = False,
) -> None:
    """Time every block of a space, calibrate on whole networks, and say how well held-out networks are predicted.

    How long that will take is said before.
    The table is cached and reused by searches under the same conditions (SE_NAS_CACHE names another cache folder).
    """
    from se_nas.cost.latency.cache import build_latency_table
    from se_nas.cost.latency.runtimes import default_line
    from se_nas.cost.latency.table import latency_lines
    from se_nas.space.yaml.file import load_space

    space = load_space(space_file)
    tune_allocator()
    key = conditions.key()
    if conditions.runtime is None and (line := default_line(key.torch_device.type, key.dtype)):
        say(line)
    found = build_latency_table(space, key, progress=not quiet, say=say, fresh=fresh, max_seconds=max_seconds)
    for line in latency_lines(found):
        say(line)


def networks(
    space_file: SpaceFile,
    out: Annotated[Path, typer.Option("--out", help="Folder for the networks; it must not be there yet.")],
    n: Annotated[int, typer.Option("--n", min=1, max=10_000, help="How many networks.")] = 200,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in one batch of the ONNX files.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice.")] = 0,
    plugin: Plugins = None,
) -> None:
    """Write networks of a space whose times tell the most about its blocks, for a device of your own to time.

    OUT gets an ONNX file of each, and networks.jsonl with a line of picks for each. Add "ms": MILLISECONDS to every
    line, and `se-nas latency import` makes the space's table of it.
    """
    from se_nas.cost.latency.elsewhere.handing_out import write_networks
    from se_nas.space.yaml.file import load_space

    for line in write_networks(load_space(space_file), n, out, batch_size=batch_size, seed=seed):
        say(line)


def import_(
    space_file: SpaceFile,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines or CSV of networks and their times.")],
    name: Annotated[str, typer.Option(help="What the device is called, such as phone.")],
    out: Annotated[Path | None, typer.Option(help="The table's file. By default NAME.latency.json.")] = None,
    dtype: Annotated[str, typer.Option(help="Number format that the times are of.")] = "float32",
    batch_size: Annotated[int, typer.Option(min=1, help="Images in one batch that the times are of.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads that the times are of.")] = 1,
    plugin: Plugins = None,
) -> None:
    """Make a latency table of networks that somebody timed, and say how well it predicts others of them.

    A line of FILE is {"picks": {CHOICE: OPTION, ...}, "ms": MILLISECONDS}, or in CSV a column for each choice and one
    called ms; "architecture" may name an architecture's file in place of picks, and "images_per_second" stand for ms.
    """
    from se_nas.cost.latency.elsewhere.importing import import_latency_table, verdict, write_imported
    from se_nas.cost.latency.table import latency_lines
    from se_nas.space.yaml.file import load_space

    space = load_space(space_file)
    found = import_latency_table(space, file, name, dtype=dtype, batch_size=batch_size, threads=threads)
    place = write_imported(found, out or Path(f"{name}.latency.json"))
    for line in [*latency_lines(found), verdict(found)]:
        say(line)
    say(str(place))


def export(
    space_file: SpaceFile,
    table_file: Annotated[
        Path, typer.Argument(metavar="TABLE", help="A table: latency.json of a run, or one that was imported.")
    ],
    out: Annotated[Path, typer.Option("--out", help="File for the JSON lines; it must not be there yet.")],
    plugin: Plugins = None,
) -> None:
    """Write the networks that a latency table was made of, and their milliseconds, as JSON lines."""
    from se_nas.cost.latency.elsewhere.measurements_file import write_measurements
    from se_nas.cost.latency.table import read_latency_table
    from se_nas.space.yaml.file import load_space

    found = read_latency_table(table_file, load_space(space_file))
    timed = (*found.calibration, *found.held_out)
    write_measurements(out, timed)
    say(f"{out}: {len(timed)} networks, timed on {found.key.device} by {found.key.runtime}")
