"""The device a run works on, and the precision that is fastest there."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from se_nas.errors import DeviceError, short

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes cuda, then mps, then cpu, whichever is there first.

    Raises:
        DeviceError: `name` is not one of DEVICES, or that device is not there.
    """
    if name not in DEVICES:
        raise DeviceError(f"device must be one of {', '.join(DEVICES)}, but got {short(name)}")
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(candidate for candidate, there in present.items() if there)
    if not present[name]:
        there = ", ".join(candidate for candidate, is_there in present.items() if is_there)
        raise DeviceError(f"device {name!r} must be present, but this torch {torch.__version__} finds only: {there}")
    return torch.device(name)


def pins(device: torch.device) -> bool:
    """Whether the device copies from memory of the CPU that is pinned without making the host wait."""
    return device.type in ("cuda", "xpu")


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on the device, without waiting for what is queued there: for numbers drawn at every step."""
    if tensor.device.type == "cpu" and pins(device):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def autocast_dtype(device: torch.device, precision: str) -> torch.dtype | None:
    """The type that a network computes in under `precision`, one of PRECISIONS; None for plain float32.

    "auto" is bfloat16 on CUDA devices that compute in it, and float32 elsewhere: on a CPU bfloat16 measured slower, and
    float16, which an older GPU has, needs its gradients scaled, so that it must be asked for.
    """
    if precision == "auto":
        computes = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if computes else None
    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def autocast_for(device: torch.device, precision: str = "auto") -> AbstractContextManager[Any]:
    """A fresh context for one forward pass in the type of `autocast_dtype`."""
    dtype = autocast_dtype(device, precision)
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
