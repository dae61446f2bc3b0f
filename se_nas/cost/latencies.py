"""The latencies of a run, each a metric of its own: that of its one device, or that of each of several by name.

Beside them, where a budget or an objective asks for it, the energy that a run takes under the conditions of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from se_nas.cost.energy import needed_energy
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.table import LatencyFile, LatencyTable, read_latency_table
from se_nas.cost.latency.timing import Measurement, measure_network
from se_nas.cost.metrics import ENERGY, LATENCY, device_of, is_latency
from se_nas.cost.table import CostTable
from se_nas.records.record import read_record
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec

#: What is known of a latency: a table of the whole space, or, where none was made, how to measure a network.
Latency = LatencyTable | LatencyKey
Latencies = Mapping[str, Latency]
"""By metric: "latency_ms", or one a device, such as "latency_ms.phone"; and "energy_mj" where it is asked for."""


def key_of(latency: Latency) -> LatencyKey:
    """The conditions that a latency is measured under."""
    return latency.key if isinstance(latency, LatencyTable) else latency


def measure(metric: str, network: NetworkSpec, latency: Latency) -> Measurement:
    """A network measured now; DeviceError where that is not possible here."""
    return needed_energy(network, key_of(latency)) if metric == ENERGY else measure_network(network, key_of(latency))


def table_alone(latency: Latency) -> LatencyTable | None:
    """The table of a latency that no clock here can tell; None of one that can be measured."""
    timed = RUNTIMES[key_of(latency).runtime].timed
    return latency if isinstance(latency, LatencyTable) and not timed else None


def cost_tables(latencies: Latencies) -> dict[str, CostTable]:
    """The cost tables of those that have one."""
    return {
        metric: CostTable(found.space, metric, found.table.constant, found.table.terms, found.table.parts)
        for metric, found in latencies.items()
        if isinstance(found, LatencyTable)
    }


def latency_file(metric: str) -> str:
    """The name of its table's file in the folder of a run."""
    if metric == ENERGY:
        return "energy.json"
    device = device_of(metric)
    return "latency.json" if device is None else f"latency.{device}.json"


def read_latencies(folder: Path, metrics: Iterable[str], space: SearchSpace) -> dict[str, LatencyTable]:
    """The tables that a run's folder has of some latencies; ConfigError where one is damaged."""
    return {metric: read_latency_table(path, space, metric) for metric, path in _there(folder, metrics)}


def read_latency_files(folder: Path, metrics: Iterable[str]) -> dict[str, LatencyFile]:
    """The same without the space, for who shows what was measured."""
    return {metric: read_record(LatencyFile, path) for metric, path in _there(folder, metrics)}


def _there(folder: Path, metrics: Iterable[str]) -> list[tuple[str, Path]]:
    places = [(metric, folder / latency_file(metric)) for metric in metrics]
    return [(metric, path) for metric, path in places if path.exists()]


def latency_problems(used: Iterable[tuple[str, str]], latencies: Iterable[str]) -> list[str]:
    """A line for each latency that is asked for and is none of a run's.

    Args:
        used: where each metric stands, and the metric.
        latencies: the metrics that the run has of latency.
    """
    known = list(latencies)
    must = f"must be {' or '.join(known)}" if len(known) < 3 else f"must be one of {', '.join(known)}"
    of = "of the one device that the run has" if known == [LATENCY] else "of a device that the run names"
    return [
        f"{where}: {must}, the latency {of}, but got {metric}"
        for where, metric in used
        if is_latency(metric) and metric not in known
    ]
