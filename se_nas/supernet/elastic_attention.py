"""The attention of one place under all its options: one of each layer that any option has, run sliced or mixed.

Options share layers: SE ratios and CBAM's hold a prefix of the hidden units of one pair of linear maps, and CBAM has
the convolution of spatial attention. Kinds that only scale channels (SE, ECA, effective SE) are mixed as gates, in one
pass over the feature map whatever their number; the others cost a pass each, where they are options.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.activations import ACTIVATIONS, GATES
from se_nas.layers.squeeze_excite import squeeze_scale
from se_nas.records.registry import imported
from se_nas.space.attention import ATTENTION
from se_nas.space.attention.kind import AttentionUnit
from se_nas.space.slots.slot import SlotOp
from se_nas.space.specs import BlockSpec
from se_nas.supernet.attention.kind import ElasticKind, Units
from se_nas.supernet.attention.own_weights import OwnWeights
from se_nas.supernet.mixture import GateLayout, mixed_gate

#: Bias of a gate at the start: sigmoid 0.88, hard-sigmoid 0.83, tanh 0.96, relu 1. A gate that starts near 1 leaves the
#: features as "no SE" has them, so that neither option is ahead before anything is learned.
OPEN_GATE_BIAS = {"sigmoid": 2.0, "hard_sigmoid": 2.0, "tanh": 2.0, "relu": 1.0}


class ElasticAttention(nn.Module):
    """Every attention option of one op of a slot, at least one; its layers are named as those of the plain units."""

    def __init__(self, op: SlotOp) -> None:
        super().__init__()
        places: dict[str, list[int]] = {}  # of each kind among the options
        rows: list[list[AttentionUnit]] = []  # of each option with a unit, beside each size
        self._none: int | None = None
        for place, label in enumerate(op.axis("se").options):
            units = [op.block(**sizes, se=label).unit for sizes in op.sizes]
            some = [unit for unit in units if unit is not None]
            if some:
                places.setdefault(some[0].kind, []).append(place)
            else:
                self._none = place
            # a size without the shortcut that a unit stands on is not mixed through it
            rows.append([unit or some[0] for unit in units] if some else [])
        every = [unit for row in rows for unit in row]
        self.squeeze, self.gate = every[0].squeeze, GATES[every[0].gate]
        self._activation = ACTIVATIONS[every[0].activation]().forward
        self._open = OPEN_GATE_BIAS[every[0].gate]
        self.channels, hidden = max(unit.channels for unit in every), max(unit.hidden for unit in every)
        self._places = {kind: places[kind] for kind in ATTENTION if kind in places}
        self.kinds = nn.ModuleDict()
        for kind, mine in self._places.items():
            units_of_kind = [rows[place] for place in mine]
            largest = replace(units_of_kind[0][0], channels=self.channels, hidden=hidden)
            self.kinds[kind] = _elastic(units_of_kind, largest)
        for elastic in self._elastics():
            for name, layer in elastic.layers().items():
                if name not in self._modules:
                    self.add_module(name, layer)
        #: Kinds that only scale channels, and the others.
        self._gating = [kind for kind in self._places if self._elastic(kind).part is not None]
        self._apart = [kind for kind in self._places if self._elastic(kind).part is None]
        parts = (self._elastic(kind).part for kind in self._gating)
        self._layout = GateLayout(self._none is not None, False, tuple(part for part in parts if part is not None))

    def open_gates(self) -> None:
        """Start every gate near 1, where it has a bias to do it with."""
        for name in {name for elastic in self._elastics() for name in elastic.opening}:
            nn.init.constant_(self.get_parameter(f"{name}.bias"), self._open)

    def sliced(self, block: BlockSpec) -> dict[str, Tensor]:
        """Views of the weights of one block's unit, under the plain unit's names."""
        assert block.unit is not None
        return self._elastic(block.unit.kind).sliced(self, block.unit)

    def run_sliced(self, x: Tensor, block: BlockSpec) -> Tensor:
        """One block's unit: (B, C, H, W) to the same shape, C the channels of that block at the unit's position."""
        unit = block.unit
        assert unit is not None
        return self._elastic(unit.kind).run_sliced(self, x, unit)

    def run_mixed(self, x: Tensor, options: Tensor, sizes: Tensor, mask: Tensor | None, masked: bool = False) -> Tensor:
        """The weighted sum of every option: (B, C, H, W) to the same shape.

        Args:
            options, sizes: the probabilities of the SE options and of the block's sizes, (number of options,) each.
            mask: (C,) of the channels that are present, where the sizes decide on that; the others are 0 in the result.
            masked: whether the others are 0 in x already.
        """
        if (without := x.shape[1] - self.channels) > 0:  # channels that only sizes without attention have
            attended = self.run_mixed(x[:, : self.channels], options, sizes, mask, masked)
            return F.pad(attended, (0, 0, 0, 0, 0, without))
        mask = None if mask is None else mask[: x.shape[1]]
        each = options.unbind()
        weights = {kind: torch.stack([each[place] for place in places]) for kind, places in self._places.items()}
        parts = []
        if self._gating or self._none is not None:
            tensors = [] if self._none is None else [each[self._none]]
            tensors += [] if mask is None or masked else [mask]
            for kind in self._gating:
                tensors += self._elastic(kind).tensors(self, weights[kind], sizes)
            layout = self._layout._replace(mask=mask is not None and not masked)
            gate = partial(mixed_gate, layout, self._activation, self.gate)
            parts.append(squeeze_scale(x, gate, *tensors, squeeze=self.squeeze))
        parts += [self._elastic(kind).mixed(self, x, weights[kind], sizes, mask) for kind in self._apart]
        return sum(parts[1:], parts[0])

    def _elastic(self, kind: str) -> ElasticKind:
        return cast(ElasticKind, self.kinds[kind])

    def _elastics(self) -> list[ElasticKind]:
        return [self._elastic(kind) for kind in self.kinds]


def _elastic(units: Units, largest: AttentionUnit) -> ElasticKind:
    code = ATTENTION[largest.kind].elastic
    elastic: ElasticKind = OwnWeights(units, largest) if code is None else imported(code)(units, largest)
    return elastic
