"""Kernels that are written in Triton, where a GPU and Triton are."""

from __future__ import annotations

import importlib.util
import os
import warnings
from functools import cache
from types import ModuleType

import torch
from torch.nn import functional as F

from se_nas.errors import in_line

#: Set to 0, torch's own kernels are taken everywhere.
SWITCH = "SE_NAS_TRITON"


@cache
def kernels_for(device: torch.device) -> ModuleType | None:
    """`triton_excitation` on CUDA devices; None where there is no Triton, or what it computes is not what torch does.

    That is tried once for each device: no more than a line is lost where Triton cannot compile, or not rightly.
    """
    if device.type != "cuda" or os.environ.get(SWITCH) == "0" or importlib.util.find_spec("triton") is None:
        return None
    if torch.cuda.get_device_capability(device) < (8, 0):
        return None
    try:
        from se_nas.layers import triton_excitation

        with torch.random.fork_rng([device]), torch.autocast("cuda", enabled=False):
            fault = _fault_of(triton_excitation, device)
    except Exception as error:  # whatever Triton, its compiler or the driver raises
        fault = in_line(error)[:200]
    if fault is None:
        return triton_excitation
    warnings.warn(f"SE runs on torch's kernels, not on Triton's ({SWITCH}=0 leaves them out): {fault}", stacklevel=1)
    return None


@torch.enable_grad()
def _fault_of(kernels: ModuleType, device: torch.device) -> str | None:
    """How the kernels are not what torch computes, on shapes that fill no block."""
    shapes = ((19, 37), (5, 37), (5,), (37, 5), (37,))
    leaves = [torch.randn(shape, device=device, requires_grad=True) for shape in shapes]
    z, w1, b1, w2, b2 = leaves
    expected = torch.sigmoid(F.linear(F.silu(F.linear(z, w1, b1)), w2, b2))
    given = [t.detach() for t in leaves]
    found, excited = kernels.excite(("silu", "sigmoid"), given[0], *given[1:])
    ds = torch.randn_like(found)
    pairs = list(zip(torch.autograd.grad(expected, leaves, ds), excited.gradients(z, given[1:], ds, True), strict=True))
    x = torch.randn(3, 37, 5, 7, device=device)
    for one in (x, x.contiguous(memory_format=torch.channels_last)):
        pairs.append(((one * x).sum((2, 3)), kernels.sum_of_products(one, x)))
    pairs.append((expected.detach(), found))
    each = torch.stack([(a - b).abs().max() / a.abs().max() for a, b in pairs])
    far = float(each.max())  # which is NaN where any is
    return None if far < 0.01 else f"they are off by {far:.1%}"  # torch's products may round to TF32
