"""Puts the devices in torch's way. torch looks for them while it is imported, so that this must be imported before."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

from tests.simulated_cuda import counts
from tests.simulated_cuda.build import built, torch_folder

if "torch" in sys.modules:
    raise ImportError("tests.simulated_cuda.plugin must be imported before torch")
ctypes.CDLL(str(torch_folder() / "lib" / "libc10.so"), mode=ctypes.RTLD_GLOBAL)
_device = ctypes.CDLL(str(built()))

import torch  # noqa: E402


class Event:
    def __init__(self, *args: object, **kwargs: object) -> None:
        self._at = 0.0

    def record(self, stream: object = None) -> None:
        self._at = time.perf_counter()

    def synchronize(self) -> None:
        counts.wait("event")

    def elapsed_time(self, other: Event) -> float:
        return (other._at - self._at) * 1e3


class Graph:
    """Does again what it captured, on the same memory, as one launch; random numbers are new ones, as on a GPU."""

    captured = 0

    def replay(self) -> None:
        assert self.captured
        counts.replays += 1
        _device.replay(self.captured)

    def __del__(self) -> None:
        _device.forget_graph(self.captured)

    def pool(self) -> tuple[int, int]:
        return (0, id(self))


@contextlib.contextmanager
def capturing(graph: Graph, pool: object = None, **kwargs: object) -> Iterator[None]:
    counts.pools.append(pool)
    counts.capturing = True
    number, random = _device.start_capturing(), torch.get_rng_state()
    try:
        yield
    finally:
        _device.stop_capturing()
        torch.set_rng_state(random)
        counts.capturing = False
    graph.captured = number


_clone = torch.UntypedStorage.clone


def _clone_there(self: torch.UntypedStorage) -> torch.UntypedStorage:
    """The CPU's build makes no storage on a GPU by itself; a tensor has one."""
    if self.device.type != "cuda":
        return _clone(self)
    return torch.empty(0, dtype=torch.uint8, device=self.device).set_(self).clone().untyped_storage()


def _index(device: Any) -> int:
    if device is None:
        return torch.cuda.current_device()
    index = device if isinstance(device, int) else torch.device(device).index
    return torch.cuda.current_device() if index is None else index


def _install() -> None:
    os.environ["SE_NAS_TRITON"] = "0"  # its compiler finds no driver
    counts.use(_device)
    facts = types.SimpleNamespace(
        name="simulated", major=9, minor=0, total_memory=80 << 30, multi_processor_count=1, uuid="0"
    )
    stream = types.SimpleNamespace(wait_stream=lambda other: None, synchronize=lambda: counts.wait("stream"))
    for name, value in {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "_lazy_init": lambda: None,
        "_lazy_call": lambda call, **kwargs: None,
        "device_count": lambda: 2,
        "current_device": torch._C._accelerator_getDeviceIndex,
        "set_device": lambda device: torch._C._accelerator_setDeviceIndex(_index(device)),
        "get_device_name": lambda device=None: facts.name,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: facts,
        "is_bf16_supported": lambda *args, **kwargs: True,
        "mem_get_info": lambda device=None: (80 << 30, 80 << 30),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "synchronize": lambda device=None: counts.wait("synchronize"),
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "empty_cache": lambda: None,
        "Stream": lambda *args, **kwargs: stream,
        "current_stream": lambda device=None: stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": capturing,
        "graph_pool_handle": lambda: (1, 0),
        "is_current_stream_capturing": lambda: counts.capturing,
    }.items():
        setattr(torch.cuda, name, value)
    torch.UntypedStorage.clone = _clone_there


_install()
