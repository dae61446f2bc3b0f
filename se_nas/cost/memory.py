"""The memory that a network cannot do without, from its shapes alone."""

from __future__ import annotations

from se_nas.space.specs import BlockSpec, NetworkSpec


def least_bytes(network: NetworkSpec, batch_size: int, item_bytes: int) -> int:
    """What one run without gradients takes at least: the images, and the two largest maps that are there at once."""
    images = network.in_channels * network.resolution**2
    return (images + max(_maps(block) for block in network.blocks)) * batch_size * item_bytes


def _maps(block: BlockSpec) -> int:
    """Numbers in the input and in the output of a block, for one image; what is expanded in between may be less."""
    return block.in_channels * block.resolution**2 + block.out_channels * block.out_resolution**2
