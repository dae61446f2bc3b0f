from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from se_nas.cost.energy import Energy, measure_energy
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.timing import Measurement, latency_key
from se_nas.cost.metrics import ENERGY, LATENCY
from se_nas.hardware.energy import EnergyMeter
from se_nas.report.pages.costs import cost_table
from se_nas.search.certificate import certify
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec
from tests.hardware.test_energy import LAST, write_zone

A_RUN, WARMING = 2_000, 50_000  # microjoules: of one run, and of what precedes each series of runs


@pytest.fixture
def spec(tiny_space: SearchSpace) -> NetworkSpec:
    return tiny_space.resolve(next(iter(tiny_space.enumerate())))


@pytest.fixture
def key() -> LatencyKey:
    return latency_key("cpu", "eager")


def consuming(counter: Path, a_run: Callable[[], int] = lambda: A_RUN) -> Any:
    """A runtime whose runs of 1 ms take energy by a counter in a file, which starts again after its last count."""

    def run(times: int) -> list[float]:
        used = WARMING + sum(a_run() for _ in range(times))
        counter.write_text(str((int(counter.read_text()) + used) % (LAST + 1)))
        return [1.0] * times

    return dataclasses.replace(RUNTIMES["eager"], prepare=lambda module, inputs, key: run)


def test_the_energy_of_a_run_is_free_of_what_a_series_takes_once_also_where_the_counter_starts_again(
    spec: NetworkSpec, key: LatencyKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", LAST - 10 * A_RUN)
    monkeypatch.setitem(RUNTIMES, "eager", consuming(counter))
    meter = EnergyMeter(torch.device("cpu"), powercap=tmp_path)
    found = measure_energy(spec, key, meter, rounds=4, seconds=0.02)
    assert found is not None
    assert found.median_mj == pytest.approx(A_RUN / 1000)
    assert (found.n, found.ci95_mj) == (4, (pytest.approx(2), pytest.approx(2)))


def test_a_counter_that_goes_gives_no_energy_and_neither_does_a_device_elsewhere(
    spec: NetworkSpec, key: LatencyKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter(torch.device("cpu"), powercap=tmp_path)

    def goes(times: int) -> list[float]:
        counter.unlink(missing_ok=True)
        return [1.0] * times

    monkeypatch.setitem(RUNTIMES, "eager", dataclasses.replace(RUNTIMES["eager"], prepare=lambda *given: goes))
    assert measure_energy(spec, key, meter, rounds=2, seconds=0.01) is None
    assert measure_energy(spec, LatencyKey("phone", "command", program="time.sh"), meter) is None
    assert measure_energy(spec, key, EnergyMeter(torch.device("cpu"), powercap=tmp_path / "none")) is None


def test_a_certificate_and_its_page_have_the_energy_that_was_measured(
    spec: NetworkSpec, key: LatencyKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {LATENCY: Measurement(1.0, 1.0, (0.9, 1.1), 40)}
    monkeypatch.setattr("se_nas.search.certificate.measure_energy", lambda spec, key: Energy(3.25, (3.0, 3.5), 10))
    certificate = certify(spec, [], {LATENCY: key}, None, measured)
    entry = certificate.costs[-1]
    assert (entry.metric, entry.value, entry.unit, entry.how) == (ENERGY, 3.25, "mJ", "measured")
    assert (entry.n, entry.ci95) == (10, (3.0, 3.5))
    row = cost_table(certificate.costs, None).rows[-1]
    assert (row.metric, row.unit, row.values) == ("Energy", "mJ", [("3.25 (3 to 3.5, n = 10)", "measured")])
    monkeypatch.setattr("se_nas.search.certificate.measure_energy", lambda spec, key: None)
    assert ENERGY not in [entry.metric for entry in certify(spec, [], {LATENCY: key}, None, measured).costs]
