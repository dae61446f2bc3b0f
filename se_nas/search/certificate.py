"""The certificate: what is known of each cost and budget of a network that is really built, and how it is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from se_nas.cost.budget import Budget
from se_nas.cost.cross_check import cross_check_counts
from se_nas.cost.energy import measure_energy, no_counter
from se_nas.cost.latencies import Latencies, key_of, latency_problems, table_alone
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.table import LatencyTable
from se_nas.cost.latency.timing import Measurement, key_under, latency_conditions, latency_key, measure_network
from se_nas.cost.metrics import ENERGY, LATENCY, METRICS, is_latency
from se_nas.errors import ConfigError, DeviceError, SeNasError
from se_nas.hardware.environment import describe_environment
from se_nas.hardware.lines import Say, silent
from se_nas.layers.network import Network
from se_nas.records.models.certificate import (
    BudgetEntry,
    Certificate,
    CostEntry,
    CrossCheck,
    How,
    RetrainedPart,
    SearchCertificate,
)
from se_nas.records.record import read_record
from se_nas.search.budgets.decode import Decoded
from se_nas.space.specs import NetworkSpec


def certify(
    spec: NetworkSpec,
    budgets: Sequence[Budget],
    latencies: Latencies,
    found: Decoded | None,
    measured: Mapping[str, Measurement],
) -> SearchCertificate:
    """The certificate of a network.

    Of each cost: how it is known (counted exactly, predicted by the table, measured with n timings and the 95 %
    interval of their median); MACs and parameters are those of the network that is really built, cross-checked with
    torch's own counter.

    Args:
        found: the decode that gave the network, whose prediction is told; None of a network that none gave.
        measured: of the network, each of `latencies`; where there is an imported table alone, what that predicts.
    """
    check_registered((budget.metric for budget in budgets), latencies)
    known, check = _costs(spec, measured, [key_of(latency) for latency in latencies.values()])
    for metric, latency in latencies.items():
        if (alone := table_alone(latency)) is not None:
            told = {"how": "predicted", "relative_error_std": alone.fit.held_out.residual_std}
            known[metric] = known[metric].model_copy(update=told)
    kept = []
    for budget in budgets:
        if budget.metric not in known:  # all others are counted, or were looked for above
            raise DeviceError(f"{budget.metric} {no_counter()}")
        entry = known[budget.metric]
        worst = entry.ci95[1] if entry.ci95 else entry.value
        if not budget.holds(worst):
            raise SeNasError(f"the network that is built must keep {budget}, but costs {worst}")
        kept.append(BudgetEntry(**entry.plain(), limit=budget.limit, holds=True))
    for metric, cost in found.costs.items() if found is not None else ():
        if METRICS[metric].counted and not math.isclose(cost, known[metric].value, rel_tol=1e-9):
            raise SeNasError(
                f"the table of {metric} must say what is counted on the network that is built, "
                f"{known[metric].value:g}, but says {cost:g}"
            )
    costs = []
    for metric, entry in known.items():
        table = latencies.get(metric)
        if isinstance(table, LatencyTable) and found is not None and entry.how == "measured":
            held_out = table.fit.held_out
            predicted = _entry(metric, found.costs[metric], "predicted", held_out.n)
            of_table: dict[str, object] = {"relative_error_std": held_out.residual_std}
            if table.predicted:
                of_table["predicted_blocks"] = len(table.predicted)
            costs.append(predicted.model_copy(update=of_table))
        costs.append(entry)
    return SearchCertificate(
        budgets=tuple(kept),
        costs=tuple(costs),
        cross_check=check,
        latency_conditions={m: latency_conditions(key_of(found)) for m, found in latencies.items() if is_latency(m)},
        environment=describe_environment(),
    )


def check_registered(metrics: Iterable[str], latencies: Latencies) -> None:
    """Raise ConfigError for metrics of which a certificate says nothing, as those of tables that were made by hand."""
    metrics = list(metrics)
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        must = f"must be one of {', '.join(METRICS)} to be certified; a plugin adds another to METRICS"
        raise ConfigError("budgets", [f"{metric}: {must}" for metric in unknown])
    if problems := latency_problems(((metric, metric) for metric in metrics), latencies):
        raise ConfigError("budgets", problems)


def extend_certificate(
    search: Path | None,
    spec: NetworkSpec,
    device: str,
    trained: Mapping[str, object],
    say: Say = silent,
) -> Certificate:
    """The certificate of a retrained network: what its search certified, as it was, and what is known of it now.

    The part `retrained` has the counts of the network that is built, cross-checked with torch's counter, its latencies,
    and what the training says of itself. The latencies are those of the search, each under its conditions, as far as
    they can be measured from here; where none can, that of the usual runtime on `device`. The search's budgets were for
    the size that it searched at: they say nothing of the network at another size, and are not checked on it.

    Args:
        search: `certificate.json` of the search; None for a network that no search found.
        spec: the network that was trained.
        device: the kind of device of this machine that it was trained on.
        trained: what it was trained on and what came of it, JSON-able.
        say: told of each latency that cannot be measured.

    Raises:
        ConfigError: `search` cannot be read or is no certificate of this version.
    """
    found = None if search is None else read_record(Certificate, search)
    keys: dict[str, LatencyKey] = {}
    measured: dict[str, Measurement] = {}
    for metric, conditions in ((found and found.latency_conditions) or {}).items():
        try:
            key = key_under(conditions)
            measured[metric] = measure_network(spec, key)
        except DeviceError as error:  # hours of training are not lost for want of a phone
            say(f"{metric} of the retrained network is not measured: {error}")
        else:
            keys[metric] = key
    if not keys:
        keys = {LATENCY: latency_key(device)}
        measured = {LATENCY: measure_network(spec, keys[LATENCY])}
    known, check = _costs(spec, measured, keys.values())
    retrained = RetrainedPart(
        resolution=spec.resolution,
        classes=spec.head.classes,
        costs=tuple(known.values()),
        cross_check=check,
        latency_conditions={metric: latency_conditions(key) for metric, key in keys.items()},
        trained=dict(trained),
        environment=describe_environment(),
    )
    return Certificate(retrained=retrained) if found is None else found.model_copy(update={"retrained": retrained})


def _costs(
    spec: NetworkSpec, measured: Mapping[str, Measurement], keys: Iterable[LatencyKey]
) -> tuple[dict[str, CostEntry], CrossCheck]:
    """What is counted of the network that is built and what is measured, by metric, and the cross-check.

    Its energy is measured under the first of the keys whose device keeps a counter.
    """
    network = Network(spec).eval()
    check = cross_check_counts(network, spec)
    if not check.agree:
        must = "the counts of the network that is built must be those of its specification"
        raise SeNasError(f"{must}, but got {check.plain()}")
    known = {
        name: _entry(name, metric.built(network) if metric.built else metric.of(spec), "counted")
        for name, metric in METRICS.items()
        if metric.counted
    }
    for metric, one in measured.items():
        known[metric] = _entry(metric, one.median_ms, "measured", one.n, one.ci95_ms)
    keys = () if ENERGY in measured else keys
    energy = next(filter(None, (measure_energy(spec, key) for key in keys)), None)
    if energy is not None:
        known[ENERGY] = _entry(ENERGY, energy.median_mj, "measured", energy.n, energy.ci95_mj)
    note = "Neither count includes activations, norms, global means, SE's rescaling or the sums of skips."
    return known, check.model_copy(update={"note": note})


def _entry(metric: str, value: float, how: How, n: int = 1, ci95: tuple[float, float] | None = None) -> CostEntry:
    whole = METRICS[metric].counted and float(value).is_integer()
    return CostEntry(
        metric=metric, unit=METRICS[metric].unit, value=int(value) if whole else value, how=how, n=n, ci95=ci95
    )
