"""A published network is narrowed until it keeps the budgets on latency of all devices of a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from se_nas.cost.budget import Budget
from se_nas.cost.counts import network_counts
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.timing import Measurement
from se_nas.cost.metrics import ENERGY
from se_nas.runs.evidence import published_controls
from se_nas.runs.prepare import Setting
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import parse_space
from tests.helpers.tiny_runs import SPACE, changed, write_yaml

ONE = changed(changed(SPACE, "stages.0", {"width": 16, "kernel": 3, "expansion": 2, "depth": 1}), "stages.1.kernel", 3)
NETWORK = changed(ONE, "stages.1.se", {"options": [4]})
MACS_A_MS = {"a": 1e5, "b": 4e5}


def setting_in(run: Path, **values: Any) -> Setting:
    """Of a run whose answer is there."""
    space = parse_space(NETWORK, "network")
    answer = ArchitectureFile.of(space, next(space.enumerate()))
    save_architecture(run / "architecture.json", answer)
    return cast(Setting, SimpleNamespace(run=run, info=SimpleNamespace(classes=10, channels=1), **values))


def test_it_keeps_the_budgets_of_all_devices_and_its_times_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[tuple[str, float]] = []

    def clock(network: NetworkSpec, key: LatencyKey) -> Measurement:
        ms = network_counts(network).macs / MACS_A_MS[key.device]
        timed.append((key.device, 1.1 * ms))
        return Measurement(ms, ms, (0.9 * ms, 1.1 * ms), 9)

    monkeypatch.setattr("se_nas.cost.latencies.measure_network", clock)
    write_yaml(tmp_path / "known.yaml", NETWORK)
    values: dict[str, Any] = {
        "budgets": (Budget("params", 5e5), Budget("latency_ms.a", 20.0), Budget("latency_ms.b", 0.5)),
        "latencies": {f"latency_ms.{name}": LatencyKey(name) for name in MACS_A_MS},
    }
    setting = setting_in(tmp_path, **values)
    found = published_controls.published_control(setting, tmp_path, "known.yaml", print)
    assert found is not None
    control, ms = found
    macs = network_counts(control.spec).macs
    assert ms == {"latency_ms.a": macs / 1e5, "latency_ms.b": macs / 4e5}
    widest = dict(timed[:2])
    assert widest["a"] <= 20.0  # so that the other's budget binds
    assert 1.1 * ms["latency_ms.b"] <= 0.5 < widest["b"]
    calls = len(timed)
    assert published_controls.published_control(setting, tmp_path, "known.yaml", print) == found
    assert len(timed) == calls


def test_it_keeps_a_budget_on_energy_which_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[NetworkSpec] = []

    def counter(network: NetworkSpec, key: LatencyKey) -> Measurement:
        calls.append(network)
        mj = network_counts(network).macs / 4e5
        return Measurement(mj, mj, (0.9 * mj, 1.1 * mj), 9)

    monkeypatch.setattr("se_nas.cost.latencies.needed_energy", counter)
    write_yaml(tmp_path / "known.yaml", NETWORK)
    values: dict[str, Any] = {
        "budgets": (Budget("params", 5e5), Budget(ENERGY, 0.5)),
        "latencies": {"latency_ms": LatencyKey("a"), ENERGY: LatencyKey("a")},
    }
    setting = setting_in(tmp_path, **values)
    found = published_controls.published_control(setting, tmp_path, "known.yaml", print)
    assert found is not None
    control, measured = found
    assert measured == {ENERGY: network_counts(control.spec).macs / 4e5}
    assert 1.1 * measured[ENERGY] <= 0.5 < network_counts(calls[0]).macs / 4e5 * 1.1
    before = len(calls)
    assert published_controls.published_control(setting, tmp_path, "known.yaml", print) == found
    assert len(calls) == before
