"""Effective SE (arXiv 1911.06667): one linear map that keeps all channels."""

from __future__ import annotations

from se_nas.space.attention.eca import one_map_schedule
from se_nas.space.attention.kind import AttentionKind
from se_nas.space.counts import linear_counts

EFFECTIVE_SE = AttentionKind(
    name="ese",
    title="effective SE",
    reads_squeeze=True,
    counts=lambda unit: linear_counts(unit.channels, unit.channels).times(unit.looks),
    schedule=one_map_schedule,
    layer="se_nas.layers.attention.ese:build",
    elastic="se_nas.supernet.attention.ese:ElasticEffectiveSE",
    plain="se_nas.export.plain_attention:effective_se",
    tone=("#b5619a", "#d79ac4"),
)
