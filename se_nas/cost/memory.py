"""The memory that a network cannot do without, from its shapes alone: nothing is built to find it.

Every number is a lower bound, so that nothing is refused that would fit.
"""

from __future__ import annotations

from se_nas.cost.counts import network_counts
from se_nas.space.network_faults import block_weights, largest_blocks, weights
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec, NetworkSpec

#: Bytes of a weight with its gradient and its momentum, all float32; and of a number of a map, half that of a weight.
_TRAINED, _HALF = 12, 2


def least_bytes(network: NetworkSpec, batch_size: int, item_bytes: int) -> int:
    """What one run without gradients takes: weights, images, and the two largest maps that are there at once."""
    images = network.in_channels * network.resolution**2
    maps = images + max(_maps(block) for block in network.blocks)
    return (network_counts(network).params + maps * batch_size) * item_bytes


def least_training_bytes(network: NetworkSpec, batch_size: int) -> int:
    """What a training step of so many images takes: the weights, and every block's input, kept for its gradient."""
    return _TRAINED * network_counts(network).params + _HALF * batch_size * _inputs(network)


def least_supernet_bytes(space: SearchSpace, network: NetworkSpec, batch_size: int) -> int:
    """The same of a supernet, which has the largest weights of every kind of block at every place.

    Args:
        network: one of the space, such as the largest, whose maps a step has at least.
    """
    ends = weights(network) - sum(map(block_weights, network.blocks))
    shared = sum(block_weights(block) for slot in space.slots for block in largest_blocks(slot))
    return _TRAINED * (ends + shared) + _HALF * batch_size * _inputs(network)


def _inputs(network: NetworkSpec) -> int:
    return sum(block.in_channels * block.resolution**2 for block in network.blocks)


def _maps(block: BlockSpec) -> int:
    """Numbers in the input and in the output of a block, for one image; what is expanded in between may be less."""
    return block.in_channels * block.resolution**2 + block.out_channels * block.out_resolution**2
