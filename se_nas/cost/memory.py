"""The memory that a network cannot do without, from its shapes alone, and the memory that there is."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from se_nas.space.specs import BlockSpec, NetworkSpec


def least_bytes(network: NetworkSpec, batch_size: int, item_bytes: int) -> int:
    """What one run without gradients takes at least: the images, and the two largest maps that are there at once."""
    images = network.in_channels * network.resolution**2
    return (images + max(_maps(block) for block in network.blocks)) * batch_size * item_bytes


def _maps(block: BlockSpec) -> int:
    """Numbers in the input and in the output of a block, for one image; what is expanded in between may be less."""
    return block.in_channels * block.resolution**2 + block.out_channels * block.out_resolution**2


def available_bytes(device: torch.device) -> int:
    """Bytes that are free on a device; where the system does not say, as many as there could be."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [sys.maxsize]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        values = dict(line.split(":", 1) for line in meminfo.read_text(encoding="utf-8").splitlines())
        free.append(int(values["MemAvailable"].split()[0]) * 1024)
    container = Path("/sys/fs/cgroup/memory.max")
    if container.exists() and (limit := container.read_text(encoding="utf-8").strip()) != "max":
        free.append(int(limit))
    return min(free)
