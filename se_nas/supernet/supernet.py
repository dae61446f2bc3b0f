"""The weight-sharing supernet: every network of a space from one set of weights, in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from se_nas.layers.network import Network, initialise
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Axis
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.slot import Slot
from se_nas.space.specs import BlockSpec, NetworkSpec
from se_nas.supernet.elastic_attention import ElasticAttention
from se_nas.supernet.elastic_blocks import ElasticBlock
from se_nas.supernet.elastic_ends import ElasticHead, ElasticStem


class SuperNet(nn.Module):
    """All networks of a space. Say which with `activate` or `mix`, then call it on images (B, channels, side, side).

    Draws its initial weights from torch's global generator.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self.stem = ElasticStem(space.stem_convs, space.stem_widths)
        self.slots = nn.ModuleList(nn.ModuleList(ElasticBlock(op) for op in slot.ops) for slot in space.slots)
        self.head = ElasticHead(space.head_spec, space.stage_widths[-1], *space.head_widths)
        initialise(self)
        for module in self.modules():
            if isinstance(module, ElasticAttention):
                module.open_gates()
        self._active: NetworkSpec | None = None
        self._active_blocks: list[tuple[ElasticBlock, BlockSpec]] = []
        self._probabilities: Mapping[str, Tensor] | None = None

    def activate(self, architecture: Architecture) -> SuperNet:
        """Run one architecture, on slices of the weights and at its own cost, from now on; returns self.

        Raises:
            ArchitectureError: it is of another space.
        """
        self._active = self.space.resolve(architecture)
        self._active_blocks = self.elements(architecture)
        self._probabilities = None
        return self

    def mix(self, probabilities: Mapping[str, Tensor]) -> SuperNet:
        """Run the mixture under these probabilities, a (number of options,) tensor for each choice; returns self.

        The output is differentiable in them.
        """
        self._probabilities = probabilities
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, side, side) to (B, classes), as `activate` or `mix` last said."""
        return self._run_active(x) if self._probabilities is None else self.run_mixture(x, self._probabilities)

    def export(self, architecture: Architecture) -> Network:
        """The plain network of an architecture with a copy of its weights and statistics.

        Raises:
            ArchitectureError: it is of another space.
        """
        spec = self.space.resolve(architecture)
        like = next(self.parameters())
        network = _unfilled(Network(spec).to(like.dtype), like.device)
        _load(network.stem, self.stem.sliced(spec.stem_convs))
        _load(network.head, self.head.sliced(spec.head))
        for plain, (elastic, block) in zip(network.blocks, self.elements(architecture), strict=True):
            _load(plain, elastic.sliced(block))
        return network.train(self.training)

    def _places(self) -> Iterator[tuple[Slot, Sequence[ElasticBlock]]]:
        for slot, ops in zip(self.space.slots, self.slots, strict=True):
            yield slot, cast(Sequence[ElasticBlock], ops)

    def elements(self, architecture: Architecture) -> list[tuple[ElasticBlock, BlockSpec]]:
        """The blocks of an architecture, in order, each with the one that holds its weights.

        Raises:
            ArchitectureError: it is of another space.
        """
        blocks = iter(self.space.resolve(architecture).blocks)
        places = {(slot.stage, slot.index): ops for slot, ops in self._places()}
        return [
            (places[slot.stage, slot.index][slot.ops.index(op)], next(blocks))
            for slot, op in self.space.slots_in_use(architecture.as_dict())
        ]

    def _run_active(self, x: Tensor) -> Tensor:
        if self._active is None:
            raise RuntimeError("say which network to run with activate() or mix() first")
        x = self.stem.run_sliced(x, self._active.stem_convs)
        for elastic, block in self._active_blocks:
            x = elastic.run_sliced(x, block)
        return self.head.run_sliced(x, self._active.head)

    def run_mixture(self, x: Tensor, probabilities: Mapping[str, Tensor]) -> Tensor:
        """What `forward` returns after `mix`."""
        certain = next(self.parameters()).new_ones(1)

        def probability(axis: Axis) -> Tensor:
            return certain if axis.choice is None else probabilities[axis.choice]

        x, mixed = self.stem.run_mixed(x, probability), None
        for slot, ops in self._places():
            if slot.index == 0:
                x, mixed = (x if mixed is None else mixed), None
            outputs = [op.run_mixed(x, probability) for op in ops]
            x = outputs[0] if len(outputs) == 1 else _weighted_sum(outputs, probability(slot.op))
            if len(slot.depth.options) == 1:
                mixed = x
            elif slot.index + 1 in slot.depth.options:
                weight = probability(slot.depth)[slot.depth.options.index(slot.index + 1)]
                mixed = x * weight if mixed is None else _with(mixed, x, weight)
        assert mixed is not None  # a space has at least one stage
        return self.head.run_mixed(mixed, probability)


def _unfilled(network: Network, device: torch.device) -> Network:
    """The network on a device, its weights and statistics yet to be loaded: none is sent to be overwritten."""
    if device.type == "cpu":
        return network
    loaded = set(network.state_dict())
    others = {name: buffer for name, buffer in network.named_buffers() if name not in loaded}
    network.to_empty(device=device)
    for name, buffer in others.items():
        network.get_buffer(name).copy_(buffer)
    return network


def _load(plain: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Strictly but for the norms' step counters, which nothing here reads: they begin at 0."""
    counters = {n: torch.zeros_like(v) for n, v in plain.state_dict().items() if n.endswith("num_batches_tracked")}
    plain.load_state_dict({name: tensor.detach() for name, tensor in tensors.items()} | counters)


def _weighted_sum(outputs: list[Tensor], weights: Tensor) -> Tensor:
    total = outputs[0] * weights[0]
    for output, weight in zip(outputs[1:], weights[1:], strict=True):
        total = _with(total, output, weight)
    return total


def _with(total: Tensor, output: Tensor, weight: Tensor) -> Tensor:
    """total + output * weight, in their type: under autocast a weight of float32 would make the maps float32."""
    return torch.addcmul(total, output, weight.to(output.dtype))
