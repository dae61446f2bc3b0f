"""Blocks that hold the weights of all their options: the plain block at its largest, run sliced or mixed.

Each class is the plain block of `layers.blocks` at its largest size, with the same parameter names, so that slicing a
state dict gives the plain block's. ELASTIC_BLOCKS is the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.activations import ACTIVATIONS, GATES
from se_nas.layers.blocks import Identity, MBConv
from se_nas.layers.squeeze_excite import gate_function, squeeze_scale
from se_nas.space.choice import Axis
from se_nas.space.search_space import SlotOp, se_label
from se_nas.space.specs import BlockSpec
from se_nas.supernet.mixture import gate_masks, kernel_masks, mixed_gate, prefix_masks

Scale = Callable[[Tensor], Tensor]


def largest_block(op: SlotOp) -> BlockSpec:
    """The block with every option at its largest."""
    ratios = [ratio for ratio in op.template.se.options if ratio is not None]
    label = se_label(min(ratios, default=None))
    return op.block(max(op.kernel.options), max(op.expansion.options), label)


class ElasticMBConv(MBConv):
    """MBConv over its kernel, expansion and SE options."""

    kernel_masks: Tensor
    channel_masks: Tensor
    gate_masks: Tensor
    gate_selection: Tensor

    def __init__(self, op: SlotOp) -> None:
        super().__init__(largest_block(op))
        self.op = op
        expanded = [op.expanded(e) for e in op.expansion.options]
        widths = [[op.block(op.kernel.options[0], e, s).se_hidden for s in op.se.options] for e in op.expansion.options]
        masks, selection = gate_masks(widths)
        self.register_buffer("kernel_masks", kernel_masks([int(k) for k in op.kernel.options]), persistent=False)
        self.register_buffer("channel_masks", prefix_masks(expanded), persistent=False)
        self.register_buffer("gate_masks", masks, persistent=False)
        self.register_buffer("gate_selection", selection, persistent=False)
        se = self.spec.se
        if se is not None:
            self._plain_gate = gate_function(se.activation, se.gate)
            self._mixed_gate = partial(mixed_gate, ACTIVATIONS[se.activation](), GATES[se.gate])

    def sliced(self, block: BlockSpec) -> dict[str, Tensor]:
        """Views of the weights and statistics of one block, under the plain block's names."""
        tensors = dict(self.named_parameters()) | dict(self.named_buffers())
        expanded, hidden = block.expanded, block.se_hidden
        rim = (self.spec.kernel - block.kernel) // 2
        crop = slice(rim, self.spec.kernel - rim)
        views = {"depthwise.weight": tensors["depthwise.weight"][:expanded, :, crop, crop]}
        for name in ("expand.weight",) if self.has_expansion else ():
            views[name] = tensors[name][:expanded]
        views["project.weight"] = tensors["project.weight"][:, :expanded]
        for norm in ("expand_norm", "depthwise_norm", "project_norm"):
            for part in ("weight", "bias", "running_mean", "running_var"):
                if (name := f"{norm}.{part}") in tensors:
                    views[name] = tensors[name] if norm == "project_norm" else tensors[name][:expanded]
        if block.se is not None:
            channels = block.se_channels
            views["se.reduce.weight"] = tensors["se.reduce.weight"][:hidden, :channels]
            views["se.reduce.bias"] = tensors["se.reduce.bias"][:hidden]
            views["se.expand.weight"] = tensors["se.expand.weight"][:channels, :hidden]
            views["se.expand.bias"] = tensors["se.expand.bias"][:channels]
        return views

    def run_sliced(self, x: Tensor, block: BlockSpec) -> Tensor:
        """One block of the slot at its own cost: (B, in, H, W) to (B, out, H / stride, W / stride)."""
        views = self.sliced(block)
        if block.se is None:
            return self._run(x, views, None)
        names = ("reduce.weight", "reduce.bias", "expand.weight", "expand.bias")
        parameters = [views[f"se.{name}"] for name in names]
        return self._run(x, views, lambda y: squeeze_scale(y, self._plain_gate, *parameters))

    def run_mixed(self, x: Tensor, probability: Callable[[Axis], Tensor]) -> Tensor:
        """The mixture of every option at about the cost of the largest: (B, in, H, W) to (B, out, H / s, W / s)."""
        op = self.op
        views = dict(self.named_parameters()) | dict(self.named_buffers())
        if len(op.kernel.options) > 1:
            mask = torch.tensordot(probability(op.kernel), self.kernel_masks, 1)
            views["depthwise.weight"] = views["depthwise.weight"] * mask
        channel_mask = (
            torch.mv(self.channel_masks.t(), probability(op.expansion)) if len(op.expansion.options) > 1 else None
        )
        inside = self.spec.se is not None and self.spec.se.position == "inside"
        if channel_mask is not None and not inside:
            # no gate to carry the mask; the projection is linear in its input channels
            views["project.weight"] = views["project.weight"] * channel_mask[:, None, None]
        if self.spec.se is None:
            return self._run(x, views, None)
        weights = torch.mv(self.gate_selection, probability(op.se))
        masks = torch.einsum("geh,e->gh", self.gate_masks, probability(op.expansion))
        se = self.se
        parameters = [weights, masks, se.reduce.weight, se.reduce.bias, se.expand.weight, se.expand.bias]
        if inside and channel_mask is not None:
            parameters.append(channel_mask)
        return self._run(x, views, lambda y: squeeze_scale(y, self._mixed_gate, *parameters))

    def _run(self, x: Tensor, tensors: Mapping[str, Tensor], scale: Scale | None) -> Tensor:
        position = self.spec.se.position if self.spec.se is not None else "inside"
        y = x
        if self.has_expansion:
            y = self.activation(self._norm("expand_norm", F.conv2d(y, tensors["expand.weight"]), tensors))
        depthwise = tensors["depthwise.weight"]
        y = F.conv2d(y, depthwise, None, self.spec.stride, depthwise.shape[-1] // 2, 1, depthwise.shape[0])
        y = self.activation(self._norm("depthwise_norm", y, tensors))
        if scale is not None and position == "inside":
            y = scale(y)
        y = self._norm("project_norm", F.conv2d(y, tensors["project.weight"]), tensors)
        if scale is not None and position == "standard":
            y = scale(y)
        return x + y if self.spec.keeps_shape else y

    def _norm(self, name: str, x: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        norm: nn.BatchNorm2d = getattr(self, name)
        mean, variance = tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"]
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return F.batch_norm(x, mean, variance, weight, bias, self.training, norm.momentum or 0.0, norm.eps)


class ElasticIdentity(Identity):
    """Identity has no options of its own."""

    def __init__(self, op: SlotOp) -> None:
        super().__init__(largest_block(op))

    def sliced(self, block: BlockSpec) -> dict[str, Tensor]:
        """All its weights, if it has any."""
        tensors = dict(self.named_parameters()) | dict(self.named_buffers())
        return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}

    def run_sliced(self, x: Tensor, block: BlockSpec) -> Tensor:
        """(B, in, H, W) to (B, out, H / stride, W / stride)."""
        return self.forward(x)

    def run_mixed(self, x: Tensor, probability: Callable[[Axis], Tensor]) -> Tensor:
        """(B, in, H, W) to (B, out, H / stride, W / stride)."""
        return self.forward(x)


ElasticBlock = ElasticMBConv | ElasticIdentity
ELASTIC_BLOCKS: dict[str, Callable[[SlotOp], ElasticBlock]] = {"mbconv": ElasticMBConv, "identity": ElasticIdentity}
