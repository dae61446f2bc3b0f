from __future__ import annotations

import sys
import threading
import time
import types
from pathlib import Path

import pytest
import torch

from se_nas.hardware.energy import EnergyMeter

CPU = torch.device("cpu")
LAST = 262_143_328_850


def write_zone(root: Path, name: str, kind: str, energy: int) -> Path:
    zone = root / name
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "name").write_text(f"{kind}\n")
    (zone / "max_energy_range_uj").write_text(f"{LAST}\n")
    (zone / "energy_uj").write_text(f"{energy}\n")
    return zone / "energy_uj"


def test_counts_the_packages_and_neither_their_parts_nor_the_whole_machine(tmp_path: Path) -> None:
    zones = {
        name: write_zone(tmp_path, name, kind, 1_000_000)
        for name, kind in {
            "intel-rapl:0": "package-0",
            "intel-rapl:1": "package-1",
            "intel-rapl:2": "psys",
            "intel-rapl:0:0": "core",
            "intel-rapl-mmio:0": "package-0",
        }.items()
    }
    (tmp_path / "intel-rapl").mkdir()
    meter = EnergyMeter(CPU, powercap=tmp_path)
    assert meter.source == "RAPL"
    with meter:
        assert meter.joules is None
        for place, energy in enumerate(zones.values()):
            energy.write_text(str(1_000_000 + 2_500_000 * 10**place))
    assert meter.joules == pytest.approx(2.5 + 25)


def test_a_counter_that_started_again_is_carried_on(tmp_path: Path) -> None:
    energy = write_zone(tmp_path, "intel-rapl:0", "package-0", LAST - 1_000_000)
    meter = EnergyMeter(CPU, powercap=tmp_path)
    meter.start()
    energy.write_text("2000000")
    assert meter.stop() == pytest.approx(3)


def test_reads_often_enough_to_see_every_wrap(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter(CPU, powercap=tmp_path, poll_seconds=0.001)
    counts = [0, LAST - 10**6, 10**6, LAST - 10**6, 10**6]  # by hand: twice round, between start and stop
    seen = threading.Event()

    def read() -> int:
        if len(counts) == 1:
            seen.set()
        return counts.pop(0) if len(counts) > 1 else counts[0]

    (counter,) = meter._counters
    meter._counters = [type(counter)(read, counter.per_joule, counter.last)]
    meter.start()
    assert seen.wait(30)
    assert meter.stop() == pytest.approx((2 * (LAST + 1) + 10**6) / 1e6)


def test_a_meter_measures_again_from_zero(tmp_path: Path) -> None:
    energy = write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter(CPU, powercap=tmp_path)
    for total in (4, 10):
        with meter:
            energy.write_text(str(total * 10**6))
        assert meter.joules == pytest.approx({4: 4, 10: 6}[total])
    assert not [thread for thread in threading.enumerate() if thread.name == "energy meter"]
    with meter, pytest.raises(RuntimeError, match="stopped before"):
        meter.start()


def test_measures_what_a_block_took_that_failed(tmp_path: Path) -> None:
    energy = write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter(CPU, powercap=tmp_path)

    def fail() -> None:
        energy.write_text("3000000")
        raise KeyError("stopped")

    with pytest.raises(KeyError), meter:
        fail()
    assert meter.joules == pytest.approx(3)


@pytest.mark.parametrize("broken", ["nothing", "no packages", "no range", "no number", "unreadable"])
def test_nothing_is_measured_where_nothing_can_be_read(broken: str, tmp_path: Path) -> None:
    root = tmp_path / "powercap"
    if broken != "nothing":
        energy = write_zone(root, "intel-rapl:0", "psys" if broken == "no packages" else "package-0", 5)
        write_zone(root, "intel-rapl:1", "psys", 5)
        if broken == "no range":
            (energy.parent / "max_energy_range_uj").unlink()
        if broken == "no number":
            energy.write_text("")
        if broken == "unreadable":
            energy.unlink()
            energy.mkdir()  # OSError also for root, whom no mode keeps out
    meter = EnergyMeter(CPU, powercap=root)
    assert meter.source is None
    with meter:
        pass
    assert meter.joules is None
    assert meter.stop() is None


@pytest.mark.parametrize("when", ["at the start", "at the end"])
def test_a_counter_lost_meanwhile_leaves_no_number(when: str, tmp_path: Path) -> None:
    energy = write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter(CPU, powercap=tmp_path)
    if when == "at the start":
        energy.unlink()
    meter.start()
    if when == "at the start":
        energy.write_text("7000000")
    else:
        energy.unlink()
    assert meter.stop() is None


def test_other_devices_have_no_meter() -> None:
    assert EnergyMeter(torch.device("mps")).source is None


class FakeNvml(types.ModuleType):
    """NVML's bindings with one card, whose counter the test sets, in millijoules."""

    class NVMLError(Exception):
        pass

    def __init__(self, uuid: str) -> None:
        super().__init__("pynvml")
        self.uuid, self.millijoules, self.broken = uuid, 5_000, ""

    def _call(self, name: str) -> None:
        if self.broken == name:
            raise self.NVMLError(f"{name} is not supported")

    def nvmlInit(self) -> None:
        self._call("init")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != f"GPU-{self.uuid}":
            raise self.NVMLError("not found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        assert handle == f"GPU-{self.uuid}"
        self._call("energy")
        return self.millijoules


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml("1b2c")
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="1b2c"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return fake


def test_counts_the_card_that_torch_calls_by_this_number(nvml: FakeNvml) -> None:
    meter = EnergyMeter(torch.device("cuda:0"))
    assert meter.source == "NVML"
    with meter:
        nvml.millijoules += 12_500
    assert meter.joules == pytest.approx(12.5)


@pytest.mark.parametrize("broken", ["init", "energy", "another card", "torch without uuid", "no bindings"])
def test_a_card_without_a_counter_has_no_meter(broken: str, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.broken = broken
    if broken == "another card":
        nvml.uuid = "3d4e"
    if broken == "torch without uuid":
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace())
    if broken == "no bindings":
        monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = EnergyMeter(torch.device("cuda"))
    assert meter.source is None
    with meter:
        pass
    assert meter.joules is None


@pytest.mark.parametrize("broken", ["energy", "reset"])
def test_a_card_that_fails_meanwhile_leaves_no_number(broken: str, nvml: FakeNvml) -> None:
    meter = EnergyMeter(torch.device("cuda"))
    with meter:
        nvml.broken = broken
        if broken == "reset":
            nvml.millijoules = 0
    assert meter.joules is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_work_on_a_card_takes_joules() -> None:
    meter = EnergyMeter(torch.device("cuda"))
    if meter.source is None:
        pytest.skip("the card keeps no counter")
    with meter:
        matrix = torch.ones(4096, 4096, device="cuda")
        until = time.monotonic() + 1
        while time.monotonic() < until:
            matrix = (matrix @ matrix).clamp(max=1)
            torch.cuda.synchronize()
    assert meter.joules is not None
    assert meter.joules > 1
