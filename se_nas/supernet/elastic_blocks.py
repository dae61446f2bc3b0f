"""Blocks that hold the weights of all their options: the plain block at its largest, run sliced or mixed.

An elastic block is the plain block of `layers.blocks` at its largest size, with the same parameter names. The plans of
the block wanted and of the largest say how each tensor is cut: to its first channels and to the middle of its kernel.
Of a block whose kind has a module in place of a plan nothing is cut: each of its sizes has a module of its own.

In a mixture channels that a size leaves out are masked: those between two convolutions in the weight of the one that
reads them, those of the block's output in the norm that writes them, so that its successors find 0 there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial, reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.activations import activation_function
from se_nas.layers.averaged_activations import averaged_activations
from se_nas.layers.blocks import Block, build_whole, run_plan, run_skip
from se_nas.layers.squeeze_excite import made_again
from se_nas.space.attention.kind import AttentionUnit
from se_nas.space.block_plan import block_plan
from se_nas.space.blocks.plan import BlockPlan, Layer, Skip
from se_nas.space.blocks.shape import BlockShape
from se_nas.space.choice import Axis, Option
from se_nas.space.slots.slot import SlotOp
from se_nas.space.specs import BlockSpec
from se_nas.space.templates import NO_SE
from se_nas.space.vocabulary import Position
from se_nas.supernet.attention.kind import PlaceMixture
from se_nas.supernet.elastic_attention import ElasticAttention, attention_places
from se_nas.supernet.mixed_gate import FUNCTIONS
from se_nas.supernet.mixture import fold_mask, kernel_masks, prefix_masks

Run = Callable[[Tensor], Tensor]
Probability = Callable[[Axis], Tensor]


def largest_block(op: SlotOp) -> BlockSpec:
    """The block with every option at its largest, with attention if any of its sizes has some."""
    blocks = [op.block(**{**op.largest, **se}) for se in op.combinations("se", "se_position")]
    largest = max(blocks, key=lambda block: (block.se is not None, block.se_hidden))
    if largest.se is not None:
        return largest
    others = (op.block(**sizes, **se) for sizes in op.sizes for se in op.combinations("se", "se_position"))
    return replace(largest, se=next((block.se for block in others if block.se is not None), None))


#: What a block joins, from what its sizes have where their shape stays to what they have where it changes.
_SKIPS: tuple[Skip, ...] = ("none", "input", "pad", "conv", "pool")


def largest_plan(op: SlotOp) -> BlockPlan:
    """The plan of the block with every convolution that any of its sizes has, each at its largest."""
    plans = [block_plan(op.block(**{**op.largest, **sizes})) for sizes in op.sizes]
    fullest = max(plans, key=lambda plan: len(plan.layers))
    if len(plans) == 1 or fullest.is_empty:
        return fullest

    def widest(layer: Layer) -> Layer:
        found = [other for plan in plans for other in plan.layers if other.name == layer.name]
        most = {
            part: max(getattr(other, part) for other in found) for part in ("in_channels", "out_channels", "groups")
        }
        return replace(layer, **most)

    def from_input(layer: Layer, to: int) -> Layer:
        # some sizes may be without it, but all of them are run through it
        return replace(layer, in_channels=max(op.before.channels), out_channels=to)

    width, body = max(op.width.channels), [widest(layer) for layer in fullest.body]
    if any(len(plan.body) < len(body) for plan in plans):
        body[0] = from_input(body[0], body[1].in_channels)
    skip = max(("input" if plan.is_empty else plan.skip for plan in plans), key=_SKIPS.index)
    return replace(
        fullest,
        body=tuple(body),
        last=fullest.last and (widest(fullest.last) if body else from_input(fullest.last, width)),
        shortcut=fullest.shortcut and from_input(fullest.shortcut, width),
        branches=tuple(replace(branch, layers=tuple(map(widest, branch.layers))) for branch in fullest.branches),
        entry_channels=max(plan.entry_channels for plan in plans),
        lacking=width - max(op.before.channels) if skip == "pad" else 0,
        skip=skip,
    )


class _Tensors:
    """The parts of a block computed from tensors that stand in for its own; see `Parts`.

    Args:
        scales: what runs as the block's attention, by where it stands.
        whole: what runs in place of all convolutions.
        bypass: how probable it is that there is no expansion convolution, where that is an option beside others.
        kept: how probable it is that the shape is kept, where that is an option beside others.
    """

    def __init__(
        self,
        block: ElasticBlock,
        tensors: Mapping[str, Tensor],
        scales: Mapping[Position, Run],
        whole: Run,
        bypass: Tensor | None = None,
        kept: Tensor | None = None,
    ) -> None:
        self.block, self.tensors, self.scales, self.run_whole = block, tensors, scales, whole
        self.bypass, self.kept = bypass, kept

    def entry(self, x: Tensor) -> Tensor:
        return self._norm("entry_norm", x)

    def layer(self, layer: Layer, x: Tensor) -> Tensor:
        if layer.name == self.block.bypassed:
            self.unexpanded = x
        # torch's compiler itself says what is kept
        again = len(self.scales) > 1 and not torch.compiler.is_compiling()
        with made_again(x) if again else nullcontext():
            y = self._convolution(layer, x)
        return self._norm(f"{layer.name}_norm", y) if layer.norm else y

    def _convolution(self, layer: Layer, x: Tensor) -> Tensor:
        if layer.kernels:  # of which there is one size alone
            y: Tensor = self.block.get_submodule(layer.name)(x)
            return y
        weight, bias = self.tensors[f"{layer.name}.weight"], self.tensors.get(f"{layer.name}.bias")
        if self.bypass is not None and layer.name == self.block.past_bypass:
            return self._past_expansion(layer, x, weight, self.bypass)
        return _convolved(layer, x, weight, bias)

    def attend(self, position: Position, x: Tensor) -> Tensor:
        return self.scales[position](x) if position in self.scales else x

    def skip(self, plan: BlockPlan, x: Tensor, source: Tensor) -> Tensor:
        if self.kept is None:
            return run_skip(plan, x, source, self)
        if plan.skip == "input":
            return x[:, : self.block.spec.out_channels]  # all that there is where the shape is kept
        added = self.block.spec.out_channels - x.shape[1]
        same = F.pad(x * self.kept, (0, 0, 0, 0, 0, added))  # takes channels away where there are more
        other = run_skip(plan, x, source, self)
        return same + (other if plan.shortcut is not None else other * (1 - self.kept))

    def join(self, skip: Tensor, y: Tensor) -> Tensor:
        if self.kept is None or self.block.plan.skip != "input":
            return skip + y
        y[:, : skip.shape[1]].addcmul_(skip, self.kept.to(skip.dtype))
        return y

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
    """The block of a slot over the options of all its parts."""

    channel_masks: Tensor
    se: ElasticAttention | nn.ModuleDict

    def __init__(self, op: SlotOp) -> None:
        self.op, self._places = op, attention_places(op)  # first, as the block asks for its attention while it is built
        super().__init__(largest_block(op), largest_plan(op))
        every = {layer.name: layer for layer in self.plan.layers}
        by_kernel, by_size = (
            [_layers(op.block(**{**op.largest, **options})) for options in several]
            for several in (op.combinations("kernel"), op.sizes)
        )
        #: Convolutions whose kernel is a choice, and those that mix channels of which the expansion is one.
        self._cropped: list[str] = []
        self._reading: list[str] = []
        for name in every:
            kernels = [layers[name].kernel for layers in by_kernel if name in layers]
            if len(set(kernels)) > 1:
                self._cropped.append(name)
                self.register_buffer(f"{name}_crops", kernel_masks(kernels), persistent=False)
            inputs = [layers[name].in_channels // layers[name].groups for layers in by_size if name in layers]
            if len(set(inputs)) > 1 and name not in self._first:
                self._reading.append(name)
                self.register_buffer(f"{name}_inputs", prefix_masks(inputs), persistent=False)
        #: Sizes whose expansion leaves the channels as they are, and with that the expansion convolution out; its name,
        #: and that of the convolution after it.
        body = [layer.name for layer in (*self.plan.body, *([self.plan.last] if self.plan.last else []))]
        bypassing = [len(body) > 1 and body[0] not in layers for layers in by_size]
        self.bypassed, self.past_bypass = body[:2] if any(bypassing) else ("", "")
        #: Sizes that keep the block's shape where others do not, and the convolutions that it is without there.
        keeping = [op.block(**sizes).keeps_shape for sizes in op.sizes]
        ends = [layer.name for layer in (self.plan.last, self.plan.shortcut) if layer is not None]
        kept = by_size[keeping.index(True)] if any(keeping) else every
        self._unkept = [name for name in ends if name not in kept]
        for name, sizes in (("bypassing", bypassing), ("keeping", keeping)):
            if any(sizes) and not all(sizes):
                self.register_buffer(name, torch.tensor(sizes).float(), persistent=False)
        #: Convolutions that write the block's output.
        self._writing = ends if self.plan.last is not None else [*body[-1:], *ends]
        for part, width in (("before", op.before), ("width", op.width)):
            if width.varies:
                self.register_buffer(f"{part}_masks", prefix_masks(width.channels), persistent=False)
        #: The convolution after SE's position "inside", where SE's gate carries the mask on what that reads.
        after = self.plan.last.name if self.plan.last is not None else None
        self._masked_by_gate = after if "inside" in self._places and after in self._reading else None
        self.register_buffer("channel_masks", prefix_masks([op.block(**sizes).expanded for sizes in op.sizes]), False)

    @property
    def _first(self) -> set[str]:
        """Convolutions that read the block's input, where channels that are left out are 0 already."""
        plan = self.plan
        first = [branch.layers[0] for branch in plan.branches if branch.layers]
        if not plan.branches:
            first += (*plan.body, *([plan.last] if plan.last else []))[:1]
        return {layer.name for layer in (*first, *([plan.shortcut] if plan.shortcut else []))}

    def attention_module(self, unit: AttentionUnit) -> nn.Module:
        """Every attention option of the slot, by its place where there are several."""
        found: dict[str, nn.Module] = {place: ElasticAttention(self.op, place) for place in self._places}
        return nn.ModuleDict(found) if len(found) > 1 else next(iter(found.values()))

    def whole_module(self, shape: BlockShape) -> nn.Module:
        """A module for each kernel and size of the slot."""
        shapes = [self.op.block(**options) for options in self._whole_options()]
        return nn.ModuleDict({self._whole_name(shape): build_whole(shape.without_attention) for shape in shapes})

    def _whole_options(self) -> list[dict[str, Option]]:
        return [own | sizes for own in self.op.combinations("kernel", "activation") for sizes in self.op.sizes]

    def _whole_name(self, block: BlockSpec) -> str:
        """The name of the module of a block without a plan; what is no size is told where it is a choice."""
        name = f"kernel{block.kernel}_expanded{block.expanded}"
        if self.op.before.varies or self.op.width.varies:
            name += f"_from{block.in_channels}_to{block.out_channels}"
        if len(self.op.axis("activation").options) > 1:
            name += f"_{block.activation}"
        return name

    def sliced(self, block: BlockSpec) -> dict[str, Tensor]:
        """Views of the weights and statistics of one block, under the plain block's names."""
        own = self._tensors()
        views = {name: tensor[: block.in_channels] for name, tensor in own.items() if name.startswith("entry_norm.")}
        for layer in block_plan(block).layers:
            ours = {n: t for n, t in own.items() if n.startswith((f"{layer.name}.", f"{layer.name}_norm."))}
            if not layer.kernels:
                rim = (own[f"{layer.name}.weight"].shape[-1] - layer.kernel) // 2
                crop = slice(rim, rim + layer.kernel)
                cut = (slice(layer.out_channels), slice(layer.in_channels // layer.groups), crop, crop)
                ours = {name: tensor[cut[: tensor.dim()]] for name, tensor in ours.items()}
            views |= ours
        whole = {} if self.plan.whole is None else self._whole_of(block).state_dict(keep_vars=True)
        unit = {} if block.se is None else self.attention(block.se.position).sliced(block)
        return {
            **views,
            **{f"whole.{name}": tensor for name, tensor in whole.items() if not name.endswith("num_batches_tracked")},
            **{f"se.{name}": view for name, view in unit.items()},
        }

    def run_sliced(self, x: Tensor, block: BlockSpec) -> Tensor:
        """One block of the slot at its own cost: (B, in, H, W) to (B, out, H / stride, W / stride)."""
        views = self.sliced(block)
        se = block.se
        scales = {} if se is None else {se.position: partial(self.attention(se.position).run_sliced, block=block)}
        whole = partial(self._run_whole_of, block)
        activation = activation_function(block.activation)
        return run_plan(block_plan(block), x, activation, _Tensors(self, views, scales, whole))

    def run_mixed(self, x: Tensor, probability: Probability) -> Tensor:
        """The mixture of every option at about the cost of the largest: (B, in, H, W) to (B, out, H / s, W / s)."""
        op, views, size = self.op, self._tensors(), self._sizes(probability)
        for name in self._cropped:
            views[f"{name}.weight"] = views[f"{name}.weight"] * torch.tensordot(
                probability(op.axis("kernel")), self.get_buffer(f"{name}_crops"), 1
            )
        for name in self._reading:
            if name != self._masked_by_gate:
                mask = torch.mv(self.get_buffer(f"{name}_inputs").t(), size)
                views[f"{name}.weight"] = views[f"{name}.weight"] * mask[:, None, None]
        bypass, kept = self._share("bypassing", size), self._share("keeping", size)
        before, width = (self._present(part, probability) for part in ("before", "width"))
        if before is not None and self.plan.entry_channels:
            views |= fold_mask(_of(views, "entry_norm"), before)
        for name in self._writing:
            masks = [] if width is None else [width]
            masks += [1 - kept] if kept is not None and name in self._unkept else []
            for present in masks:
                views |= fold_mask(_of(views, f"{name}_norm") or _of(views, name), present)
        scales = self._mixed_scales(probability, size, before, width) if self._places else {}
        whole = partial(self._run_every_whole, probability, size)
        parts = _Tensors(self, views, scales, whole, bypass, kept)
        return run_plan(self.plan, x, self._mixed_activation(probability), parts)

    def _mixed_activation(self, probability: Probability) -> Run:
        """The sum of every option times its probability, for all places of the block in one."""
        axis = self.op.axis("activation")
        if len(axis.options) == 1:
            return self.activation
        return partial(averaged_activations, [str(name) for name in axis.options], probability(axis))

    def _sizes(self, probability: Probability) -> Tensor:
        """The probability of each size of the slot's block."""
        chosen = [axis for axis in self.op.size_axes if len(axis.options) > 1] or self.op.size_axes[:1]
        return _product(map(probability, chosen))

    def _share(self, sizes: str, size: Tensor) -> Tensor | None:
        """How probable some of the sizes are together; None where they are all or none."""
        mask: Tensor | None = getattr(self, sizes, None)
        return None if mask is None else torch.dot(size, mask)

    def _present(self, part: str, probability: Probability) -> Tensor | None:
        """Which channels of the input or the output are present; None where that is no choice."""
        masks: Tensor | None = getattr(self, f"{part}_masks", None)
        return None if masks is None else torch.mv(masks.t(), probability(self.op.width_of(part).axis))

    def _whole_of(self, block: BlockSpec) -> nn.Module:
        return cast(nn.ModuleDict, self.whole)[self._whole_name(block)]

    def _run_whole_of(self, block: BlockSpec, x: Tensor) -> Tensor:
        y: Tensor = self._whole_of(block)(x)
        return y

    def _run_every_whole(self, probability: Probability, size: Tensor, x: Tensor) -> Tensor:
        """Each kernel, activation and size times its probability, in the order of `_whole_options`."""
        total = torch.zeros(()).to(x)
        of_parts = [*(probability(self.op.axis(part)) for part in ("kernel", "activation")), size]
        for options, share in zip(self._whole_options(), _product(of_parts), strict=True):
            block = self.op.block(**options)
            y = self._run_whole_of(block, x[:, : block.in_channels]) * share.to(x.dtype)
            total = total + F.pad(y, (0, 0, 0, 0, 0, self.spec.out_channels - block.out_channels))
        return total

    def _tensors(self) -> dict[str, Tensor]:
        """Every weight and statistic of the plain block at its largest but for its attention's, by its name there."""
        found: dict[str, Tensor] = {}
        for layer, module in self.named_children():
            if layer not in ("se", "whole"):
                for name, tensor in (*module.named_parameters(layer), *module.named_buffers(layer)):
                    found[name] = tensor
        return {name: tensor for name, tensor in found.items() if "num_batches" not in name}

    def attention(self, place: Position) -> ElasticAttention:
        """What runs as attention at one of its places."""
        return cast(ElasticAttention, self.se[place] if isinstance(self.se, nn.ModuleDict) else self.se)

    def _mixed_scales(
        self, probability: Probability, size: Tensor, before: Tensor | None, width: Tensor | None
    ) -> dict[Position, Run]:
        """What runs as attention at each place: every option there, and none as far as it stands elsewhere."""
        op, labels = self.op, self.op.axis("se").options
        axes = {part: op.axis(f"se_{part}") for part in FUNCTIONS}
        functions = {part: probability(axis) for part, axis in axes.items() if len(axis.options) > 1}
        options, positions = probability(op.axis("se")), probability(op.axis("se_position"))
        of_places: list[Tensor] = [options] * len(self._places)
        without: list[Tensor | None] = [None] * len(self._places)
        if len(positions) > 1:
            here = torch.outer(_totals(positions, list(self._places.values())), options)
            with_se = here.sum(1) - here[:, labels.index(NO_SE)] if NO_SE in labels else here.sum(1)
            of_places, without = [*here.unbind()], [*(1 - with_se).unbind()]
        scales: dict[Position, Run] = {}
        for place, picked, none in zip(self._places, of_places, without, strict=True):
            masked = place != "inside" or self._masked_by_gate is None
            between = place == "inside" and self.plan.last is not None  # what no size leaves out, unless it is masked
            present = before if place == "pre" else None if between else width
            mask = present if masked else torch.mv(self.channel_masks.t(), size)
            attend = self.attention(place).run_mixed
            at = PlaceMixture(size, mask, functions)
            scales[place] = partial(attend, options=picked, at=at, masked=masked, without=none)
        return scales


def _product(probabilities: Iterable[Tensor]) -> Tensor:
    """Of every combination of options, those of the last changing fastest."""
    return reduce(lambda a, b: torch.outer(a, b).flatten(), probabilities)


def _totals(probabilities: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Of the options of each group together; no index is sent to a device."""
    if [option for group in groups for option in group] == list(range(len(groups))):
        return probabilities[: len(groups)]
    each = probabilities.unbind()
    return torch.stack([torch.stack([each[option] for option in group]).sum() for group in groups])


def _of(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weight and the bias of one layer, as far as it has them."""
    both = (f"{name}.weight", f"{name}.bias")
    return {part: tensors[part] for part in both if part in tensors}


def _layers(block: BlockSpec) -> dict[str, Layer]:
    """The block's convolutions by their names."""
    return {layer.name: layer for layer in block_plan(block).layers}
