"""The ledger of a run's evidence: what each part took, in wall time, device time, training images and energy."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import torch

from se_nas.errors import counted
from se_nas.hardware.energy import EnergyMeter
from se_nas.records.fields import Number, Seconds
from se_nas.records.files import write_json
from se_nas.records.models.evidence import SpentEntry, TrainingRecord
from se_nas.records.models.run_result import RunResult
from se_nas.records.record import Record, read_value


class SpentAmount(Record):
    """What a part of the evidence took so far, as `spent.json` has it by part.

    Attributes:
        joules: None where the device keeps no counter that may be read.
    """

    seconds: Seconds = 0.0
    device_seconds: Number = 0.0
    joules: Number | None = None

    def __add__(self, other: Self) -> Self:
        known = [amount.joules for amount in (self, other) if amount.joules is not None]
        return self.model_copy(
            update={
                "seconds": self.seconds + other.seconds,
                "device_seconds": self.device_seconds + other.device_seconds,
                "joules": sum(known) if known else None,
            }
        )

    def less(self, inner: Self) -> Self:
        """Without what a part inside it took."""
        return self.model_copy(
            update={
                "seconds": max(0.0, self.seconds - inner.seconds),
                "device_seconds": self.device_seconds - inner.device_seconds,
                "joules": None if self.joules is None else self.joules - (inner.joules or 0.0),
            }
        )


class Spending:
    """Adds up what parts of the work take, over all calls, in a file. A part inside another one counts for itself.

    Device time is this process's CPU time, or on another device the wall time.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._path, self._device = path, device
        self._inner = SpentAmount()
        self.energy_source = EnergyMeter(device).source

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what happens inside, whether or not it comes to its end."""
        outer, self._inner = self._inner, SpentAmount()
        started, cpu_started = time.monotonic(), time.process_time()
        meter = EnergyMeter(self._device)
        try:
            with meter:
                yield
        finally:
            seconds = time.monotonic() - started
            busy = time.process_time() - cpu_started if self._device.type == "cpu" else seconds
            whole = SpentAmount(seconds=seconds, device_seconds=busy, joules=meter.joules)
            amounts = self.amounts()
            amounts[part] = amounts.get(part, SpentAmount()) + whole.less(self._inner)
            write_json(self._path, {name: amount.plain() for name, amount in amounts.items()})
            self._inner = outer + whole

    def amounts(self) -> dict[str, SpentAmount]:
        """What was spent so far, by part."""
        return read_value(dict[str, SpentAmount], self._path) if self._path.exists() else {}


def run_entries(result: RunResult, prefix: str = "") -> list[SpentEntry]:
    """The lines of the ledger of a run's `result.json`."""
    on_cpu = result.environment.gpu is None
    return [
        SpentEntry(
            part=f"{prefix}{entry.part}",
            seconds=entry.seconds,
            # 0 stands in trainings from before CPU time was counted
            device_seconds=(entry.cpu_seconds or None) if on_cpu else entry.seconds,
            images=entry.images,
            joules=None,
        )
        for entry in result.cost_ledger
    ]


def training_entry(records: Iterable[TrainingRecord], spent: SpentAmount, on_cpu: bool, whose: str = "") -> SpentEntry:
    """The line of all stand-alone trainings together; their seconds are summed, though several ran at a time.

    Those that diverged count too, but for their images, which nobody counted. Device time off the CPU is the wall time
    of all together: trainings at a time share the device. The run's own retraining, which is only adopted, has a line
    of the run's.

    Args:
        spent: on all calls that trained.
        whose: words for what other runs have made.
    """
    done = [(record, record.cpu_seconds) for record in records if record.cpu_seconds is not None]
    return SpentEntry(
        part=f"{counted(len(done), 'stand-alone training')}{whose}, summed",
        seconds=sum(record.seconds for record, _ in done),
        device_seconds=sum(cpu_seconds for _, cpu_seconds in done) if on_cpu else spent.device_seconds,
        images=sum(record.images or 0 for record, _ in done),
        joules=spent.joules,
    )
