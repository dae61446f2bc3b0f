"""Networks of a model's space that start from the model's weights."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from se_nas.layers.activations import GATES
from se_nas.layers.attention.se import SqueezeExcite
from se_nas.layers.blocks import Block
from se_nas.layers.network import Network, build
from se_nas.space.specs import NetworkSpec
from se_nas.space.vocabulary import Position

_OPEN = 2.0  # the bias of gates that are open and still learn


@torch.no_grad()
def started(model: Network, spec: NetworkSpec) -> Network:
    """The network of a specification that differs from a model's in SE alone, with the model's weights.

    SE that the model has not in this form starts as one gate for all images, which the weights beside it undo: where a
    block of the model has no SE, the block computes what it did.
    """
    network = build(spec)
    held = model.state_dict()
    for name, value in network.state_dict().items():
        if ".se." not in name:
            value.copy_(held[name])
    for theirs, ours in zip(cast(Any, model.blocks), cast(Any, network.blocks), strict=True):
        if ours.spec.se is None:
            continue
        if theirs.spec.unit == ours.spec.unit and theirs.spec.se.position == ours.spec.se.position:
            ours.se.load_state_dict(theirs.se.state_dict())
        elif type(ours.se) is SqueezeExcite:
            _open(ours)
    return network.train(model.training)


def _open(block: Block) -> None:
    """Start SE with one gate for every image and channel, and divide what it scales by that gate."""
    se, spec = cast(SqueezeExcite, block.se), block.spec.se
    assert spec is not None
    nn.init.zeros_(se.expand.weight)
    nn.init.constant_(se.expand.bias, _OPEN)
    gate = GATES[spec.gate](se.expand.bias[0])
    for tensor in _undoing(block, spec.position):
        tensor.div_(gate)


def _undoing(block: Block, position: Position) -> tuple[Tensor, ...]:
    """What makes up for one gate on all that SE scales in a block without a bias at its convolutions."""
    first, last = block.plan.body[0], block.plan.last
    if position == "pre":
        return (getattr(block, first.name).weight,)
    if last is None:  # an activation is between: SE of another form than the model's, which starts anew
        return ()
    if position == "inside" or not last.norm:
        return (getattr(block, last.name).weight,)
    norm = getattr(block, f"{last.name}_norm")
    return (norm.weight, norm.bias)
