"""Squeeze-and-Excitation (Hu et al., arXiv 1709.01507): the gates of all channels by two linear maps."""

from __future__ import annotations

from se_nas.space.attention.kind import AttentionKind, AttentionUnit
from se_nas.space.attention.schedule import Schedule
from se_nas.space.counts import Counts, linear_counts


def two_linear_maps(unit: AttentionUnit) -> Counts:
    """2*C*h MACs and 2*C*h + C + h parameters."""
    return linear_counts(unit.channels, unit.hidden) + linear_counts(unit.hidden, unit.channels)


def _schedule(unit: AttentionUnit, schedule: Schedule, x: int) -> int:
    hidden = schedule.run(unit.hidden * unit.looks, unit.summary(schedule, x))
    return schedule.scaled(unit.numbers, x, schedule.run(unit.channels * unit.looks, hidden))


SE = AttentionKind(
    name="se",
    title="SE",
    short="r",
    has_ratio=True,
    reads_squeeze=True,
    counts=lambda unit: two_linear_maps(unit).times(unit.looks),
    schedule=_schedule,
    layer="se_nas.layers.attention.se:build",
    elastic="se_nas.supernet.attention.se:ElasticSE",
    plain="se_nas.export.plain_attention:squeeze_excite",
)
