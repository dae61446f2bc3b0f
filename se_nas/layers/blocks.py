"""Blocks as plain modules: the convolutions of a block's plan, run in one way whatever the kind of block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.activations import ACTIVATIONS
from se_nas.layers.attention import build_attention
from se_nas.layers.convolution import build_convolution
from se_nas.layers.drop_path import DropPath
from se_nas.records.registry import imported
from se_nas.space.attention.kind import AttentionUnit
from se_nas.space.block_plan import block_plan
from se_nas.space.blocks import BLOCKS
from se_nas.space.blocks.plan import BlockPlan, Branch, Layer
from se_nas.space.blocks.shape import BlockShape
from se_nas.space.specs import BlockSpec
from se_nas.space.vocabulary import Position


class Parts(Protocol):
    """What computes a block's parts: its own modules, or tensors that stand in for them."""

    def entry(self, x: Tensor) -> Tensor:
        """The norm before all convolutions."""

    def layer(self, layer: Layer, x: Tensor) -> Tensor:
        """A convolution and its norm."""

    def run_whole(self, x: Tensor) -> Tensor:
        """The module that stands in place of all convolutions."""

    def skip(self, plan: BlockPlan, x: Tensor, source: Tensor) -> Tensor:
        """What the branch joins; see `run_skip`."""

    def attend(self, position: Position, x: Tensor) -> Tensor:
        """SE, where this is its position."""

    def drop(self, y: Tensor) -> Tensor:
        """The branch, before it is added."""

    def join(self, skip: Tensor, y: Tensor) -> Tensor:
        """The sum of what the branch joins and of the branch."""


def run_plan(plan: BlockPlan, x: Tensor, activation: Callable[[Tensor], Tensor], parts: Parts) -> Tensor:
    """(B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride))."""
    source = activation(parts.entry(x)) if plan.entry_channels else x
    y = parts.attend("pre", source)
    if plan.entry_pool:
        y = F.max_pool2d(y, 2, 2, ceil_mode=True)
    if plan.branches:
        y = torch.cat([_run_branch(branch, y, activation, parts) for branch in plan.branches], 1)
    if plan.whole is not None:
        y = parts.run_whole(y)
    for layer in plan.body:
        y = _run_layer(layer, y, activation, parts)
    y = parts.attend("inside", y)
    if plan.last is not None:
        y = _run_layer(plan.last, y, activation, parts)
    y = parts.attend("standard", y)
    if plan.skip != "none":
        skip, y = parts.attend("identity", parts.skip(plan, x, source)), parts.drop(y)
        y = torch.cat((skip, y), 1) if plan.skip == "pool" else parts.join(skip, y)
        y = activation(y) if plan.activates_sum else y
    return parts.attend("post", y)


def _run_branch(branch: Branch, x: Tensor, activation: Callable[[Tensor], Tensor], parts: Parts) -> Tensor:
    if branch.pool is not None:
        x = (F.avg_pool2d if branch.pool == "mean" else F.max_pool2d)(x, 3, branch.stride, 1)
    for layer in branch.layers:
        x = _run_layer(layer, x, activation, parts)
    return x


def _run_layer(layer: Layer, x: Tensor, activation: Callable[[Tensor], Tensor], parts: Parts) -> Tensor:
    y = parts.layer(layer, x)
    if layer.activation:
        y = activation(y)
    if layer.shuffle == 1:
        return y
    return y.reshape(y.shape[0], layer.shuffle, -1, *y.shape[2:]).transpose(1, 2).flatten(1, 2)


def run_skip(plan: BlockPlan, x: Tensor, source: Tensor, parts: Parts) -> Tensor:
    """What the branch joins, of the block's input x and of what its first norm and activation make of it."""
    if plan.shortcut is not None:
        return parts.layer(plan.shortcut, _average_pooled(source, plan.stride) if plan.shortcut_pool else source)
    if plan.skip == "pool":
        return F.avg_pool2d(x, 3, plan.stride, 1)
    if plan.skip == "pad":
        return F.pad(source[:, :, :: plan.stride, :: plan.stride], (0, 0, 0, 0, 0, plan.lacking))
    return x


def _average_pooled(x: Tensor, stride: int) -> Tensor:
    """2x2 means of a map, at its rim of the pixels that there are: (B, C, H, W) to (B, C, ceil(H / s), ceil(W / s))."""
    return F.avg_pool2d(x, 2, stride, ceil_mode=True, count_include_pad=False)


def build_whole(shape: BlockShape) -> nn.Module:
    """The module of a block whose kind has one in place of a plan."""
    layer = BLOCKS[shape.kind].layer
    assert layer is not None
    module: nn.Module = imported(layer)(shape)
    return module


class Block(nn.Module):
    """The block of a specification; `se_nas.space.block_plan` says what it is made of.

    The convolution `name` of the plan is the module `name`, and its norm `name_norm`; the attention unit is `se`, and
    what stands in place of all convolutions `whole`.

    Args:
        plan: another than the specification's.
    """

    def __init__(self, spec: BlockSpec, plan: BlockPlan | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.plan = plan or block_plan(spec)
        self.activation = ACTIVATIONS[spec.activation]()
        if self.plan.entry_channels:
            self.entry_norm = nn.BatchNorm2d(self.plan.entry_channels)
        if self.plan.whole is not None:
            self.whole = self.whole_module(self.plan.whole)
        for layer in (*(layer for branch in self.plan.branches for layer in branch.layers), *self.plan.body):
            self._add(layer)
        inside = spec.se is not None and spec.se.position == "inside"
        if inside:  # modules stand in the order in which they run
            self._add_attention()
        if self.plan.last is not None:
            self._add(self.plan.last)
        if not inside:
            self._add_attention()
        if self.plan.shortcut is not None:
            self._add(self.plan.shortcut)
        if self.plan.skip not in ("none", "pool"):
            self.drop_path = DropPath()

    def attention_module(self, unit: AttentionUnit) -> nn.Module:
        """What to register as `se`."""
        return build_attention(unit)

    def whole_module(self, shape: BlockShape) -> nn.Module:
        """What to register as `whole`."""
        return build_whole(shape)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        return run_plan(self.plan, x, self.activation, self)

    def entry(self, x: Tensor) -> Tensor:
        """See `Parts`."""
        normed: Tensor = self.entry_norm(x)
        return normed

    def layer(self, layer: Layer, x: Tensor) -> Tensor:
        """See `Parts`."""
        y: Tensor = getattr(self, layer.name)(x)
        return getattr(self, f"{layer.name}_norm")(y) if layer.norm else y

    def run_whole(self, x: Tensor) -> Tensor:
        """See `Parts`."""
        y: Tensor = self.whole(x)
        return y

    def skip(self, plan: BlockPlan, x: Tensor, source: Tensor) -> Tensor:
        """See `Parts`."""
        return run_skip(plan, x, source, self)

    def attend(self, position: Position, x: Tensor) -> Tensor:
        """See `Parts`."""
        if self.spec.se is None or self.spec.se.position != position:
            return x
        attended: Tensor = self.se(x)
        return attended

    def drop(self, y: Tensor) -> Tensor:
        """See `Parts`."""
        return self.drop_path(y) if hasattr(self, "drop_path") else y

    def join(self, skip: Tensor, y: Tensor) -> Tensor:
        """See `Parts`."""
        return skip + y

    def _add_attention(self) -> None:
        unit = self.spec.unit
        if unit is not None:
            self.se = self.attention_module(unit)

    def _add(self, layer: Layer) -> None:
        self.add_module(layer.name, build_convolution(layer))
        if layer.norm:
            self.add_module(f"{layer.name}_norm", nn.BatchNorm2d(layer.out_channels))
