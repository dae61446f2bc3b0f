"""CBAM's spatial attention alone (arXiv 1807.06521): one gate a position, from the channels around it."""

from __future__ import annotations

from se_nas.space.attention.kind import AttentionKind, AttentionUnit
from se_nas.space.attention.schedule import Schedule
from se_nas.space.counts import Counts

#: Side of spatial attention's kernel (arXiv 1807.06521, eq. 3).
SPATIAL_KERNEL = 7


def spatial_counts(unit: AttentionUnit) -> Counts:
    """One convolution of the channels' mean and maximum, with a bias."""
    weights = 2 * SPATIAL_KERNEL**2
    return Counts(weights * unit.resolution**2, weights + 1)


def spatial_schedule(unit: AttentionUnit, schedule: Schedule, x: int) -> int:
    """The mean and the maximum of the channels, side by side, and the gates from them."""
    positions = unit.resolution**2
    both = schedule.run(2 * positions, schedule.run(positions, x), schedule.run(positions, x))
    return schedule.scaled(unit.numbers, x, schedule.run(positions, both))


SPATIAL = AttentionKind(
    name="spatial",
    title="spatial attention",
    one_gate_a_position=True,
    counts=spatial_counts,
    schedule=spatial_schedule,
    describe=lambda unit: "spatial attention",
    layer="se_nas.layers.attention.spatial:build",
    elastic="se_nas.supernet.attention.spatial:ElasticSpatial",
    plain="se_nas.export.plain_attention:spatial_attention",
    tone=("#3c9fd0", "#7cc4ea"),
)
