"""Efficient channel attention (arXiv 1910.03151): a convolution over neighbouring channels."""

from __future__ import annotations

import math

from se_nas.space.attention.kind import AttentionKind, AttentionUnit
from se_nas.space.attention.schedule import Schedule
from se_nas.space.counts import Counts


def eca_kernel(channels: int) -> int:
    """Neighbouring channels that one of ECA's gates sees: (log2(channels) + 1) / 2 made odd, at least 3.

    The rounding is that of the paper's code (arXiv 1910.03151, eq. 12 with gamma 2 and b 1), the least that of timm's.
    """
    wanted = int((math.log2(channels) + 1) / 2)
    return max(3, wanted if wanted % 2 else wanted + 1)


def _counts(unit: AttentionUnit) -> Counts:
    kernel = eca_kernel(unit.channels)
    return Counts(kernel * unit.channels, kernel).times(unit.looks)


def one_map_schedule(unit: AttentionUnit, schedule: Schedule, x: int) -> int:
    """Gates from the summaries of all channels by one map."""
    return schedule.scaled(unit.numbers, x, schedule.run(unit.channels * unit.looks, unit.summary(schedule, x)))


ECA = AttentionKind(
    name="eca",
    title="ECA",
    reads_squeeze=True,
    counts=_counts,
    schedule=one_map_schedule,
    describe=lambda unit: f"ECA of {eca_kernel(unit.channels)} neighbours ({unit.channels} channels)",
    layer="se_nas.layers.attention.eca:build",
    elastic="se_nas.supernet.attention.eca:ElasticECA",
    plain="se_nas.export.plain_attention:efficient_channel_attention",
    tone=("#009e73", "#3dbf9a"),
)
