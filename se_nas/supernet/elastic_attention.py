"""The attention of one place under all its options: one of each layer that any option has, run sliced or mixed.

Options share layers: SE ratios and CBAM's hold a prefix of the hidden units of one pair of linear maps, and CBAM has
the convolution of spatial attention. Kinds that only scale channels (SE, ECA, effective SE) are mixed as gates, in one
pass over the feature map whatever their number; spatial attention and CBAM cost a pass each, where they are options.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from se_nas.layers.activations import ACTIVATIONS, GATES
from se_nas.layers.attention import (
    EffectiveSE,
    EfficientChannelAttention,
    SpatialAttention,
    build_attention,
    spatial_gate,
)
from se_nas.layers.squeeze_excite import SqueezeExcite, squeeze_scale
from se_nas.space.channels import eca_kernel
from se_nas.space.specs import WITH_HIDDEN, AttentionKind, BlockSpec
from se_nas.space.templates import NO_SE, SlotOp
from se_nas.supernet.mixture import crop_masks, hidden_masks, mixed_cbam_gate, mixed_gate

#: Bias of a gate at the start: sigmoid 0.88, hard-sigmoid 0.83, tanh 0.96, relu 1. A gate that starts near 1 leaves the
#: features as "no SE" has them, so that neither option is ahead before anything is learned.
OPEN_GATE_BIAS = {"sigmoid": 2.0, "hard_sigmoid": 2.0, "tanh": 2.0, "relu": 1.0}

_ALL = slice(None)
_LAYERS: dict[AttentionKind, tuple[str, ...]] = {
    "se": ("reduce", "expand"),
    "eca": ("across",),
    "ese": ("excite",),
    "cbam": ("reduce", "expand", "spatial"),
    "spatial": ("spatial",),
}


class ElasticAttention(nn.Module):
    """Every attention option of one op of a slot, at least one; its layers are named as those of the plain units."""

    reduce: nn.Linear
    expand: nn.Linear
    excite: nn.Linear
    across: nn.Conv1d
    spatial: nn.Conv2d
    se_masks: Tensor
    cbam_masks: Tensor
    across_masks: Tensor

    def __init__(self, op: SlotOp) -> None:
        super().__init__()
        rows = [[op.block(op.kernel.options[0], e, s) for s in op.se.options] for e in op.expansion.options]
        specs = [block.se for block in rows[0]]  # an option is of one kind at every expansion
        self.places: dict[str, list[int]] = {}  # of each kind among the options
        for place, spec in enumerate(specs):
            self.places.setdefault(NO_SE if spec is None else spec.kind, []).append(place)
        one = next(spec for spec in specs if spec is not None)
        self.squeeze, self.gate = one.squeeze, one.gate
        self._activation = ACTIVATIONS[one.activation]().forward
        self._build_layers(rows)
        # by kind, on no device: the weights come with each call
        with torch.device("meta"):
            self._plain = {spec.kind: build_attention(spec, 1, 1) for spec in specs if spec is not None}

    def _build_layers(self, rows: list[list[BlockSpec]]) -> None:
        channels = [max(block.se_channels for block in row) for row in rows]
        hidden = max(block.se_hidden for row in rows for block in row)
        units: list[nn.Module] = [
            *([SqueezeExcite(max(channels), hidden)] if hidden else []),
            *([EfficientChannelAttention(max(channels))] if "eca" in self.places else []),
            *([EffectiveSE(max(channels))] if "ese" in self.places else []),
            *([SpatialAttention()] if self.places.keys() & {"cbam", "spatial"} else []),
        ]
        for unit in units:
            for name, layer in unit.named_children():
                self.add_module(name, layer)
        for kind in WITH_HIDDEN:
            if kind in self.places:
                widths = [[row[place].se_hidden for row in rows] for place in self.places[kind]]
                self.register_buffer(f"{kind}_masks", hidden_masks(widths, hidden), persistent=False)
        if "eca" in self.places:
            masks = crop_masks([eca_kernel(count) for count in channels])
            self.register_buffer("across_masks", masks, persistent=False)

    def open_gates(self) -> None:
        """Start every gate near 1, where it has a bias to do it with."""
        for name in ("expand", "excite", "spatial"):
            if hasattr(self, name):
                nn.init.constant_(getattr(self, name).bias, OPEN_GATE_BIAS[self.gate])

    def sliced(self, block: BlockSpec) -> dict[str, Tensor]:
        """Views of the weights of one block's unit, under the plain unit's names."""
        assert block.se is not None
        channels, hidden = slice(block.se_channels), slice(block.se_hidden)
        cuts: dict[str, tuple[slice, ...]] = {
            "reduce": (hidden, channels),
            "expand": (channels, hidden),
            "excite": (channels, channels),
        }
        if block.se.kind == "eca":
            width = self.across.kernel_size[0]
            rim = (width - eca_kernel(block.se_channels)) // 2
            cuts["across"] = (_ALL, _ALL, slice(rim, width - rim))
        views = {}
        for layer in _LAYERS[block.se.kind]:
            for name, tensor in getattr(self, layer).named_parameters():
                views[f"{layer}.{name}"] = tensor[cuts[layer][: tensor.dim()]] if layer in cuts else tensor
        return views

    def run_sliced(self, x: Tensor, block: BlockSpec) -> Tensor:
        """One block's unit: (B, C, H, W) to the same shape, C the channels of that block at the unit's position."""
        assert block.se is not None
        attended: Tensor = functional_call(self._plain[block.se.kind], self.sliced(block), (x,))
        return attended

    def run_mixed(self, x: Tensor, options: Tensor, expansions: Tensor, mask: Tensor | None) -> Tensor:
        """The weighted sum of every option: (B, C, H, W) to the same shape.

        Args:
            options, expansions: the probabilities of the SE options and of the expansions, (number of options,) each.
            mask: (C,) of the channels that are present, where the expansions decide on that; they are 0 in the result.
        """
        each = options.unbind()
        weights = {kind: torch.stack([each[place] for place in places]) for kind, places in self.places.items()}
        parts = []
        if self.places.keys() & {NO_SE, "se", "eca", "ese"}:
            parts.append(self._mixed_channels(x, weights, expansions, mask))
        if "cbam" in weights:
            parts.append(self._mixed_cbam(x, weights["cbam"], expansions, mask))
        if "spatial" in weights:
            present = x if mask is None else x * mask.to(x.dtype)[:, None, None]
            parts.append(self._at_positions(present, weights["spatial"], mask))
        return sum(parts[1:], parts[0])

    def _mixed_channels(self, x: Tensor, weights: dict[str, Tensor], expansions: Tensor, mask: Tensor | None) -> Tensor:
        """The options that only scale channels, and none at all."""
        parts: dict[str, Tensor] = {NO_SE: weights[NO_SE]} if NO_SE in weights else {}
        if "se" in weights:
            parts |= {"se": weights["se"], "hidden": _expected(self.se_masks, expansions), **self._linears()}
        if "eca" in weights:
            crop = torch.mv(self.across_masks.t(), expansions)
            parts |= {"eca": weights["eca"], "across": self.across.weight * crop}
        if "ese" in weights:
            parts |= {"ese": weights["ese"], "w": self.excite.weight, "b": self.excite.bias}
        if mask is not None:
            parts["mask"] = mask
        gate = partial(mixed_gate, tuple(parts), self._activation, GATES[self.gate])
        return squeeze_scale(x, gate, *parts.values(), squeeze=self.squeeze)

    def _mixed_cbam(self, x: Tensor, weights: Tensor, expansions: Tensor, mask: Tensor | None) -> Tensor:
        """CBAM at every ratio, in one pass: their channel gates are averaged before the one look at positions."""
        total = weights.sum()
        shares = torch.where(total > 0, weights / total.clamp(min=1e-12), 1 / len(weights))
        gate = partial(mixed_cbam_gate, self._activation, GATES[self.gate])
        tensors = [shares, _expected(self.cbam_masks, expansions), *self._linears().values()]
        y = squeeze_scale(x, gate, *tensors, *([] if mask is None else [mask]), squeeze="mean_and_max")
        return self._at_positions(y, total, mask)

    def _linears(self) -> dict[str, Tensor]:
        reduce, expand = self.reduce, self.expand
        return {"w1": reduce.weight, "b1": reduce.bias, "w2": expand.weight, "b2": expand.bias}

    def _at_positions(self, x: Tensor, weight: Tensor, mask: Tensor | None) -> Tensor:
        """Spatial attention times a weight; its gates see the channels of x (B, C, H, W) that are present."""
        if mask is None:
            mean, maximum = x.mean(1), x.amax(1)
        else:
            mean = x.sum(1) / mask.sum()
            maximum = x.masked_fill((mask == 0)[:, None, None], -torch.inf).amax(1)
        gates = spatial_gate(GATES[self.gate], mean, maximum, self.spatial.weight, self.spatial.bias)
        return x * (weight * gates).to(x.dtype)


def _expected(masks: Tensor, expansions: Tensor) -> Tensor:
    """(options, expansions, H) masks to (options, H), soft where the expansion is."""
    return torch.einsum("geh,e->gh", masks, expansions)
