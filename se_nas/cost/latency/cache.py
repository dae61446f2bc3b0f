"""Latency tables that were timed before on this machine, kept in a folder of the user's, and when one is believed.

A table belongs to a machine, not to a model of processor: homes are shared by machines, containers have some of the
cores, and a machine is slower on some days. So a file's name says on which machine it was timed, and a table that is
not of this very moment is believed once a few of its networks take as long as it says.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from se_nas.cost.latency.building import time_latency_table
from se_nas.cost.latency.folder import latency_folder
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.table import LatencyTable, read_latency_table
from se_nas.cost.latency.timing import latency_key, no_progress
from se_nas.cost.latency.visits import TIME_BLOCKS, TIME_NETWORKS, BlockTimer, NetworkTimer
from se_nas.cost.metrics import LATENCY, METRICS
from se_nas.errors import ConfigError, OutputError, counted
from se_nas.hardware.environment import machine_digest
from se_nas.hardware.lines import Say
from se_nas.records.record import write_record
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace

#: Share by which the networks of a believed table may be slower or faster than it says; noise stays well below.
MOST_DRIFT = 0.1
#: Seconds for which a table that was timed, or found right, is believed as it is: runs that begin together, as the
#: trials of an experiment do, would disturb each other's timing.
FRESH_SECONDS = 600
#: Seconds for which what was timed of a table that was not finished counts among what is timed now.
KEPT_SECONDS = 3600
#: Networks that are timed again, from the fastest to the slowest.
_CHECKED = 5

_log = logging.getLogger(__name__)


def build_latency_table(
    space: SearchSpace,
    key: LatencyKey,
    *,
    metric: str = LATENCY,
    seed: int = 0,
    progress: bool = False,
    say: Say | None = None,
    cache_folder: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    max_seconds: float | None = None,
    calibrate_on: int | None = None,
    held_out: int = 24,
    visits: int | None = None,
    time_blocks: BlockTimer = TIME_BLOCKS,
    time_networks: NetworkTimer = TIME_NETWORKS,
) -> LatencyTable:
    """The latency table of a space: from the cache if it was timed on this machine before and still holds, else timed.

    Args:
        say: is told whether a cached table is believed, and how long a new one takes; without it a logger is told where
            a cached one is not believed.
        cache_folder: where tables are kept; by default `latency_folder()`.
        fresh: time it now in any case, and replace what the cache holds.
        max_seconds: of wall time for a new one. A cached one is used where it had as much, or needed no more.
        metric, seed, progress, calibrate_on, held_out, visits, time_blocks, time_networks: see `time_latency_table`.

    Raises:
        ConfigError: the space has fewer than 6 networks.
        DeviceError: it must be timed, but the key is of another machine.
    """
    if max_seconds is not None and not 0 < max_seconds < math.inf:
        raise ConfigError("latency", [f"max_seconds: must be a number above 0, but got {max_seconds:g}"])
    folder = latency_folder() if cache_folder is None else Path(cache_folder)
    path = folder / cache_name(space, key)
    if not fresh and (cached := _believed(path, space, key, metric, time_networks, say)) is not None:
        had = cached.fit.max_seconds
        if had is None or (max_seconds is not None and max_seconds <= had):
            return cached
        more = "all is" if max_seconds is None else "more is"
        (say or _log.warning)(
            f"cached {_title(metric)} table: it was timed within max_seconds {had:g}: {more} timed now"
        )
    kept = path.with_suffix(".measured.jsonl")
    if fresh or (not RUNTIMES[key.runtime].remote and _older(kept)):
        kept.unlink(missing_ok=True)
    table = time_latency_table(
        space,
        key,
        metric=metric,
        seed=seed,
        progress=progress,
        say=say,
        max_seconds=max_seconds,
        calibrate_on=calibrate_on,
        held_out=held_out,
        visits=visits,
        time_blocks=time_blocks,
        time_networks=time_networks,
        keep=kept,
    )
    try:
        write_record(path, table.record())
    except OutputError as error:  # what was measured is not lost for want of a cache
        _log.warning("the %s table is not cached: %s", _title(metric), error)
    return table


def latency_table(
    space: SearchSpace,
    *,
    device: str = "cpu",
    runtime: str | None = None,
    dtype: str = "float32",
    batch_size: int = 1,
    threads: int = 1,
    progress: bool = False,
    max_seconds: float | None = None,
) -> LatencyTable:
    """The latency table of a space on this machine, from the cache where it was timed before and still holds.

    Args:
        max_seconds: of wall time; where timing all takes longer, a part is timed and the rest predicted.

    Raises:
        ConfigError: the space has fewer than 6 networks, or `max_seconds` is too little for any table.
        DeviceError: this machine has not what the conditions name.
    """
    key = latency_key(device, runtime, dtype, batch_size, threads)
    return build_latency_table(space, key, progress=progress, max_seconds=max_seconds)


def cached_latency_table(space: SearchSpace, key: LatencyKey, say: Say) -> LatencyTable | None:
    """The table in the default cache folder; None where there is none that holds."""
    return _believed(latency_folder() / cache_name(space, key), space, key, LATENCY, TIME_NETWORKS, say)


def cache_name(space: SearchSpace, key: LatencyKey) -> str:
    """The name of a table's file in the cache folder: the space, its digest and the key, readable, and the machine."""
    parts = (space.name, space.digest, key.device, key.runtime, key.dtype, f"b{key.batch_size}", f"t{key.threads}")
    words = [re.sub(r"[^A-Za-z0-9_.]+", "_", part).strip("_") for part in parts]
    elsewhere = key.program and hashlib.sha256(key.program.encode()).hexdigest()[:12]
    return "-".join([*words, elsewhere or machine_digest(key.torch_device.type)]) + ".json"


def _title(metric: str) -> str:
    return METRICS[metric].title.lower()


def _older(kept: Path) -> bool:
    """Whether what was kept is of a time when this machine may have been another."""
    return kept.exists() and time.time() - kept.stat().st_mtime > KEPT_SECONDS


def _believed(
    path: Path, space: SearchSpace, key: LatencyKey, metric: str, time_networks: NetworkTimer, say: Say | None
) -> LatencyTable | None:
    """The cached table; None where there is none that fits and holds."""
    if not path.exists():
        return None
    try:
        table = read_latency_table(path, space, metric)
        age = time.time() - path.stat().st_mtime
    except (ConfigError, OSError) as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        reason = f"{problems[0]} (and {counted(len(problems) - 1, 'more fault')})" if len(problems) > 1 else problems[0]
        _log.warning("%s: the cached %s table is unusable and is measured anew: %s", path, _title(metric), reason)
        return None
    if table.key != key:
        return None
    if age < FRESH_SECONDS:
        return table
    # a slow moment passes; a machine that is another is so twice
    drift = _drift(table, time_networks)
    if abs(drift) > MOST_DRIFT:
        drift = min(drift, _drift(table, time_networks), key=abs)
    take = f"{_CHECKED} of its networks, timed again, take {abs(drift):.1%} {'longer' if drift > 0 else 'less'}"
    if abs(drift) > MOST_DRIFT:
        (say or _log.warning)(
            f"cached {_title(metric)} table: {take}, which is over {MOST_DRIFT:.0%}: it is timed anew"
        )
        return None
    if say is not None:
        say(f"cached {_title(metric)} table: {take}, which is within {MOST_DRIFT:.0%}: it holds")
    with suppress(OSError):  # of a folder that can only be read; the next run asks again
        os.utime(path)
    return table


def _drift(table: LatencyTable, time_networks: NetworkTimer) -> float:
    """How much longer its networks take now than they did: the median share, 0 where they take as long."""
    timed = _timed(table)
    places = np.linspace(0, len(timed) - 1, _CHECKED).round().astype(int)  # there are 6 at least
    networks = [table.space.resolve(timed[place][0]) for place in places]
    now = [measurement.median_ms for measurement in time_networks(networks, table.key, no_progress)]
    then = [timed[place][1] for place in places]
    return float(np.median(np.divide(now, then))) - 1


def _timed(table: LatencyTable) -> list[tuple[Architecture, float]]:
    """Every network that was timed for a table, from the fastest to the slowest."""
    return sorted((*table.calibration, *table.held_out), key=lambda found: found[1])
