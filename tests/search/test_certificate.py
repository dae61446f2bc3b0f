from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from se_nas.cost.budget import Budget, format_cost
from se_nas.cost.counts import network_counts
from se_nas.cost.latencies import cost_tables
from se_nas.cost.latency.cache import build_latency_table
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.table import LatencyTable
from se_nas.cost.latency.timing import Measurement, latency_key
from se_nas.cost.metrics import LATENCY, METRICS
from se_nas.cost.table import CostTable, count_tables
from se_nas.errors import InfeasibleBudgetError, SeNasError
from se_nas.layers.network import Network
from se_nas.records.models.certificate import Certificate, SearchCertificate
from se_nas.records.record import write_record
from se_nas.search.answer import ATTEMPTS, Answer, answer, answer_among
from se_nas.search.budgets.decode import decode, greatest_cost, least_cost
from se_nas.search.certificate import extend_certificate
from se_nas.space.scaling import resolve_scaled
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec, NetworkSpec
from se_nas.space.templates import Scaling

KEY = LatencyKey("cpu Babbage")
SPREAD = 0.02  # half the width of the fake clock's confidence interval


def true_block_ms(block: BlockSpec) -> float:
    return 0.01 * block.kernel + 0.001 * block.expanded + 0.002 * block.se_hidden


def true_ms(network: NetworkSpec) -> float:
    return 0.5 + sum(map(true_block_ms, network.blocks))


def measurement(ms: float) -> Measurement:
    return Measurement(ms, ms, (ms * (1 - SPREAD), ms * (1 + SPREAD)), 40)


@pytest.fixture(scope="module")
def latency(tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> LatencyTable:
    """A table that predicts `true_ms` exactly."""
    return build_latency_table(
        tiny_space,
        KEY,
        cache_folder=tmp_path_factory.mktemp("latency"),
        time_blocks=lambda blocks, key, report: [true_block_ms(block) for block in blocks],
        time_networks=lambda networks, key, report: [measurement(true_ms(network)) for network in networks],
    )


@pytest.fixture(scope="module")
def tables(tiny_space: SearchSpace, latency: LatencyTable) -> dict[str, CostTable]:
    return {**count_tables(tiny_space), "latency_ms": latency.table}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how many times longer than predicted the fake clock finds every network to run."""

    def slow_by(factor: float) -> None:
        for user in ("cost.latencies", "search.certificate"):
            clock = f"se_nas.{user}.measure_network"
            monkeypatch.setattr(clock, lambda spec, key: measurement(factor * true_ms(spec)))

    slow_by(1.0)
    return slow_by


def large_first(space: SearchSpace) -> dict[str, list[float]]:
    """Scores that want the last option of every choice, which is mostly the dearest."""
    return {c.name: [0.7**i * i for i in range(len(c.options))] for c in space.choices}


def find(space: SearchSpace, tables: dict[str, CostTable], latency: LatencyTable, *budgets: Budget) -> Answer:
    return answer(space, tables, {LATENCY: latency}, budgets, large_first(space))


def middle(space: SearchSpace, tables: dict[str, CostTable], metric: str, share: float = 0.6) -> Budget:
    low, high = least_cost(space, tables, metric).costs[metric], greatest_cost(space, tables, metric).costs[metric]
    return Budget(metric, low + share * (high - low))


def test_the_certificate_says_of_each_cost_what_the_built_network_has(tiny_space, tables, latency, clock) -> None:
    budgets = [middle(tiny_space, tables, metric) for metric in tables]
    found = find(tiny_space, tables, latency, *budgets)
    assert found.network == tiny_space.resolve(found.architecture)
    counts = network_counts(found.network)
    built = sum(p.numel() for p in Network(found.network).parameters())
    macs, params, weights, peak, predicted, measured = found.certificate.costs
    assert (macs.metric, macs.value, macs.how, macs.unit) == ("macs", counts.macs, "counted", "MACs")
    assert (params.metric, params.value, params.how) == ("params", built, "counted")
    for entry in (weights, peak):
        assert (entry.value, entry.how) == (METRICS[entry.metric].of(found.network), "counted")
        assert (entry.unit, entry.value > 0) == ("B", True)
    assert (predicted.how, measured.how) == ("predicted", "measured")
    assert predicted.value == pytest.approx(true_ms(found.network))
    assert predicted.n == latency.fit.held_out.n
    assert (measured.value, measured.n) == (pytest.approx(true_ms(found.network)), 40)
    assert [entry.limit for entry in found.certificate.budgets] == [budget.limit for budget in budgets]
    assert all(entry.holds for entry in found.certificate.budgets)
    assert found.certificate.latency_conditions[LATENCY].device == KEY.device
    assert SearchCertificate(**json.loads(json.dumps(found.certificate.plain()))) == found.certificate


def test_the_counts_are_those_of_the_network_that_is_built(tiny_space, tables, latency, clock) -> None:
    check = find(tiny_space, tables, latency, middle(tiny_space, tables, "macs")).certificate.cross_check
    assert check.agree
    assert check.built_macs == check.macs > 0
    assert check.built_params == check.params > 0


def test_without_budgets_every_choice_has_its_best_option(tiny_space, tables, latency, clock) -> None:
    found = find(tiny_space, tables, latency)
    assert found.decodes[0].score == 0
    assert len(found.decodes) == 1
    assert found.certificate.budgets == ()


def test_an_exact_prediction_needs_tightening_only_for_the_interval(tiny_space, tables, latency, clock) -> None:
    budget = middle(tiny_space, tables, "latency_ms")
    first = decode(tiny_space, tables, [budget], large_first(tiny_space))
    roomy = Budget("latency_ms", first.costs["latency_ms"] * (1 + SPREAD) * 1.0001)
    assert len(find(tiny_space, tables, latency, roomy).decodes) == 1
    # the median keeps this one, the upper end of its interval does not
    tight = Budget("latency_ms", first.costs["latency_ms"] * (1 + SPREAD / 2))
    found = find(tiny_space, tables, latency, tight)
    assert len(found.decodes) > 1
    assert found.decodes[0].measured_ms[LATENCY] <= tight.limit
    (entry,) = found.certificate.budgets
    assert entry.holds
    assert entry.ci95[1] <= tight.limit


def test_a_network_that_runs_longer_than_predicted_is_replaced(tiny_space, tables, latency, clock) -> None:
    clock(1.2)
    budgets = [middle(tiny_space, tables, "macs", 0.9), middle(tiny_space, tables, "latency_ms", 0.8)]
    found = find(tiny_space, tables, latency, *budgets)
    assert 1.2 * true_ms(found.network) * (1 + SPREAD) <= budgets[1].limit
    assert network_counts(found.network).macs <= budgets[0].limit
    assert all(entry.holds for entry in found.certificate.budgets)
    assert len(found.decodes) > 1
    assert found.decodes[0].limits == {budget.metric: budget.limit for budget in budgets}
    limits = [entry.limits["latency_ms"] for entry in found.decodes]
    assert limits == sorted(limits, reverse=True)
    assert {entry.limits["macs"] for entry in found.decodes} == {budgets[0].limit}
    assert [entry.measured_ms[LATENCY] for entry in found.decodes] == pytest.approx(
        [1.2 * entry.costs["latency_ms"] for entry in found.decodes]
    )
    assert found.certificate.budgets[1].limit == budgets[1].limit  # what was asked, not what was decoded under


@pytest.mark.parametrize("factor", [1.5, 1000.0])
def test_a_latency_never_met_is_an_error_in_one_line(tiny_space, tables, latency, clock, factor) -> None:
    clock(factor)
    least = least_cost(tiny_space, tables, "latency_ms").costs["latency_ms"]
    with pytest.raises(InfeasibleBudgetError) as error:
        find(tiny_space, tables, latency, Budget("latency_ms", least * 1.3))
    message = str(error.value)
    assert "\n" not in message
    assert f"measured latency must keep latency_ms <= {least * 1.3:.3g} ms" in message
    assert f"after {ATTEMPTS} tries the least measured was {least * factor:.3g} ms" in message


def test_one_disturbed_measurement_does_not_rule_out_the_fastest(tiny_space, tables, latency, monkeypatch) -> None:
    factors = iter([50.0, 1.0])
    monkeypatch.setattr(
        "se_nas.cost.latencies.measure_network", lambda spec, key: measurement(next(factors) * true_ms(spec))
    )
    found = find(tiny_space, tables, latency, middle(tiny_space, tables, "latency_ms"))
    fastest = least_cost(tiny_space, tables, "latency_ms").costs["latency_ms"]
    assert [entry.costs["latency_ms"] for entry in found.decodes][1:] == [fastest]
    assert found.certificate.budgets[0].holds


def test_a_budget_infeasible_from_the_start_is_told_as_by_a_decode(tiny_space, tables, latency, clock) -> None:
    with pytest.raises(InfeasibleBudgetError, match="where the least reachable is"):
        find(tiny_space, tables, latency, Budget("latency_ms", 1e-6), Budget("macs", math.inf))


def test_of_evaluated_networks_those_that_will_be_too_slow_are_not_measured(
    tiny_space, tables, latency, clock, monkeypatch
) -> None:
    """The best 40 and more are predicted to be just in time and are not; a later one is."""
    clock(1.2)
    ranked = sorted(tiny_space.enumerate(), key=tables["latency_ms"].cost, reverse=True)
    predicted = [tables["latency_ms"].cost(a) for a in ranked]
    budget = Budget("latency_ms", predicted[5])
    found = answer_among(
        tiny_space, tables, {LATENCY: latency}, [budget], ((a, 1.0 - i / 1000) for i, a in enumerate(ranked))
    )
    in_time = [a for a in ranked if 1.2 * true_ms(tiny_space.resolve(a)) * (1 + SPREAD) <= budget.limit]
    assert ranked.index(in_time[0]) > 5 + ATTEMPTS
    assert 1 < len(found.decodes) <= 4
    assert found.architecture in in_time
    (entry,) = found.certificate.budgets
    assert entry.ci95[1] <= budget.limit


def test_nothing_is_given_up_before_the_fastest_evaluated_network_was_measured(
    tiny_space, tables, latency, monkeypatch
) -> None:
    """Each measurement but the fastest's is only just too long, so that the limit creeps down."""
    ranked = sorted(tiny_space.enumerate(), key=tables["latency_ms"].cost, reverse=True)
    fastest, top = true_ms(tiny_space.resolve(ranked[-1])), tables["latency_ms"].cost(ranked[0])

    def timed(spec: NetworkSpec, key: LatencyKey) -> Measurement:
        return measurement(fastest if true_ms(spec) <= fastest else top)

    monkeypatch.setattr("se_nas.cost.latencies.measure_network", timed)
    scored = [(a, 1.0 - i / 1000) for i, a in enumerate(ranked)]
    found = answer_among(tiny_space, tables, {LATENCY: latency}, [Budget("latency_ms", top)], scored)
    assert true_ms(found.network) == pytest.approx(fastest)
    assert len(found.decodes) == ATTEMPTS
    monkeypatch.setattr("se_nas.cost.latencies.measure_network", lambda spec, key: measurement(2 * top))
    with pytest.raises(InfeasibleBudgetError, match=f"after {ATTEMPTS} tries the least measured was"):
        answer_among(tiny_space, tables, {LATENCY: latency}, [Budget("latency_ms", top)], scored)


def test_a_prediction_says_how_many_blocks_of_its_table_were_not_timed(tiny_space, tables, latency, clock) -> None:
    some = frozenset(list(latency.block_ms)[:3])
    bounded = dataclasses.replace(latency, predicted=some)
    limit = middle(tiny_space, tables, "macs")
    for table, number in ((latency, None), (bounded, 3)):
        costs = find(tiny_space, tables, table, limit).certificate.costs
        assert [entry.predicted_blocks for entry in costs if entry.how == "predicted"] == [number]
        assert all(entry.predicted_blocks is None for entry in costs if entry.how != "predicted")


TRAINED = {"data": "imagenet", "epochs": 2, "top1": 0.5}


def test_a_retrained_network_s_counts_and_latency_join_what_its_search_certified(
    tiny_space, tables, latency, clock, tmp_path: Path
) -> None:
    found = find(tiny_space, tables, latency, *(middle(tiny_space, tables, metric) for metric in tables))
    path = write_record(tmp_path / "certificate.json", found.certificate)
    larger = dataclasses.replace(tiny_space, scaling=(Scaling("imagenet", 32, 7, width=2.0),))
    spec = resolve_scaled(larger, found.architecture, "imagenet")
    extended = extend_certificate(path, spec, "cpu", TRAINED)
    retrained = extended.retrained
    assert retrained is not None
    found_again = extended.plain()
    assert found_again.pop("retrained") == retrained.plain()
    assert found_again == found.certificate.plain()
    counts = network_counts(spec)
    assert counts.macs > network_counts(found.network).macs
    assert [(e.metric, e.value, e.how) for e in retrained.costs] == [
        ("macs", counts.macs, "counted"),
        ("params", counts.params, "counted"),
        *((metric, METRICS[metric].of(spec), "counted") for metric in ("weight_bytes", "peak_activation_bytes")),
        ("latency_ms", true_ms(spec), "measured"),
    ]
    measured = retrained.costs[-1]
    assert (measured.n, measured.ci95) == (40, (true_ms(spec) * (1 - SPREAD), true_ms(spec) * (1 + SPREAD)))
    assert retrained.cross_check.agree
    assert retrained.cross_check.macs == counts.macs
    assert (retrained.resolution, retrained.classes, retrained.trained) == (32, 7, TRAINED)
    under = retrained.latency_conditions[LATENCY]
    assert (under.runtime, under.device) == ("eager", latency_key().device)  # the search's runtime, on this machine
    assert retrained.environment.packages["torch"]
    again = write_record(tmp_path / "again.json", extended)
    longer = extend_certificate(again, spec, "cpu", {"epochs": 3}).retrained
    assert longer is not None
    assert longer.trained == {"epochs": 3}


def test_a_network_that_no_search_found_has_a_certificate_of_its_own(tiny_space, clock) -> None:
    spec = tiny_space.resolve(next(tiny_space.enumerate()))
    certificate = extend_certificate(None, spec, "cpu", TRAINED)
    assert list(certificate.plain()) == ["format", "version", "retrained"]
    assert Certificate(**json.loads(json.dumps(certificate.plain()))) == certificate


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "file: must be readable, but got: No such file"),
        ("{", "file: must be JSON, but got: "),
        ("[]", "file: must be a mapping, but got []"),
        ('{"format": "se_nas certificate", "version": 2}', "version: must be 1, but got 2"),
        ('{"version": 1}', "file: must have the costs of a network"),
    ],
)
def test_what_is_no_certificate_is_told_in_one_line(tiny_space, clock, tmp_path: Path, content, expected) -> None:
    path = tmp_path / "certificate.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SeNasError) as error:
        extend_certificate(path, tiny_space.resolve(next(tiny_space.enumerate())), "cpu", TRAINED)
    assert str(error.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(error.value)


# ---- several devices


def test_a_retrained_network_is_measured_on_the_devices_of_its_search_that_can_be_asked(
    tiny_space, tables, latency, clock, tmp_path: Path
) -> None:
    found = find(tiny_space, tables, latency, middle(tiny_space, tables, "macs"))
    (here,) = found.certificate.latency_conditions.values()
    conditions = {
        "latency_ms.server": here.model_copy(update={"threads": 2}),
        "latency_ms.board": here.model_copy(update={"device": "board", "runtime": "command", "program": "t {onnx}"}),
        "latency_ms.gone": here.model_copy(update={"runtime": "of_a_plugin"}),
    }
    certificate = found.certificate.model_copy(update={"latency_conditions": conditions})
    path = write_record(tmp_path / "certificate.json", certificate)
    said: list[str] = []
    retrained = extend_certificate(path, found.network, "cpu", TRAINED, said.append).retrained
    assert retrained is not None
    under = retrained.latency_conditions
    assert {name: (of.runtime, of.threads, of.program) for name, of in under.items()} == {
        "latency_ms.server": ("eager", 2, None),
        "latency_ms.board": ("command", 1, "t {onnx}"),
    }
    assert [entry.metric for entry in retrained.costs if entry.how == "measured"] == list(under)
    (line,) = said
    assert line.startswith("latency_ms.gone of the retrained network is not measured: latency runtime must be one of ")


def test_where_no_device_of_the_search_can_be_asked_this_one_is(
    tiny_space, tables, latency, clock, tmp_path: Path
) -> None:
    found = find(tiny_space, tables, latency, middle(tiny_space, tables, "macs"))
    gone = {LATENCY: found.certificate.latency_conditions[LATENCY].model_copy(update={"device": "abacus one"})}
    path = write_record(
        tmp_path / "certificate.json", found.certificate.model_copy(update={"latency_conditions": gone})
    )
    retrained = extend_certificate(path, found.network, "cpu", TRAINED).retrained
    assert retrained is not None
    assert retrained.latency_conditions[LATENCY].device == latency_key().device


@pytest.fixture(scope="module")
def devices(tiny_space: SearchSpace, latency: LatencyTable) -> dict[str, LatencyTable]:
    """Two, on the second of which what is slow on the first is fast: no SE, larger kernels."""
    other = {block: 2.0 - 2 * ms for block, ms in latency.block_ms.items()}
    return {"latency_ms.a": latency, "latency_ms.b": dataclasses.replace(latency, key=OTHER, block_ms=other)}


OTHER = LatencyKey("cpu Lovelace")


def both(devices: dict[str, LatencyTable], network: NetworkSpec) -> dict[str, float]:
    (table_a, table_b) = devices.values()
    predicted = table_b.fit.intercept_ms + table_b.fit.factor * sum(table_b.block_ms[b] for b in network.blocks)
    return {table_a.key.device: true_ms(network), table_b.key.device: predicted}


@pytest.fixture
def clocks(devices: dict[str, LatencyTable], monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Sets how many times longer than predicted each device finds every network to run."""

    def slow_by(a: float, b: float) -> None:
        factors = {KEY.device: a, OTHER.device: b}
        clock = "se_nas.cost.latencies.measure_network"
        monkeypatch.setattr(clock, lambda spec, key: measurement(factors[key.device] * both(devices, spec)[key.device]))

    slow_by(1.0, 1.0)
    return slow_by


def find_on_both(space: SearchSpace, devices: dict[str, LatencyTable], *budgets: Budget) -> Answer:
    tables = {**count_tables(space), **cost_tables(devices)}
    return answer(space, tables, devices, budgets, large_first(space))


def test_the_budgets_of_two_devices_that_are_both_slower_than_predicted_are_kept_together(
    tiny_space, devices, clocks
) -> None:
    clocks(1.1, 1.15)
    tables = cost_tables(devices)
    budgets = [middle(tiny_space, tables, metric, 0.7) for metric in tables]
    found = find_on_both(tiny_space, devices, *budgets)
    took = both(devices, found.network)
    assert 1.1 * took[KEY.device] * (1 + SPREAD) <= budgets[0].limit
    assert 1.15 * took[OTHER.device] * (1 + SPREAD) <= budgets[1].limit
    assert [(entry.metric, entry.how, entry.holds) for entry in found.certificate.budgets] == [
        ("latency_ms.a", "measured", True),
        ("latency_ms.b", "measured", True),
    ]
    assert {m: c.device for m, c in found.certificate.latency_conditions.items()} == {
        "latency_ms.a": KEY.device,
        "latency_ms.b": OTHER.device,
    }
    assert all(entry.measured_ms.keys() == set(tables) for entry in found.decodes)


def test_the_budgets_of_two_devices_that_cannot_be_kept_together_name_what_each_can_reach_beside_the_other(
    tiny_space, devices, clocks
) -> None:
    tables = cost_tables(devices)
    budgets = [middle(tiny_space, tables, metric, 0.02) for metric in tables]
    with pytest.raises(InfeasibleBudgetError) as error:
        find_on_both(tiny_space, devices, *budgets)
    for one, other in (budgets, budgets[::-1]):
        least = least_cost(tiny_space, tables, one.metric, [other]).costs[one.metric]
        shown = format_cost(one.metric, least, up=True)
        assert f"{one}, where the least reachable with {other} is {shown}" in str(error.value)


def test_of_two_devices_the_one_that_is_never_fast_enough_is_named_and_the_other_stays_kept(
    tiny_space, devices, clocks
) -> None:
    clocks(1.0, 3.0)
    tables = cost_tables(devices)
    budgets = [middle(tiny_space, tables, metric, 0.6) for metric in tables]
    with pytest.raises(InfeasibleBudgetError, match=r"the least measured of latency_ms\.b was") as error:
        find_on_both(tiny_space, devices, *budgets)
    assert "least measured of latency_ms.a" not in str(error.value)
    assert " and ".join(map(str, budgets)) in str(error.value)
