"""The answer under hard budgets, and the certificate that says of each budget what is known and how it is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from se_nas.cost.budget import Budget
from se_nas.cost.cross_check import cross_check_counts
from se_nas.cost.latency.table import LatencyTable
from se_nas.cost.latency.timing import LatencyKey, Measurement, clock_name, measure_network
from se_nas.cost.metrics import LATENCY, METRICS
from se_nas.errors import SeNasError
from se_nas.hardware.environment import describe_environment
from se_nas.layers.network import Network
from se_nas.records.models.certificate import Certificate
from se_nas.records.record import read_plain
from se_nas.search.budgets.decode import Decoded
from se_nas.space.specs import NetworkSpec

FORMAT = "se_nas certificate"
VERSION = 1


def certify(
    spec: NetworkSpec, budgets: Sequence[Budget], latency: Latency, found: Decoded | None, measured: Measurement
) -> dict[str, Any]:
    """The certificate of a network, as `certificate.json` holds it.

    Of each cost: how it is known (counted exactly, predicted by the table, measured with n timings and the 95 %
    interval of their median); MACs and parameters are those of the network that is really built, cross-checked with
    torch's own counter.

    Args:
        found: the decode that gave the network, whose prediction is told; None of a network that none gave.
    """
    known, check = _costs(spec, measured)
    kept = []
    for budget in budgets:
        entry = known[budget.metric]
        worst = entry["ci95"][1] if entry["ci95"] else entry["value"]
        if not budget.holds(worst):
            raise SeNasError(f"the network that is built must keep {budget}, but costs {worst}")
        kept.append({**entry, "limit": budget.limit, "holds": True})
    for metric, cost in found.costs.items() if found is not None else ():
        if METRICS[metric].counted and not math.isclose(cost, known[metric]["value"], rel_tol=1e-9):
            raise SeNasError(
                f"the table of {metric} must say what is counted on the network that is built, "
                f"{known[metric]['value']:g}, but says {cost:g}"
            )
    costs = list(known.values())
    if isinstance(latency, LatencyTable) and found is not None:
        held_out = latency.fit.held_out
        predicted = _entry(LATENCY, found.costs[LATENCY], "predicted", held_out.n)
        costs.insert(-1, {**predicted, "relative_error_std": held_out.residual_std})
    key = key_of(latency)
    return {
        "format": FORMAT,
        "version": VERSION,
        "budgets": kept,
        "costs": costs,
        "cross_check": check,
        "latency_conditions": _conditions(key),
        "environment": describe_environment(),
    }


def extend_certificate(
    search: Path | None, spec: NetworkSpec, key: LatencyKey, trained: Mapping[str, Any]
) -> dict[str, Any]:
    """The certificate of a retrained network: what its search certified, as it was, and what is known of it now.

    The entry `retrained` has the counts of the network that is built, cross-checked with torch's
    counter, its latency measured
    under `key`, and what the training says of itself. The search's budgets were for the size that it searched at: they
    say nothing of the network at another size, and are not checked on it.

    Args:
        search: `certificate.json` of the search; None for a network that no search found.
        spec: the network that was trained.
        trained: what it was trained on and what came of it, JSON-able.

    Raises:
        SeNasError: `search` cannot be read or is no certificate of this version.
    """
    known, check = _costs(spec, measure_network(spec, key))
    return {
        **(read_certificate(search) if search else {"format": FORMAT, "version": VERSION}),
        "retrained": {
            "resolution": spec.resolution,
            "classes": spec.head.classes,
            "costs": list(known.values()),
            "cross_check": check,
            "latency_conditions": _conditions(key),
            "trained": dict(trained),
            "environment": describe_environment(),
        },
    }


def read_certificate(path: Path) -> dict[str, Any]:
    """What the certificate of a search holds, or of a network that none found.

    Raises:
        ConfigError: the file cannot be read, or is no certificate of this version.
    """
    found: dict[str, Any] = read_plain(Certificate, path)
    return found


def _costs(spec: NetworkSpec, measured: Measurement) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What is counted of the network that is built and its measured latency, by metric, and the cross-check."""
    network = Network(spec)
    check = cross_check_counts(network, spec)
    if not check["agree"]:
        raise SeNasError(f"the counts of the network that is built must be those of its specification, but got {check}")
    known = {
        name: _entry(name, metric.built(network) if metric.built else metric.of(spec), "counted")
        for name, metric in METRICS.items()
        if metric.counted
    }
    known[LATENCY] = _entry(LATENCY, measured.median_ms, "measured", measured.n, measured.ci95_ms)
    note = "Neither count includes activations, norms, global means, SE's rescaling or the sums of skips."
    return known, {**check, "note": note}


def _conditions(key: LatencyKey) -> dict[str, Any]:
    """Under which a latency holds."""
    return {
        "device": key.device,
        "backend": key.backend,
        "dtype": key.dtype,
        "batch_size": key.batch_size,
        "threads": key.threads,
        "clock": clock_name(key),
    }


def _entry(metric: str, value: float, how: str, n: int = 1, ci95: tuple[float, float] | None = None) -> dict[str, Any]:
    return {
        "metric": metric,
        "unit": METRICS[metric].unit,
        "value": int(value) if METRICS[metric].counted and float(value).is_integer() else value,
        "how": how,
        "n": n,
        "ci95": list(ci95) if ci95 else None,
    }


#: What is known of latency: a table of the whole space, or, where none was made, how to measure a network.
Latency = LatencyTable | LatencyKey


def key_of(latency: Latency) -> LatencyKey:
    """The conditions that a latency is measured under."""
    return latency.key if isinstance(latency, LatencyTable) else latency
