"""Keep glibc's malloc from handing big tensors back to the system at every training step.

By default glibc serves each large block by its own mmap and unmaps it when freed, and gives the top of the
heap back as soon as it is free. A training step on the CPU frees and asks again for the same activations, so
every step pays for page faults and zeroed pages, tens of thousands of them; with both thresholds raised it pays for
hardly any. The price: freed memory stays with the process until it ends. `benchmarks/allocator.py` measures the gain.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

ALLOCATOR = "freed memory is kept for the next step (mallopt)"
"""How results name what `tune_allocator` does."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_TRIM_THRESHOLD = 2**31 - 1  # mallopt takes an int; 4 GiB would be the wish
_MMAP_THRESHOLDS = (2**30, 2**25)  # bytes; glibc before 2.35 refuses more than 32 MiB


def allocator_tuned() -> bool:
    """Whether `tune_allocator` was called in this process, and raised the thresholds."""
    return tune_allocator.cache_info().currsize > 0 and tune_allocator()


@functools.cache
def tune_allocator() -> bool:
    """Raise glibc's mmap and trim thresholds, once per process; for work on the CPU.

    Returns:
        True where both thresholds are raised; False, with nothing changed, on another C library, or where the
        environment (MALLOC_* or GLIBC_TUNABLES) already sets them.
    """
    if not sys.platform.startswith("linux"):
        return False
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    mmap_raised = any(libc.mallopt(_M_MMAP_THRESHOLD, size) == 1 for size in _MMAP_THRESHOLDS)
    return mmap_raised and libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_TRIM_THRESHOLD) == 1
