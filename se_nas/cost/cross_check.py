"""A second opinion on our counts: thop's (https://github.com/Lyken17/pytorch-OpCounter), and what it counts otherwise.

Of the parts of a Network, thop counts convolutions and linear layers as `counts` does (those of attention, and of a
user's own kind of block, by torch's counter while they run), and it adds four operations for every element that a norm
puts out. Activations, global means, SE's rescaling and the sums of skips are counted by neither.
"""

from __future__ import annotations

import copy
import warnings
from typing import TypedDict

import torch
from torch import Tensor, nn

from se_nas.cost.counts import network_counts
from se_nas.cost.running_counts import macs_of_running
from se_nas.errors import SeNasError
from se_nas.space.specs import NetworkSpec

THOP_OPERATIONS_PER_NORM_ELEMENT = 4


class CrossCheck(TypedDict):
    """Our counts beside thop's; `norms` is what thop adds for norms, and the two must agree without it."""

    macs: int
    params: int
    thop_macs: int
    thop_params: int
    norms: int
    agree: bool


def cross_check_counts(network: nn.Module, spec: NetworkSpec) -> CrossCheck:
    """Count a built network with thop and its specification with `counts`, for one image.

    Args:
        network: what `spec` builds; left as it is.
        spec: the specification that our counts read.

    Raises:
        SeNasError: thop is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # thop compares versions by distutils
        try:
            from thop import profile
        except ImportError as error:
            raise SeNasError("a certificate needs thop for its cross-check, but it is not installed") from error

    copied = copy.deepcopy(network).cpu().float().eval()  # thop leaves buffers behind
    elements = 0

    def see_norm(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal elements
        elements += output.numel()

    for block in list(copied.modules()):
        for name in ("se", "whole"):
            if isinstance(part := getattr(block, name, None), nn.Module):
                setattr(block, name, _Run(part))
    inside = {layer for run in copied.modules() if isinstance(run, _Run) for layer in run.modules()}
    for layer in copied.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer not in inside:
            layer.register_forward_hook(see_norm)
    image = torch.zeros(1, spec.in_channels, spec.resolution, spec.resolution)
    macs, params = profile(copied, (image,), {_Run: _count_by_running}, verbose=False)
    ours = network_counts(spec)
    norms = THOP_OPERATIONS_PER_NORM_ELEMENT * elements
    return CrossCheck(
        macs=ours.macs,
        params=ours.params,
        thop_macs=int(macs),
        thop_params=int(params),
        norms=norms,
        agree=ours.macs == int(macs) - norms and ours.params == int(params),
    )


class _Run(nn.Module):
    """A part that runs functions of its weights, which thop cannot see."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        """What the part does."""
        y: Tensor = self.part(x)
        return y


def _count_by_running(run: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """By torch's counter, which reads shapes while the part runs."""
    assert isinstance(run, _Run)
    assert isinstance(run.total_ops, Tensor)
    run.total_ops += macs_of_running(run.part, *inputs)
