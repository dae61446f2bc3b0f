"""The memory that there is."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from se_nas.errors import DeviceError


def check_fits(needed: int, device: torch.device, what: str) -> None:
    """Raise DeviceError where something needs more bytes than are free, before it is made; `what` names it."""
    there = available_bytes(device)
    if needed > there:
        raise DeviceError(f"{what} at least {needed / 1e9:,.1f} GB, and {there / 1e9:,.1f} GB are free on {device}")


def available_bytes(device: torch.device) -> int:
    """Bytes that are free on a device; where the system does not say, as many as there could be."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for its next use
        return torch.cuda.mem_get_info(device)[0] + kept
    free = [sys.maxsize]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        values = dict(line.split(":", 1) for line in meminfo.read_text(encoding="utf-8").splitlines())
        free.append(int(values["MemAvailable"].split()[0]) * 1024)
    container = Path("/sys/fs/cgroup/memory.max")
    if container.exists() and (limit := container.read_text(encoding="utf-8").strip()) != "max":
        free.append(int(limit))
    return min(free)
