"""HiGHS, called through SciPy, without the lines that it prints though told to be quiet.

Those come from C's `printf`, so while HiGHS runs C's `stdout` is a buffer in memory. The file descriptor stays what it
is, and with it all that Python's threads write meanwhile; what other C code has printed is passed on.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp

from se_nas.cost.table import FloatArray

#: How the lines begin, with the name of a class of HiGHS.
PRINTED = b"Highs"


def minimized(
    costs: FloatArray, limits: LinearConstraint, bounds: Bounds, *, whole: bool, gap: float
) -> OptimizeResult:
    """What SciPy's `milp` finds.

    Args:
        whole: whether all variables must be whole numbers.
        gap: share of its value by which the answer may be above the least.
    """
    with unprinted():
        return milp(
            costs,
            constraints=limits,
            bounds=bounds,
            integrality=np.full(len(costs), int(whole)),
            options={"mip_rel_gap": gap},
        )


class _Memory:
    """A C stream that writes into memory; never closed, as another thread may be about to print to it."""

    def __init__(self) -> None:
        self.c = ctypes.CDLL(None)
        self.c.open_memstream.restype = ctypes.c_void_p
        self.text, self.size = ctypes.c_void_p(), ctypes.c_size_t()
        self.stream = ctypes.c_void_p(self.c.open_memstream(ctypes.byref(self.text), ctypes.byref(self.size)))
        self.stdout = ctypes.c_void_p.in_dll(self.c, "stdout")

    def taken(self) -> bytes:
        """What was printed since the last time."""
        self.c.fflush(self.stream)
        text = ctypes.string_at(self.text, self.size.value) if self.text else b""
        self.c.fseek(self.stream, ctypes.c_long(0), os.SEEK_SET)
        return text


def _memory() -> _Memory | None:
    try:
        return _Memory()
    except (OSError, AttributeError, ValueError):  # a C library that names these things otherwise
        return None


_MEMORY = _memory()
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def unprinted() -> Iterator[None]:
    """Drop the lines that HiGHS prints, and no other."""
    if _MEMORY is None:
        yield
        return
    with _ONE_AT_A_TIME:
        real = _MEMORY.stdout.value
        _MEMORY.stdout.value = _MEMORY.stream.value
        try:
            yield
        finally:
            _MEMORY.stdout.value = real
            lines = _MEMORY.taken().splitlines(keepends=True)
            others = b"".join(line for line in lines if not line.startswith(PRINTED))
            if others:
                _MEMORY.c.fwrite(others, ctypes.c_size_t(1), ctypes.c_size_t(len(others)), ctypes.c_void_p(real))
