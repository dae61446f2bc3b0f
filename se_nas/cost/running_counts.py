"""What a module does, counted while it runs: by torch's own counter, on tensors that hold no values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from se_nas.errors import SeNasError
from se_nas.layers.attention import build_attention
from se_nas.layers.blocks import build_whole
from se_nas.space.attention.kind import AttentionUnit
from se_nas.space.blocks.shape import BlockShape
from se_nas.space.counts import Counts


def part_on_meta(part: AttentionUnit | BlockShape) -> tuple[nn.Module, Tensor]:
    """The module of a part in eval mode and an input of it, one image, both without values."""
    with torch.device("meta"):
        if isinstance(part, AttentionUnit):
            module, channels = build_attention(part), part.channels
        else:
            module, channels = build_whole(part), part.in_channels
        return module.eval(), torch.empty(1, channels, part.resolution, part.resolution)


def run_and_count(part: AttentionUnit | BlockShape) -> Counts:
    """The counts of a part's module, for one image.

    Raises:
        SeNasError: what the module puts out is not of the shape that it must have.
    """
    module, image = part_on_meta(part)
    if isinstance(part, AttentionUnit):
        wanted = (1, part.channels, part.resolution, part.resolution)
    else:
        wanted = (1, part.out_channels, part.out_resolution, part.out_resolution)
    with torch.device("meta"):
        out = module(image)
    if tuple(out.shape) != wanted:
        raise SeNasError(f"{part.kind}: must put out {wanted} of an input {tuple(image.shape)}, got {tuple(out.shape)}")
    return Counts(macs_of_running(module, image), sum(p.numel() for p in module.parameters() if p.requires_grad))


def macs_of_running(run: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> int:
    """Multiply-accumulates of convolutions and matrix products while something runs once."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run(*inputs)
    return int(counter.get_total_flops()) // 2
