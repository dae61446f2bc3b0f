"""The latency table that a run is held to: timed, from the cache, or imported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from se_nas.cost.latency.cache import build_latency_table
from se_nas.cost.latency.importing import verdict
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.table import LatencyTable, read_latency_table
from se_nas.errors import ConfigError
from se_nas.records.files import beside
from se_nas.runs.run_file import RunConfig
from se_nas.space.search_space import SearchSpace


def latency_table_of(
    run_file: Path, config: RunConfig, space: SearchSpace, key: LatencyKey, progress: bool, say: Callable[[str], None]
) -> LatencyTable:
    """The table under the run file's conditions.

    Raises:
        ConfigError: an imported one cannot be read, is of another space, or predicts no better than MACs do.
        DeviceError, ConfigError: see `build_latency_table`.
    """
    if config.latency.file is None:
        return build_latency_table(space, key, seed=config.seed, progress=progress, say=say)
    path = beside(run_file, config.latency.file)
    table = read_latency_table(path, space)
    if not table.better_than_macs:
        raise ConfigError(str(path), [f"file: must predict better than a line on MACs, but is {verdict(table)}"])
    return table
