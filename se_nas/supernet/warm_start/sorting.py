"""A trained network with its channels in the order of their importance, so that a prefix of them is the best part.

The network computes what it did. Importance is what Once-for-All sorts by (arXiv 1908.09791, section 3.3): the sum of
the magnitudes of the weights that read a channel; times its mean gate, where SE scales it just before it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from se_nas.layers.network import Network
from se_nas.space.architecture import Architecture
from se_nas.space.block_plan import block_plan
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.slot import SlotOp
from se_nas.supernet.warm_start.channels import Channels, channel_groups

#: The least size of a dimension of a tensor, by the tensor's name and the dimension.
Least = dict[tuple[str, int], int]


@torch.no_grad()
def sort_channels(
    network: Network, space: SearchSpace, architecture: Architecture, images: Iterable[Tensor] = ()
) -> set[str]:
    """Sort the channels of a network of which a space has fewer somewhere; the names of the tensors that were sorted.

    Args:
        network: of that architecture, or of smaller kernels.
        images: (B, C, H, W) that mean gates are taken over; without any, importance is that of the weights alone.
    """
    state = network.state_dict()
    gates = mean_gates(network, images)
    least = _least(space, architecture)
    touched: set[str] = set()
    for group in channel_groups(network.spec):
        fewer = any(
            least.get((use.tensor, use.dim), state[use.tensor].shape[use.dim]) < state[use.tensor].shape[use.dim]
            for use in group.uses
        )
        if not fewer:
            continue
        order = torch.argsort(importance(group, state, gates), descending=True, stable=True)
        for use in group.uses:
            state[use.tensor].copy_(state[use.tensor].index_select(use.dim, order))
            touched.add(use.tensor)
    return touched


def importance(group: Channels, state: Mapping[str, Tensor], gates: Mapping[int, Tensor]) -> Tensor:
    """Of each channel of a group, (C,)."""
    total = None
    for use in group.uses:
        if use.reads:
            magnitudes = state[use.tensor].abs().transpose(0, use.dim).flatten(1).sum(1)
            total = magnitudes if total is None else total + magnitudes
    first = group.uses[0]
    found = torch.ones(state[first.tensor].shape[first.dim]) if total is None else total
    for number in group.gated:
        if number in gates:
            found = found * gates[number]
    return found


@torch.no_grad()
def mean_gates(network: Network, images: Iterable[Tensor]) -> dict[int, Tensor]:
    """Of each block that scales its middle by gates, by the block's number: (C,), or (1,) where channels share one."""
    sums: dict[int, list[Tensor]] = {}

    def watch(number: int) -> Any:
        def hook(unit: Any, inputs: tuple[Tensor, ...]) -> None:
            gates = unit.gates(inputs[0])
            sums.setdefault(number, []).append(gates.reshape(-1, gates.shape[-1]).mean(0))

        return hook

    handles = []
    for number, block in enumerate(cast(Any, network.blocks)):
        if block.spec.se is not None and block.spec.se.position == "inside" and hasattr(block.se, "gates"):
            handles.append(block.se.register_forward_pre_hook(watch(number)))
    training = network.training
    network.eval()
    try:
        for batch in images if handles else ():
            network(batch)
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)
    return {number: torch.stack(parts).mean(0) for number, parts in sums.items()}


def _least(space: SearchSpace, architecture: Architecture) -> Least:
    """The fewest channels that the space has anywhere a tensor of the architecture's network has some."""
    found: Least = {}

    def note(name: str, dim: int, size: int) -> None:
        found[name, dim] = min(size, found.get((name, dim), size))

    for number, (_, op) in enumerate(space.slots_in_use(architecture.as_dict())):
        _note_block(f"blocks.{number}", op, note)
    for name, width in zip(("conv", *(f"conv{n}" for n in range(2, 9))), space.stem_widths, strict=False):
        note(f"stem.{name}.weight", 0, min(width.channels))
    width, hidden = space.head_widths
    note("head.conv.conv.weight", 0, min(width.channels))
    note("head.hidden.weight", 0, min(hidden.channels))
    return found


def _note_block(prefix: str, op: SlotOp, note: Any) -> None:
    labels = op.axis("se").options
    for sizes in op.sizes:
        for layer in block_plan(op.block(**sizes)).layers:
            note(f"{prefix}.{layer.name}.weight", 0, layer.out_channels)
            note(f"{prefix}.{layer.name}.weight", 1, layer.in_channels // layer.groups)
        for label in labels:
            block = op.block(**sizes, se=label)
            if block.se_hidden:
                note(f"{prefix}.se.reduce.weight", 0, block.se_hidden)
