"""What a run file says of latency: the conditions that it is measured under, of one device or of several by name."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PositiveFloat, TypeAdapter, model_validator

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.runtimes.command import program_faults
from se_nas.cost.latency.timing import latency_key
from se_nas.cost.metrics import device_of, latency_on
from se_nas.errors import DeviceError, short
from se_nas.hardware.device import pick_device
from se_nas.records.bounds import MOST_BATCH
from se_nas.records.fields import PathText
from se_nas.records.former_names import by_present_names
from se_nas.records.numbers import Workers
from se_nas.records.record import Record

#: Keys that only some runtimes read: those which time, and that of a program.
_OF_WHAT_IS_TIMED = ("device", "dtype", "batch_size", "threads")
_OF_PROGRAMS = ("run", "timeout", "retries")


class LatencyConfig(Record):
    """Under which conditions latency is measured; see `cost.latency.key.LatencyKey`. `device` null is the run's.

    Without `table` the space is not timed: latency can then be neither a budget nor an objective, and the certificate
    has only what was measured on the answer.

    Attributes:
        device: where latency is timed; null is the run's device. Of runtime "command" what the device is called.
        runtime: what runs the network: "onnxruntime", "openvino", "eager", "compiled", "cuda_graph", "tensorrt" or
            "command", or "imported" for somebody else's table; null for ONNX Runtime on CPUs, where it is installed,
            and a CUDA graph on GPUs.
        run: of runtime "command" the command line of a program that prints milliseconds, such as
            "my_timer --model {onnx} --runs {runs}".
        timeout: seconds that the program may take for one network.
        retries: how often it is called again where it fails.
        file: of runtime "imported" a table that `se-nas latency import` has made.
        dtype: "float32", "bfloat16" or "float16"; "int8" for networks that are quantised, in runtimes that run them.
        batch_size: images in one batch; the latency is that of the whole batch.
        threads: CPU threads that the network may use.
        table: whether the blocks of the space are timed before the search.
        max_seconds: most seconds for timing them; where all take longer, some are timed and the others predicted.
    """

    device: str | None = None
    runtime: Annotated[str, AfterValidator(RUNTIMES.checked)] | None = None
    run: str | None = None
    timeout: float = Field(600, gt=0, le=86400)
    retries: int = Field(2, ge=0, le=100)
    file: PathText | None = None
    dtype: str = "float32"
    batch_size: int = Field(1, ge=1, le=MOST_BATCH)
    threads: Workers = 1
    table: bool = True
    max_seconds: PositiveFloat | None = None

    def key(self, device: str, name: str | None = None) -> LatencyKey:
        """The key for this machine, on `device` where none is set; DeviceError when it is not there.

        Args:
            name: of the device, where a run has several.
        """
        if self.run is not None:
            name = self.device or name or Path(shlex.split(self.run)[0]).name
            key = latency_key(name, self.runtime, self.dtype, self.batch_size, self.threads, self.run)
            return replace(key, timeout=self.timeout, retries=self.retries)
        if self.file is not None:
            return latency_key(self.device or name or Path(self.file).name, self.runtime)
        if self.device is not None and ":" in self.device:
            must = "must be a kind of device, such as cuda, of which the run's device is one of several"
            raise DeviceError(f"latency device {must}, but got {short(self.device)}")
        where = pick_device(self.device or device).type
        return latency_key(where, self.runtime, self.dtype, self.batch_size, self.threads)

    @model_validator(mode="before")
    @classmethod
    def _present_names(cls, value: Any) -> Any:
        return by_present_names(value, {"backend": "runtime"}, "latency") if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _of_a_program(self) -> LatencyConfig:
        runtime = None if self.runtime is None else RUNTIMES[self.runtime]
        called, read = (runtime is not None and runtime.of == key for key in ("run", "file"))
        if self.run is None and called:
            raise ValueError('run: must be a command line such as "my_timer --model {onnx}" for runtime command')
        if self.file is None and read:
            raise ValueError("file: must be a table of `se-nas latency import` for runtime imported")
        if self.file is not None and not read:
            raise ValueError("file: must be left out where runtime is not imported")
        changed = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        for name in changed if read else ():
            if name in _OF_WHAT_IS_TIMED:
                raise ValueError(f"{name}: must be left out for runtime imported, whose file says what was timed")
        for name in () if called else changed:
            if name in _OF_PROGRAMS:
                raise ValueError(f"{name}: must be left out where runtime is not command")
        if read and not self.table:
            raise ValueError("table: must not be off for runtime imported, which has nothing else")
        if self.max_seconds is not None and (read or not self.table):
            raise ValueError("max_seconds: must be left out where no table is timed")
        for fault in program_faults(self.run) if self.run is not None else ():
            raise ValueError(f"run: {fault}")
        return self


def _device_name(name: str) -> str:
    if device_of(latency_on(name)) is None:
        raise ValueError("must be at most 60 letters, digits, - and _")
    return name


def parse_latency(value: Any) -> Any:
    """What stands under `latency:`, as the conditions of one device or, where all in it are mappings, of several;
    a validator of pydantic's."""
    if isinstance(value, LatencyConfig) or not isinstance(value, dict):
        return LatencyConfig.model_validate(value)
    devices = [str(name) for name, item in value.items() if isinstance(item, (dict, LatencyConfig))]
    if not devices or any(name in LatencyConfig.model_fields for name in devices):
        return LatencyConfig.model_validate(value)
    if beside := [str(name) for name in value if str(name) not in devices]:
        must = "must be the conditions of one device, or a mapping of them for each device by its name, not both"
        raise ValueError(f"{must}, but got {short(beside[0])} beside {short(devices[0])}")
    return _DEVICES.validate_python(value)


_DEVICES = TypeAdapter(dict[Annotated[str, AfterValidator(_device_name)], LatencyConfig])
