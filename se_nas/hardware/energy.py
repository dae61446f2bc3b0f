"""Joules that the device took while something ran, from the counter that it keeps itself, where it keeps one.

Processors: RAPL as Linux shows it, https://docs.kernel.org/power/powercap/powercap.html.
NVIDIA's cards: nvmlDeviceGetTotalEnergyConsumption, https://docs.nvidia.com/deploy/nvml-api/.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch

from se_nas.errors import install

POWERCAP = Path("/sys/class/powercap")

_PACKAGE = re.compile(r"intel-rapl:\d+")
"""A whole processor, AMD's too; intel-rapl:0:0 is a part of one, intel-rapl-mmio:0 the same one again."""

_POLL_SECONDS = 30.0
"""A package's counter starts again after 65 kJ or more, so that one reading per wrap is enough below 2 kW."""


@dataclass(frozen=True)
class _Counter:
    """A count of energy that only rises, but for starting again at 0 after `last` where that is given.

    Attributes:
        read: the count; OSError or ValueError where it cannot be had.
        per_joule: counts in a joule.
        last: the highest count.
    """

    read: Callable[[], int]
    per_joule: float
    last: int | None = None

    def joules(self, before: int, after: int) -> float:
        """Joules from one reading to the next, at most one wrap later."""
        if after < before:
            if self.last is None:
                raise ValueError(f"an energy counter must rise, but got {after} after {before}")
            after += self.last + 1
        return (after - before) / self.per_joule


class EnergyMeter:
    """Measures between `start` and `stop`, or over a `with` block; a meter can be started again.

    On the CPU it counts all packages (cores, caches, and what else the vendor counts in; no memory modules), on CUDA
    the one card: all that ran there meanwhile, this process or another. Nothing on other devices. Where the device
    keeps no counter, or it may not be read (RAPL is root's by default), measuring yields None and costs nothing.

    Attributes:
        source: "RAPL", "NVML", or None where nothing can be measured.
        joules: of the last measurement; None before it ends, and where it failed.
    """

    def __init__(self, device: torch.device, *, powercap: Path = POWERCAP, poll_seconds: float = _POLL_SECONDS) -> None:
        """A meter of `device`; `powercap` is the folder of RAPL's zones, read every `poll_seconds` to see wraps."""
        counters = {"cpu": lambda: _packages(powercap), "cuda": lambda: _card(device)}
        self._device = device
        self._counters = counters.get(device.type, list)()
        self._poll_seconds = poll_seconds
        self._poller: threading.Thread | None = None
        self._stopped = threading.Event()
        self._before: list[int] = []
        self._sum: float | None = None
        self.source = {"cpu": "RAPL", "cuda": "NVML"}[device.type] if self._counters else None
        self.joules: float | None = None

    @staticmethod
    def looked_for() -> str:
        """Where counters are looked for, in words."""
        cards = f"NVML's total energy of GPUs, which {install('gpu')} reads"
        return f"{POWERCAP}/intel-rapl:*/energy_uj of CPUs (RAPL) and {cards}"

    def start(self) -> None:
        """Begin a measurement.

        Raises:
            RuntimeError: one is under way.
        """
        if self._poller is not None:
            raise RuntimeError("an energy meter must be stopped before it is started again")
        self.joules = None
        if not self._counters:
            return
        self._finish_queued()
        self._stopped.clear()
        self._sum = 0.0
        try:
            self._before = [counter.read() for counter in self._counters]
        except (OSError, ValueError):
            self._sum = None
        self._poller = threading.Thread(target=self._poll, name="energy meter", daemon=True)
        self._poller.start()

    def stop(self) -> float | None:
        """End the measurement; joules since `start`, None without a counter or where one could not be read."""
        if self._poller is None:
            return None
        self._finish_queued()
        self._stopped.set()
        self._poller.join()
        self._poller = None
        self._add()
        self.joules = self._sum
        return self.joules

    def __enter__(self) -> EnergyMeter:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _finish_queued(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _poll(self) -> None:
        while not self._stopped.wait(self._poll_seconds):
            self._add()

    def _add(self) -> None:
        """Add what was used since the last reading; a failure is final, for what was missed stays unknown."""
        if self._sum is None:
            return
        try:
            after = [counter.read() for counter in self._counters]
            steps = zip(self._counters, self._before, after, strict=True)
            self._sum += sum(counter.joules(old, new) for counter, old, new in steps)
            self._before = after
        except (OSError, ValueError):
            self._sum = None


def _packages(powercap: Path) -> list[_Counter]:
    """RAPL's counters of all packages; none where one of them cannot be read."""
    counters = []
    try:
        for zone in sorted(powercap.iterdir()):
            # a zone called psys is the whole machine, packages included
            if _PACKAGE.fullmatch(zone.name) and _text(zone / "name").startswith("package"):
                counters.append(_package(zone))
    except (OSError, ValueError):
        return []
    return counters


def _package(zone: Path) -> _Counter:
    counter = _Counter(lambda: int(_text(zone / "energy_uj")), 1e6, int(_text(zone / "max_energy_range_uj")))
    counter.read()
    return counter


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def _card(device: torch.device) -> list[_Counter]:
    """NVML's counter of a card; none without NVML's bindings, or where the card (or its MIG slice) keeps none."""
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)  # torch 2.4 does not tell
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return []

    def read() -> int:
        try:
            return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except pynvml.NVMLError as error:
            raise OSError(f"NVML must report the card's energy, but got: {error}") from error

    return [_Counter(read, 1e3)]
