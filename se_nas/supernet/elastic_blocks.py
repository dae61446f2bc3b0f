"""Blocks that hold the weights of all their options: the plain block at its largest, run sliced or mixed.

An elastic block is the plain block of `layers.blocks` at its largest size, with the same parameter names. The plans of
the block wanted and of the largest say how each tensor is cut: to its first channels and to the middle of its kernel.
Of a block whose kind has a module in place of a plan nothing is cut: each of its sizes has a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.blocks import Block, build_whole, run_plan
from se_nas.space.attention.kind import AttentionUnit
from se_nas.space.block_plan import block_plan
from se_nas.space.blocks.plan import Layer
from se_nas.space.blocks.shape import BlockShape
from se_nas.space.choice import Axis
from se_nas.space.slots.slot import SlotOp
from se_nas.space.specs import BlockSpec
from se_nas.space.vocabulary import Position
from se_nas.supernet.elastic_attention import ElasticAttention
from se_nas.supernet.mixture import kernel_masks, prefix_masks

Run = Callable[[Tensor], Tensor]


def largest_block(op: SlotOp) -> BlockSpec:
    """The block with every option at its largest."""
    blocks = [op.block(**{**op.largest, **se}) for se in op.combinations("se")]
    return max(blocks, key=lambda block: (block.se is not None, block.se_hidden))


class _Tensors:
    """The parts of a block computed from tensors that stand in for its own; see `Parts`.

    Args:
        scale: what runs as the block's attention.
        whole: what runs in place of all convolutions.
        bypass: how probable it is that there is no expansion convolution, where that is an option beside others.
    """

    def __init__(
        self,
        block: ElasticBlock,
        tensors: Mapping[str, Tensor],
        scale: Run | None,
        whole: Run,
        bypass: Tensor | None = None,
    ) -> None:
        self.block, self.tensors, self.scale, self.run_whole, self.bypass = block, tensors, scale, whole, bypass

    def entry(self, x: Tensor) -> Tensor:
        return self._norm("entry_norm", x)

    def layer(self, layer: Layer, x: Tensor) -> Tensor:
        weight, bias = self.tensors[f"{layer.name}.weight"], self.tensors.get(f"{layer.name}.bias")
        if layer.name == self.block.bypassed:
            self.unexpanded = x
        if self.bypass is not None and layer.name == self.block.past_bypass:
            y = self._past_expansion(layer, x, weight, self.bypass)
        else:
            y = _convolved(layer, x, weight, bias)
        return self._norm(f"{layer.name}_norm", y) if layer.norm else y

    def attend(self, position: Position, x: Tensor) -> Tensor:
        se = self.block.spec.se
        return x if self.scale is None or se is None or se.position != position else self.scale(x)

    def drop(self, y: Tensor) -> Tensor:
        return y

    def _past_expansion(self, layer: Layer, x: Tensor, weight: Tensor, bypass: Tensor) -> Tensor:
        """A convolution of x (B, expanded, H, W) whose first channels are mixed with the block's unexpanded input.

        A convolution is linear, so its results are mixed: there, no map of all channels is written a second time.
        """
        channels = self.unexpanded.shape[1]
        first, rest = weight[:channels], weight[channels:]
        y = _convolved(layer, x, torch.cat((first * (1 - bypass), rest)))
        y[:, :channels] += _convolved(layer, self.unexpanded, first * bypass)
        return y

    def _norm(self, name: str, x: Tensor) -> Tensor:
        norm: nn.BatchNorm2d = getattr(self.block, name)
        mean, variance = self.tensors[f"{name}.running_mean"], self.tensors[f"{name}.running_var"]
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return F.batch_norm(x, mean, variance, weight, bias, norm.training, norm.momentum or 0.0, norm.eps)


def _convolved(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The layer's convolution with a weight that may be a part of its own."""
    return F.conv2d(x, weight, bias, layer.stride, weight.shape[-1] // 2, 1, x.shape[1] // weight.shape[1])


class ElasticBlock(Block):
    """The block of a slot over its kernel, expansion and SE options."""

    channel_masks: Tensor
    se: ElasticAttention

    def __init__(self, op: SlotOp) -> None:
        self.op = op  # first, as the block asks for its attention unit while it is built
        super().__init__(largest_block(op))
        by_kernel, by_expansion = (
            [_layers(op.block(**{**op.largest, **options})) for options in op.combinations(part)]
            for part in ("kernel", "expansion")
        )
        #: Convolutions whose kernel is a choice, and those that mix channels of which the expansion is one.
        self._cropped: list[str] = []
        self._reading: list[str] = []
        for name in _layers(self.spec):
            kernels = [layers[name].kernel for layers in by_kernel]
            if len(set(kernels)) > 1:
                self._cropped.append(name)
                self.register_buffer(f"{name}_crops", kernel_masks(kernels), persistent=False)
            inputs = [layers[name].in_channels // layers[name].groups for layers in by_expansion if name in layers]
            if len(set(inputs)) > 1:
                self._reading.append(name)
                self.register_buffer(f"{name}_inputs", prefix_masks(inputs), persistent=False)
        #: Expansion options that leave the channels as they are, and with them the expansion convolution out; its name,
        #: and that of the convolution after it.
        self._bypassing = [i for i, layers in enumerate(by_expansion) if len(layers) < len(_layers(self.spec))]
        self.bypassed = self.past_bypass = ""
        if len(by_expansion) > len(self._bypassing) > 0:
            names, fewer = list(_layers(self.spec)), by_expansion[self._bypassing[0]]
            self.bypassed, self.past_bypass = next(pair for pair in pairwise(names) if pair[0] not in fewer)
        #: The convolution after SE's position "inside", where SE's gate carries the mask on what that reads.
        after = self.plan.last.name if self.plan.last is not None else None
        inside = self.spec.se is not None and self.spec.se.position == "inside"
        self._masked_by_gate = after if inside and after in self._reading else None
        widths = [op.block(**sizes).expanded for sizes in op.combinations("expansion")]
        self.register_buffer("channel_masks", prefix_masks(widths), False)

    def attention_module(self, unit: AttentionUnit) -> nn.Module:
        """Every attention option of the slot."""
        return ElasticAttention(self.op)

    def whole_module(self, shape: BlockShape) -> nn.Module:
        """A module for each kernel and expansion of the slot."""
        shapes = [self.op.block(**sizes) for sizes in self.op.combinations("kernel", "expansion")]
        return nn.ModuleDict({_size(shape): build_whole(shape.without_attention) for shape in shapes})

    def sliced(self, block: BlockSpec) -> dict[str, Tensor]:
        """Views of the weights and statistics of one block, under the plain block's names."""
        own = self._tensors()
        views = {name: tensor for name, tensor in own.items() if name.startswith("entry_norm.")}
        for layer in block_plan(block).layers:
            rim = (own[f"{layer.name}.weight"].shape[-1] - layer.kernel) // 2
            crop = slice(rim, rim + layer.kernel)
            cut = (slice(layer.out_channels), slice(layer.in_channels // layer.groups), crop, crop)
            for name, tensor in own.items():
                if name.startswith((f"{layer.name}.", f"{layer.name}_norm.")):
                    views[name] = tensor[cut[: tensor.dim()]]
        whole = {} if self.plan.whole is None else self._whole_of(block).state_dict(keep_vars=True)
        unit = {} if block.se is None else self.se.sliced(block)
        return {
            **views,
            **{f"whole.{name}": tensor for name, tensor in whole.items() if not name.endswith("num_batches_tracked")},
            **{f"se.{name}": view for name, view in unit.items()},
        }

    def run_sliced(self, x: Tensor, block: BlockSpec) -> Tensor:
        """One block of the slot at its own cost: (B, in, H, W) to (B, out, H / stride, W / stride)."""
        views = self.sliced(block)
        scale = None if block.se is None else partial(self.se.run_sliced, block=block)
        whole = partial(self._run_whole_of, block)
        return run_plan(block_plan(block), x, self.activation, _Tensors(self, views, scale, whole))

    def run_mixed(self, x: Tensor, probability: Callable[[Axis], Tensor]) -> Tensor:
        """The mixture of every option at about the cost of the largest: (B, in, H, W) to (B, out, H / s, W / s)."""
        op, views = self.op, self._tensors()
        expansion = probability(op.axis("expansion"))
        for name in self._cropped:
            views[f"{name}.weight"] = views[f"{name}.weight"] * torch.tensordot(
                probability(op.axis("kernel")), self.get_buffer(f"{name}_crops"), 1
            )
        for name in self._reading:
            if name != self._masked_by_gate:
                mask = torch.mv(self.get_buffer(f"{name}_inputs").t(), expansion)
                views[f"{name}.weight"] = views[f"{name}.weight"] * mask[:, None, None]
        bypass = expansion[self._bypassing].sum() if self._bypassing else None
        scale = None if self.spec.se is None else self._mixed_scale(probability)
        whole = partial(self._run_every_whole, probability)
        return run_plan(self.plan, x, self.activation, _Tensors(self, views, scale, whole, bypass))

    def _whole_of(self, block: BlockSpec) -> nn.Module:
        return cast(nn.ModuleDict, self.whole)[_size(block)]

    def _run_whole_of(self, block: BlockSpec, x: Tensor) -> Tensor:
        y: Tensor = self._whole_of(block)(x)
        return y

    def _run_every_whole(self, probability: Callable[[Axis], Tensor], x: Tensor) -> Tensor:
        """Each size times its probability, in the order of `whole_module`."""
        kernel, expansion = (probability(self.op.axis(part)) for part in ("kernel", "expansion"))
        shares = torch.outer(kernel, expansion).flatten()
        outputs = (module(x) for module in cast(nn.ModuleDict, self.whole).values())
        return sum((y * share.to(y.dtype) for y, share in zip(outputs, shares, strict=True)), torch.zeros(()).to(x))

    def _tensors(self) -> dict[str, Tensor]:
        """Every weight and statistic of the plain block at its largest but for its attention's, by its name there."""
        own = dict(self.named_parameters()) | dict(self.named_buffers())
        ours = (n for n in own if "." in n and not n.startswith(("se.", "whole.")) and "num_batches" not in n)
        return {name: own[name] for name in ours}

    def _mixed_scale(self, probability: Callable[[Axis], Tensor]) -> Run:
        options, expansion = (probability(self.op.axis(part)) for part in ("se", "expansion"))
        mask = None if self._masked_by_gate is None else torch.mv(self.channel_masks.t(), expansion)
        return lambda y: self.se.run_mixed(y, options, expansion, mask)


def _size(block: BlockSpec) -> str:
    """The name of the module of a block without a plan."""
    return f"kernel{block.kernel}_expanded{block.expanded}"


def _layers(block: BlockSpec) -> dict[str, Layer]:
    """The block's convolutions by their names."""
    return {layer.name: layer for layer in block_plan(block).layers}
