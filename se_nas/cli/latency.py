"""The command that makes a latency table."""

from __future__ import annotations

from typing import Annotated

import typer

from se_nas.cli.options import Plugins, Quiet, SpaceFile, TimingConditions
from se_nas.cli.screen import say, tune_allocator


def latency(
    space_file: SpaceFile,
    conditions: TimingConditions,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again even if a table is cached.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
) -> None:
    """Time every block of a space, calibrate on whole networks, and say how well held-out networks are predicted.

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
    table = build_latency_table(space, key, progress=not quiet, say=say, fresh=fresh)
    for line in latency_lines(table):
        say(line)
