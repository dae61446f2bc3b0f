"""How many numbers a deployed network keeps: the weights of the graph that is exported, torch-free.

A norm behind a convolution of its part (the stem, a block, the head) is folded into it, as every exporter and runtime
does: its scale goes into the weights and its shift is the convolution's bias, so that of four numbers a channel one is
left, and running statistics cost nothing. A norm that comes first, as before pre-activation blocks and in their head,
keeps its four, and so does one behind several convolutions side by side, since it is not folded into them. Of a user's
own module these are its parameters and its buffers of floating-point numbers, a norm that is registered right behind a
convolution being folded too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from torch import Tensor, nn

from se_nas.cost.counts import attention_counts
from se_nas.cost.running_counts import part_on_meta
from se_nas.layers.convolution import MixedConvolution
from se_nas.space.attention import ATTENTION
from se_nas.space.attention.kind import AttentionUnit
from se_nas.space.block_plan import block_plan
from se_nas.space.blocks.shape import BlockShape
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec

_NORM = 4


def block_weights(spec: BlockSpec) -> int:
    """Of one block."""
    plan = block_plan(spec)
    total = _NORM * plan.entry_channels + attention_weights(spec)
    if plan.whole is not None:
        total += _of_part(plan.whole)
    for layer in plan.layers:
        kept = _NORM if layer.kernels and layer.norm else layer.bias or layer.norm
        total += layer.weights + layer.out_channels * kept
    return total


def ends_weights(stem: Sequence[ConvSpec], head: HeadSpec) -> int:
    """Of the stem and the head."""
    total = _NORM * head.in_channels if head.norm else 0
    for conv in stem:
        total += conv.out_channels * (conv.in_channels * conv.kernel**2 + (conv.bias or conv.norm))
    total += head.width * (head.in_channels + 1)
    return total + sum(inputs * outputs + outputs * bias for inputs, outputs, bias in head.linear_layers)


def built_weights(built: nn.Module) -> int:
    """Of a network, or a part of one, that is built: on its modules."""
    total, before = 0, None
    joined = {conv for module in built.modules() if isinstance(module, MixedConvolution) for conv in module}
    for module in built.modules():
        own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        total += sum(map(_numbers, own))
        if isinstance(module, nn.BatchNorm2d) and isinstance(before, nn.Conv2d) and before not in joined:
            total -= module.num_features * (_NORM if before.bias is not None else _NORM - 1)
        before = module
    return total


def attention_weights(spec: BlockSpec) -> int:
    """Of a block's SE unit, or what stands in its place."""
    unit = spec.unit
    if unit is not None and ATTENTION[unit.kind].counts is None:
        return _of_part(unit)
    return attention_counts(spec).params


@cache
def _of_part(part: AttentionUnit | BlockShape) -> int:
    module, _ = part_on_meta(part)
    return built_weights(module)


def _numbers(tensor: Tensor) -> int:
    return tensor.numel() if tensor.is_floating_point() else 0
