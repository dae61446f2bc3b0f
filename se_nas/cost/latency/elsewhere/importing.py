"""A latency table of networks that somebody else has timed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from se_nas.cost.latency.building import fitted_table
from se_nas.cost.latency.elsewhere.measurements_file import read_measurements
from se_nas.cost.latency.table import LatencyFile, LatencyTable, tells_blocks
from se_nas.cost.latency.timing import latency_key
from se_nas.errors import ConfigError, OutputError
from se_nas.records.record import read_record, write_record
from se_nas.space.search_space import SearchSpace

#: Fewer would leave under 6 to say what the fit is worth.
LEAST = 24
#: The share that the fit has not seen, at most so many networks.
_HELD_OUT, _MOST_HELD_OUT = 4, 100


def import_latency_table(
    space: SearchSpace, path: Path, name: str, *, dtype: str = "float32", batch_size: int = 1, threads: int = 1
) -> LatencyTable:
    """Fit the times of a space's blocks to the networks of a file; see `read_measurements`.

    Args:
        name: what the device is called.
        dtype, batch_size, threads: the conditions that the file's milliseconds are of.

    Raises:
        ConfigError: with every fault of the file, or it has fewer than `LEAST` networks.
        DeviceError: a condition has no such value.
    """
    started = time.monotonic()
    key = latency_key(name, "imported", dtype, batch_size, threads)
    timed = read_measurements(path, space, batch_size)
    if len(timed) < LEAST:
        raise ConfigError(str(path), [f"file: must have at least {LEAST} networks to fit to, but has {len(timed)}"])
    order = np.random.default_rng(0).permutation(len(timed))  # a file may be sorted
    cut = len(timed) - min(len(timed) // _HELD_OUT, _MOST_HELD_OUT)
    calibration, held_out = ([timed[place] for place in some] for some in (order[:cut], order[cut:]))
    return fitted_table(space, key, None, calibration, held_out, {"file": path.name}, started)


def write_imported(table: LatencyTable, path: Path) -> Path:
    """Write an imported table, over another one where there is one.

    Raises:
        OutputError: another kind of file is there, as the measurements may be; or the file cannot be written.
    """
    if os.path.lexists(path):
        try:
            read_record(LatencyFile, path)
        except ConfigError as error:
            must = "must be a latency table, which is then replaced, or not be there, but is another file"
            raise OutputError(f"{path}: {must}") from error
    return write_record(path, table.record())


def verdict(table: LatencyTable) -> str:
    """What a user may expect of a fit, in words."""
    fit = table.fit
    assert fit.macs is not None
    if not table.better_than_macs:
        return (
            f"no budget: the blocks' times miss the held-out networks by {fit.held_out.mape:.1%}, a line on MACs by "
            f"{fit.macs.mape:.1%}; more networks, chosen by `se-nas latency networks`, tell them better"
        )
    terms, number = len(table.block_ms), fit.calibrated_on
    many = f"{number} networks for the times of {terms} blocks"
    if not tells_blocks(fit, terms):
        return f"{many}: most of what is said of single blocks is a line on their counts"
    return f"{many}: each block has a time of its own as far as it predicts better"
