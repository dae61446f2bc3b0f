"""BLOCKS, the registry of the kinds of block.

To add a kind here: a function from a `BlockShape` to its `BlockPlan`, in a file with its `BlockKind` beside this one,
named in the dict below. Counts, slices, mixtures, drawings and exports follow from the plan. From a module of your own:

    register_block(BlockKind(name="mine", title="my block", layer=lambda shape: MyBlock(shape.in_channels, ...)))

and `blocks: [{kind: mine}]` in a space; everything else has a default, see `BlockKind`.
"""

from __future__ import annotations

from se_nas.records.registry import Registry
from se_nas.space.blocks.conv import CONV, SEPARABLE
from se_nas.space.blocks.identity import IDENTITY
from se_nas.space.blocks.inception import INCEPTION
from se_nas.space.blocks.kind import BlockKind
from se_nas.space.blocks.mbconv import FUSED_MBCONV, MBCONV, RESIDUAL_CONV
from se_nas.space.blocks.residual import BASIC, BOTTLENECK
from se_nas.space.blocks.shuffle import SHUFFLE
from se_nas.space.registry import add_entry

_KINDS = (MBCONV, FUSED_MBCONV, RESIDUAL_CONV, BOTTLENECK, BASIC, CONV, SEPARABLE, SHUFFLE, INCEPTION, IDENTITY)
BLOCKS: Registry[BlockKind] = Registry("block", {kind.name: kind for kind in _KINDS})
"""Every kind of block by its name."""

OF_A_STAGE = MBCONV
"""The kind of a stage that does not say what its blocks are."""


def register_block(kind: BlockKind) -> BlockKind:
    """Add a kind of block.

    Raises:
        ConfigError: the name is taken, or is no name.
    """
    return add_entry(BLOCKS, kind)
