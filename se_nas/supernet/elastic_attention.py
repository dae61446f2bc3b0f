"""The attention of one place under all its options: one of each layer that any option has, run sliced or mixed.

Options share layers: SE ratios and CBAM's hold a prefix of the hidden units of one pair of linear maps, and CBAM has
the convolution of spatial attention. Kinds that only scale channels (SE, ECA, effective SE) are mixed as gates, in one
pass over the feature map whatever their number; the others cost a pass each, where they are options.

Where attention may stand at several places of a block, each has layers of its own and holds its gate
1 - p + p * gate, with p the place's probability: where one is certain, the others are no attention at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.squeeze_excite import squeeze_scale
from se_nas.records.registry import imported
from se_nas.space.attention import ATTENTION
from se_nas.space.attention.kind import AttentionUnit
from se_nas.space.slots.slot import SlotOp
from se_nas.space.specs import BlockSpec
from se_nas.space.vocabulary import Position
from se_nas.supernet.attention.kind import ElasticKind, PlaceMixture, Units
from se_nas.supernet.attention.own_weights import OwnWeights
from se_nas.supernet.mixed_gate import FUNCTIONS, MixedGate, UnitFunctions

#: Bias of a gate at the start: sigmoid 0.88, hard-sigmoid 0.83, tanh 0.96, relu 1. A gate that starts near 1 leaves the
#: features as "no SE" has them, so that neither option is ahead before anything is learned.
OPEN_GATE_BIAS = {"sigmoid": 2.0, "hard_sigmoid": 2.0, "tanh": 2.0, "relu": 1.0}


def attention_places(op: SlotOp) -> dict[Position, list[int]]:
    """Where attention may stand in an op's block, and which options of its position that place stands for."""
    labels = op.axis("se").options
    label = next((label for label in labels if op.se_spec(label) is not None), labels[0])
    found: dict[tuple[Position | None, ...], list[int]] = {}
    options = op.axis("se_position").options
    for number, position in enumerate(options):
        units = [op.block(**sizes, se=label, se_position=position).se for sizes in op.sizes]
        found.setdefault(tuple(unit.position if unit else None for unit in units), []).append(number)
    return {cast(Position, options[same[0]]): same for where, same in found.items() if any(where)}


class ElasticAttention(nn.Module):
    """Every attention option of one op of a slot at one place; its layers are named as those of the plain units.

    Args:
        position: of a place where at least one option has a unit.
    """

    def __init__(self, op: SlotOp, position: Position) -> None:
        super().__init__()
        places: dict[str, list[int]] = {}  # of each kind among the options
        rows: list[list[AttentionUnit]] = []  # of each option with a unit, beside each size
        self._none: int | None = None
        for place, label in enumerate(op.axis("se").options):
            units = [op.block(**sizes, se=label, se_position=position).unit for sizes in op.sizes]
            some = [unit for unit in units if unit is not None]
            if some:
                places.setdefault(some[0].kind, []).append(place)
            else:
                self._none = place
            # a size without the shortcut that a unit stands on is not mixed through it
            rows.append([unit or some[0] for unit in units] if some else [])
        every = [unit for row in rows for unit in row]
        chosen = ([str(option) for option in op.axis(f"se_{part}").options] for part in FUNCTIONS)
        self._functions = UnitFunctions(*map(tuple, chosen))
        #: No gate starts above 1 because another one needs more.
        self._open = min(OPEN_GATE_BIAS[gate] for gate in self._functions.gates)
        self.channels, hidden = max(unit.channels for unit in every), max(unit.hidden for unit in every)
        self._places = {kind: places[kind] for kind in ATTENTION if kind in places}
        self.kinds = nn.ModuleDict()
        for kind, mine in self._places.items():
            units_of_kind = [rows[place] for place in mine]
            largest = replace(units_of_kind[0][0], channels=self.channels, hidden=hidden)
            self.kinds[kind] = _elastic(units_of_kind, largest, self._functions)
        for elastic in self._elastics():
            for name, layer in elastic.layers().items():
                if name not in self._modules:
                    self.add_module(name, layer)
        #: Kinds that only scale channels, and the others.
        self._gating = [kind for kind in self._places if self._elastic(kind).part is not None]
        self._apart = [kind for kind in self._places if self._elastic(kind).part is None]
        self._parts = tuple(part for kind in self._gating if (part := self._elastic(kind).part) is not None)

    def open_gates(self) -> None:
        """Start every gate near 1, where it has a bias to do it with."""
        for layer in self.opening_layers():
            nn.init.constant_(cast(Tensor, layer.bias), self._open)

    def opening_layers(self) -> list[nn.Module]:
        """The layers whose bias opens a gate."""
        return [self.get_submodule(name) for name in {name: 0 for each in self._elastics() for name in each.opening}]

    def sliced(self, block: BlockSpec) -> dict[str, Tensor]:
        """Views of the weights of one block's unit, under the plain unit's names."""
        assert block.unit is not None
        return self._elastic(block.unit.kind).sliced(self, block.unit)

    def run_sliced(self, x: Tensor, block: BlockSpec) -> Tensor:
        """One block's unit: (B, C, H, W) to the same shape, C the channels of that block at the unit's position."""
        unit = block.unit
        assert unit is not None
        return self._elastic(unit.kind).run_sliced(self, x, unit)

    def run_mixed(
        self, x: Tensor, options: Tensor, at: PlaceMixture, masked: bool = False, without: Tensor | None = None
    ) -> Tensor:
        """The weighted sum of every option: (B, C, H, W) to the same shape.

        Args:
            options: their probabilities, (number of SE options,).
            at: what else there is to choose.
            masked: whether the channels that its mask leaves out are 0 in x already.
            without: the probability that there is no attention here, where it may stand elsewhere; the options' are
                then those of being picked, and of standing here.
        """
        if (absent := x.shape[1] - self.channels) > 0:  # channels that only sizes without attention have
            attended = self.run_mixed(x[:, : self.channels], options, at, masked, without)
            return F.pad(attended, (0, 0, 0, 0, 0, absent))
        if at.mask is not None:
            at = replace(at, mask=at.mask[: x.shape[1]])
        none = without if without is not None or self._none is None else options[self._none]
        masking = None if masked else at.mask
        first = [t for t in (none, masking) if t is not None]
        parts = []
        if self._gating:
            gate = MixedGate(none is not None, masking is not None, self._functions, self._parts)
            several = [at.functions[part] for part in FUNCTIONS if part in at.functions]
            weights = _picked(options, [place for kind in self._gating for place in self._places[kind]])
            tensors = [t for kind in self._gating for t in self._elastic(kind).tensors(self, at.sizes)]
            given = (*first, *several, weights, *tensors)
            parts.append(squeeze_scale(x, gate, *given, squeeze=self._functions.squeeze))
        elif none is not None:
            parts.append(squeeze_scale(x, _no_attention, *first))
        for kind in self._apart:
            parts.append(self._elastic(kind).mixed(self, x, _picked(options, self._places[kind]), at))
        return sum(parts[1:], parts[0])

    def _elastic(self, kind: str) -> ElasticKind:
        return cast(ElasticKind, self.kinds[kind])

    def _elastics(self) -> list[ElasticKind]:
        return [self._elastic(kind) for kind in self.kinds]


def _no_attention(z: Tensor, *weights: Tensor) -> Tensor:
    """The gate 1 times its weight, and the mask."""
    return reduce(torch.mul, weights, torch.ones_like(z))


def _picked(options: Tensor, places: Sequence[int]) -> Tensor:
    """Some of the probabilities; a view where they are in a row."""
    first = min(places, default=0)
    if list(places) == list(range(first, first + len(places))):
        return options[first : first + len(places)]
    each = options.unbind()
    return torch.stack([each[place] for place in places])


def _elastic(units: Units, largest: AttentionUnit, functions: UnitFunctions) -> ElasticKind:
    code = ATTENTION[largest.kind].elastic
    elastic: ElasticKind = (OwnWeights if code is None else imported(code))(units, largest, functions)
    return elastic
