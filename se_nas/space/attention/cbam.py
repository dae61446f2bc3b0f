"""CBAM (arXiv 1807.06521): channel attention from the means and the maxima, then spatial attention."""

from __future__ import annotations

from se_nas.space.attention.kind import AttentionKind, AttentionUnit
from se_nas.space.attention.schedule import Schedule
from se_nas.space.attention.se import two_linear_maps
from se_nas.space.attention.spatial import spatial_counts, spatial_schedule


def _schedule(unit: AttentionUnit, schedule: Schedule, x: int) -> int:
    both = schedule.run(2 * unit.channels, schedule.run(unit.channels, x), schedule.run(unit.channels, x))
    excited = schedule.run(2 * unit.channels, schedule.run(2 * unit.hidden, both))
    gates = schedule.run(unit.channels, excited)  # their sum
    return spatial_schedule(unit, schedule, schedule.scaled(unit.numbers, x, gates))


CBAM = AttentionKind(
    name="cbam",
    title="CBAM",
    has_ratio=True,
    # its linear maps run on the means and on the maxima
    counts=lambda unit: two_linear_maps(unit).times(2) + spatial_counts(unit),
    schedule=_schedule,
    layer="se_nas.layers.attention.cbam:build",
    elastic="se_nas.supernet.attention.cbam:ElasticCBAM",
    plain="se_nas.export.plain_attention:cbam",
    tone=("#8a7a12", "#d6c44e"),
)
