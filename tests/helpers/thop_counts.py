"""A third opinion on our counts: thop's (https://github.com/Lyken17/pytorch-OpCounter), and what it counts otherwise.

Of the parts of a Network, thop counts convolutions and linear layers as `counts` does (those of attention, and of a
user's own kind of block, by torch's counter while they run), and it adds four operations for every element that a norm
puts out. Activations, global means, SE's rescaling and the sums of skips are counted by neither.
"""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from se_nas.cost.counts import Counts
from se_nas.cost.running_counts import macs_of_running
from se_nas.space.specs import NetworkSpec

THOP_OPERATIONS_PER_NORM_ELEMENT = 4


def thop_counts(network: nn.Module, spec: NetworkSpec) -> Counts:
    """What thop counts of a built network for one image, without what it adds for norms; the network stays as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # thop compares versions by distutils
        from thop import profile

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
    return Counts(int(macs) - THOP_OPERATIONS_PER_NORM_ELEMENT * elements, int(params))


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
