"""The device a run works on, and the precision that is fastest there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from se_nas.errors import DeviceError, short

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes the accelerator that there is, and the CPU where there is none.

    Of several, "cuda:1" is the second. It becomes the current one of this process: what is told its kind alone, such as
    a latency, is of the same.

    Raises:
        DeviceError: `name` is none of DEVICES or the kind of this machine's accelerator, or that device is not there.
    """
    kind, colon, number = name.partition(":")
    present = present_devices()
    if kind not in {*DEVICES, *present} or (colon and (kind in ("auto", "cpu") or not _is_number(number))):
        must = f"device must be one of {', '.join(DEVICES)}, or one of several such as cuda:1"
        raise DeviceError(f"{must}, but got {short(name)}")
    if kind == "auto":
        kind = next(iter(present))
    if kind not in present:
        there = ", ".join(present)
        raise DeviceError(f"device {kind!r} must be present, but this torch {torch.__version__} finds only: {there}")
    if not colon:
        return torch.device(kind)
    count = torch.accelerator.device_count()
    if int(number) >= count:
        raise DeviceError(f"device {name!r} must be present, but there are {count}, counted from {kind}:0")
    torch.accelerator.set_device_index(int(number))
    return torch.device(kind, int(number))


def take_turn(kind: str, number: int) -> None:
    """Make this process's current device the one of its kind that process `number` of several computes on."""
    if kind in ("cuda", "xpu"):
        torch.accelerator.set_device_index(number % torch.accelerator.device_count())


def present_devices() -> list[str]:
    """The kinds of device that are there, the fastest first."""
    found = [name for name, there in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if there.is_available()]
    other = torch.accelerator.current_accelerator(check_available=True)
    return list(dict.fromkeys([*found, *([other.type] if other is not None else []), "cpu"]))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 4


def pins(device: torch.device) -> bool:
    """Whether the device copies from memory of the CPU that is pinned without making the host wait."""
    return device.type in ("cuda", "xpu")


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on the device, without waiting for what is queued there: for numbers drawn at every step."""
    if tensor.device.type == "cpu" and pins(device):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextmanager
def arithmetic(device: torch.device, *, tuned: bool) -> Iterator[None]:
    """How a CUDA device finds its kernels and rounds float32 while the block lasts; what was set before comes back.

    Args:
        tuned: cuDNN tries its kernels on each shape, and matrix products round to TF32. Else torch's defaults hold:
            cuDNN's first choice, and TF32 in convolutions alone.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tuned else "highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=tuned, deterministic=False, allow_tf32=True):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


#: What `arithmetic` is under which latencies are measured.
UNTUNED = "TF32 in convolutions alone, cuDNN's first choice of kernels"

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


def pin_threads() -> None:
    """Fix the number of threads at what it is, as measuring latency does, so that a resumed process sums alike."""
    torch.set_num_threads(torch.get_num_threads())
