"""A small network, and a block that keeps its shape beside one that does not."""

from __future__ import annotations

from dataclasses import replace

from se_nas.space.specs import ConvSpec, HeadSpec, NetworkSpec, SESpec
from tests.helpers.example_blocks import block_spec

BLOCK = block_spec("mbconv", 8, 8, resolution=8, expanded=16, se=SESpec(ratio=4))
SHRINKING = replace(BLOCK, out_channels=16, stride=2)
NETWORK = NetworkSpec(
    resolution=8,
    in_channels=3,
    stem=ConvSpec(in_channels=3, out_channels=8, kernel=3, stride=1, activation="relu", resolution=8),
    blocks=(BLOCK, SHRINKING),
    head=HeadSpec(in_channels=16, width=0, hidden=0, activation="relu", dropout=0.0, classes=4, resolution=4),
)
