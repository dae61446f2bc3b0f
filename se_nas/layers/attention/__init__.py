"""The modules of the kinds of attention, a file each, and the unit of a block, of whichever kind.

SE has relatives that stand in the same place; `se_nas.space.attention.ATTENTION` says which, and names their modules.
Every map from a summary of the channels to their gates runs over the last axis of its input, which is (B, C), or
(B, H, W, C) where nothing is summarised.
"""

from __future__ import annotations

from torch import nn

from se_nas.records.registry import imported
from se_nas.space.attention import ATTENTION
from se_nas.space.attention.kind import AttentionUnit


def build_attention(unit: AttentionUnit) -> nn.Module:
    """The module of a unit."""
    module: nn.Module = imported(ATTENTION[unit.kind].layer)(unit)
    return module
