"""What is counted on the simulated devices: kernels by name, and waits of the host by what for and where."""

from __future__ import annotations

import collections
import ctypes
import sys

waits: collections.Counter[tuple[str, str]] = collections.Counter()
replays = 0
pools: list[object] = []
capturing = False
_kept: list[object] = []  # what C++ calls must not be freed


def use(device: ctypes.CDLL) -> None:
    """Count on these devices from now on."""
    device.launched.restype = ctypes.c_char_p
    told = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(lambda what: _note(what.decode()))
    _kept[:] = [device, told]
    device.install(told)


def wait(what: str) -> None:
    """The host waits for the device."""
    if capturing:
        raise RuntimeError(f"operation not permitted when stream is capturing: {what}")
    _note(what)


def launches() -> dict[str, int]:
    """How often each kernel was launched since `reset`."""
    lines = _kept[0].launched().decode().splitlines()  # type: ignore[attr-defined]
    return {name: int(count) for name, count in (line.split() for line in lines)}


def doubles() -> int:
    """How many tensors of float64 were made on a device in this process."""
    return int(_kept[0].doubles_made())  # type: ignore[attr-defined]


def reset() -> None:
    """Count from 0."""
    waits.clear()
    pools.clear()
    _kept[0].forget()  # type: ignore[attr-defined]


def _note(what: str) -> None:
    frame = sys._getframe(1)
    while frame.f_back is not None and "/se_nas/" not in frame.f_code.co_filename:
        frame = frame.f_back
    at = frame.f_code.co_filename.rpartition("/se_nas/")[2]
    waits[what, f"{at}:{frame.f_lineno}"] += 1
