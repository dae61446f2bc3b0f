"""Multiply-accumulates and parameters of a network specification, exact and torch-free.

What counts as a multiply-accumulate (MAC): every convolution and linear layer, SE's and its relatives' included, biases
not. What does not, as in the papers' tables: norms, activations, pooling, SE's rescaling, the sum of a skip.
Parameters are every trainable number: weights, biases, norm scales and shifts. A user's own kind of block or attention
that gives no closed form is run once, and what torch's counter sees is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from se_nas.space.attention import ATTENTION
from se_nas.space.attention.kind import AttentionUnit
from se_nas.space.block_plan import block_plan
from se_nas.space.blocks import BLOCKS
from se_nas.space.blocks.plan import Layer
from se_nas.space.blocks.shape import BlockShape
from se_nas.space.counts import Counts, linear_counts
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec, NetworkSpec


def conv_norm_counts(in_channels: int, out_channels: int, kernel: int, out_resolution: int) -> Counts:
    """A convolution without bias and the norm that follows it."""
    weights = in_channels * out_channels * kernel**2
    return Counts(weights * out_resolution**2, weights + 2 * out_channels)


def attention_counts(spec: BlockSpec) -> Counts:
    """A block's SE unit, or what stands in its place; nothing where there is none."""
    unit = spec.unit
    if unit is None:
        return Counts(0, 0)
    counts = ATTENTION[unit.kind].counts
    return counted_by_running(unit) if counts is None else counts(unit)


def whole_counts(shape: BlockShape) -> Counts:
    """The module of a block whose kind has one in place of a plan."""
    counts = BLOCKS[shape.kind].counts
    return counted_by_running(shape) if counts is None else counts(shape)


@cache
def counted_by_running(part: AttentionUnit | BlockShape) -> Counts:
    """What the module of a part does, whose kind has no closed form."""
    from se_nas.cost.running_counts import run_and_count  # imports torch, which no other count needs

    return run_and_count(part)


def stem_counts(convs: Sequence[ConvSpec]) -> Counts:
    """The convolutions of the stem."""
    total = Counts(0, 0)
    for spec in convs:
        weights = spec.in_channels * spec.out_channels * spec.kernel**2
        shifts = spec.out_channels * (spec.bias + 2 * spec.norm)
        total += Counts(weights * spec.conv_resolution**2, weights + shifts)
    return total


def layer_counts(layer: Layer) -> Counts:
    """One convolution of a block and its norm."""
    shifts = layer.out_channels * (layer.bias + 2 * layer.norm)
    return Counts(layer.weights * layer.out_resolution**2, layer.weights + shifts)


def block_counts(spec: BlockSpec) -> Counts:
    """One block."""
    plan = block_plan(spec)
    total = Counts(0, 2 * plan.entry_channels) + attention_counts(spec)
    if plan.whole is not None:
        total += whole_counts(plan.whole)
    for layer in plan.layers:
        total += layer_counts(layer)
    return total


def head_counts(spec: HeadSpec) -> Counts:
    """Everything after the last block."""
    total = Counts(0, 2 * spec.in_channels if spec.norm else 0)
    if spec.width:
        total += conv_norm_counts(spec.in_channels, spec.width, 1, spec.pooled_resolution)
    for inputs, outputs, bias in spec.linear_layers:
        total += linear_counts(inputs, outputs, bias=bias)
    return total


def network_counts(spec: NetworkSpec) -> Counts:
    """The multiply-accumulates for one image and the trainable parameters of a whole network, exactly."""
    total = stem_counts(spec.stem_convs) + head_counts(spec.head)
    for block in spec.blocks:
        total += block_counts(block)
    return total
