"""Commands that look at search spaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from se_nas.cli.options import Plugins, Quiet, SpaceFile, TimingConditions
from se_nas.cli.screen import say, show, tune_allocator
from se_nas.errors import ConfigError, counted
from se_nas.records.bounds import MOST_COUNT
from se_nas.records.shipped import SPACE_FOLDER

if TYPE_CHECKING:
    from se_nas.cost.table import CostTable
    from se_nas.evidence.sweep import MeasuredSweep, Sweep
    from se_nas.space.search_space import SearchSpace
    from se_nas.space.templates import SETemplate


def show_space(space_file: SpaceFile, plugin: Plugins = None) -> None:
    """Show a space: the exact number of distinct networks, each stage's choices, and the least and greatest costs."""
    from se_nas.hardware.allocator import tune_allocator
    from se_nas.space.size import exact_size, rounded_size
    from se_nas.space.yaml.file import load_space

    space = load_space(space_file)
    tune_allocator()
    say(
        f"{space.name}: {exact_size(space.size)} distinct network{'s' * (space.size != 1)} "
        f"({rounded_size(space.size)}), {counted(len(space.choices), 'choice')}, digest {space.digest}"
    )
    stem = "".join(
        f"{conv.kernel}x{conv.kernel} to {_or(width.channels)} channels, stride {conv.stride}, "
        f"{'3x3 max-pooling, ' if conv.pool else ''}"
        for conv, width in zip(space.stem_convs, space.stem_widths, strict=True)
    )
    say(f"stem: {stem}{_or([f'{side}x{side}' for side in space.resolutions])} input")
    _print_stages(space)
    width, hidden = (_or(width.channels) for width in space.head_widths)
    layers = f"{space.head.hidden_layers} x " * (space.head.hidden_layers > 1) + hidden
    say(
        f"head: {width if space.head.width else 'no'} channels, "
        f"{f'{layers} hidden, ' if space.head.hidden else ''}{space.classes} classes"
    )
    if len(space.width_multiplier) > 1:
        say(f"width multiplier: {_or(space.width_multiplier)}, one for the whole network")
    _print_costs(space)


def _or(options: Sequence[float | str]) -> str:
    """ "16", "16 or 24", "16, 24 or 32"."""
    *others, last = (option if isinstance(option, str) else f"{option:g}" for option in options)
    return f"{', '.join(others)} or {last}" if others else last


def _print_stages(space: SearchSpace) -> None:
    from rich.table import Table

    from se_nas.space.templates import NO_SE, options_of

    table = Table(box=None, padding=(0, 2, 0, 0))
    columns = ("stage", "width", "stride", "depth", "block", "kernel", "expansion", "activation")
    for column in (*columns, "SE", "ratio of", "SE at, squeeze, activation, gate", "once per stage"):
        table.add_column(column, overflow="fold")
    for number, stage in enumerate(space.stages, 1):
        for row, op in enumerate(stage.ops):
            options = " ".join(NO_SE if option is None else str(option) for option in op.se.options)
            widths = " ".join(map(str, space.stage_widths[number - 1].channels))
            first = [str(number), widths, str(stage.stride), " ".join(map(str, stage.depths))]
            table.add_row(
                *(first if row == 0 else [""] * 4),
                op.name if len(stage.ops) > 1 else op.kind,
                " ".join(map(str, op.kernels)),
                " ".join(f"{e:g}" for e in op.expansions),
                " ".join(options_of(op.activation)),
                options,
                op.se.ratio_of if options != NO_SE else "",
                _functions(op.se) if options != NO_SE else "",
                " ".join(stage.share) if row == 0 else "",
            )
    show(table)


def _functions(se: SETemplate) -> str:
    """What of SE is chosen beside its options: its place, and what else has several options."""
    from se_nas.space.choice import SE_FIELDS
    from se_nas.space.templates import options_of

    several = {name: options_of(getattr(se, name)) for name in SE_FIELDS}
    return "; ".join(" ".join(options) for name, options in several.items() if name == "position" or len(options) > 1)


def _print_costs(space: SearchSpace) -> None:
    from se_nas.cost.budget import format_cost
    from se_nas.cost.latency.cache import cached_latency_table
    from se_nas.cost.latency.timing import latency_key
    from se_nas.cost.table import count_tables
    from se_nas.search.budgets.decode import greatest_cost, least_cost

    tables: dict[str, CostTable] = dict(count_tables(space))
    key = latency_key()
    cached = cached_latency_table(space, key, say)
    if cached is not None:
        tables["latency_ms"] = cached.table
    for metric in tables:
        least, greatest = (
            format_cost(metric, find(space, tables, metric).costs[metric]) for find in (least_cost, greatest_cost)
        )
        conditions = f"CPU, {key.runtime}, batch 1, 1 thread"
        how = "" if metric != "latency_ms" else f" (predicted by the cached table; {conditions})"
        say(f"{metric}: {least} to {greatest}{how}")
    if cached is None:
        say(_measured_span(space, tables))


def _measured_span(space: SearchSpace, tables: dict[str, CostTable]) -> str:
    from se_nas.cost.latency.timing import latency_key, measure_networks
    from se_nas.search.budgets.decode import greatest_cost, least_cost

    found = [find(space, tables, "macs").architecture for find in (least_cost, greatest_cost)]
    key = latency_key()
    least, greatest = measure_networks([space.resolve(architecture) for architecture in found], key)
    return (
        f"latency_ms: {least.median_ms:.3g} ms to {greatest.median_ms:.3g} ms (measured on the networks of "
        f"the least and the greatest MACs; CPU, {key.runtime}, batch 1, 1 thread; `se-nas latency` makes the table "
        "that gives the exact span)"
    )


def sweep(
    space_file: SpaceFile,
    change: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="PART=OPTION,... says what is varied, such as se=none,2,4,8,16,32, se=eca,ese, kernel=3,5 or "
            "se.position=standard,pre. A part is a key that blocks have in a space file.",
        ),
    ],
    conditions: TimingConditions,
    output: Annotated[
        Path | None, typer.Option("--out", help="Write sweep.json and sweep.png into this folder.")
    ] = None,
    plugin: Plugins = None,
    rounds: Annotated[
        int, typer.Option(min=0, max=MOST_COUNT, help="Timed runs of each network; 0 leaves latency out.")
    ] = 40,
    quiet: Quiet = False,
) -> None:
    """Vary one part of every block, and compare parameters, MACs, memory and measured latency.

    Every other choice of the space is set to the option with the most MACs. The networks are timed in turns.
    """
    from se_nas.cost.latency.timing import measure_networks
    from se_nas.evidence.sweep import MeasuredSweep, parse_sweep, sweep_space
    from se_nas.hardware.progress_bar import counted_up
    from se_nas.space.yaml.file import load_space

    if len(change) > 1:
        raise ConfigError("--set", [f"a sweep must vary one part, but got {len(change)}: {' and '.join(change)}"])
    part, options = parse_sweep(change[0])
    swept = sweep_space(load_space(space_file), part, options)
    measured = None
    if rounds:
        tune_allocator()
        key = conditions.key()
        with counted_up("timing networks", wanted=not quiet) as progress:
            latencies = measure_networks([point.network for point in swept.points], key, progress, rounds=rounds)
        measured = MeasuredSweep(key, tuple(latencies))
    _print_sweep(swept, measured)
    if output is not None:
        _write_sweep(output, swept, measured)


def _print_sweep(swept: Sweep, measured: MeasuredSweep | None) -> None:
    from rich.table import Table

    from se_nas.cost.metrics import METRICS

    table = Table(box=None, padding=(0, 2, 0, 0))
    more = {name: metric for name, metric in METRICS.items() if metric.counted and name not in ("params", "macs")}
    titles = ("parameters", "MACs", *(metric.title.lower() for metric in more.values()))
    for column in (swept.part, *titles, *(["latency", "95 % interval"] if measured else [])):
        table.add_column(column, justify="right")
    for place, point in enumerate(swept.points):
        row = [point.option, f"{point.counts.params:,}", f"{point.counts.macs:,}"]
        row += [metric.format(point.costs[name]) for name, metric in more.items()]
        if measured is not None:
            latency = measured.latencies[place]
            row += [f"{latency.median_ms:.4g} ms", f"{latency.ci95_ms[0]:.4g} to {latency.ci95_ms[1]:.4g} ms"]
        table.add_row(*row)
    show(table)
    if measured is not None:
        say(f"latency: median on {measured.conditions}")


def _write_sweep(folder: Path, swept: Sweep, measured: MeasuredSweep | None) -> None:
    from se_nas.evidence.sweep import write_sweep
    from se_nas.records.files import write_atomic
    from se_nas.report.plots.figure import figure_png
    from se_nas.report.plots.sweep import sweep_plot
    from se_nas.runs.run_folder import alone_in

    with alone_in(folder):
        say(f"figures: {write_sweep(folder, swept, measured)}")
        say(f"plot: {write_atomic(folder / 'sweep.png', figure_png(sweep_plot(swept, measured)))}")


def table(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Folder of search spaces; by default the shipped ones.")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Print a Markdown table of the spaces in a folder, with their blocks, numbers of networks and exact counts."""
    from se_nas.report.space_table import space_table

    say(space_table(folder or SPACE_FOLDER))
