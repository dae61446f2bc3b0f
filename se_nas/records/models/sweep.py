"""What `sweep.json` holds; `evidence.sweep` writes it."""

from __future__ import annotations

from typing import Literal

from se_nas.records.fields import Count
from se_nas.records.models.certificate import LatencyConditions, Timing
from se_nas.records.models.environment import Environment
from se_nas.records.models.evidence import WithMetrics
from se_nas.records.record import Record


class SweptOption(WithMetrics):
    """An option, and what the network with it in every block costs, by every metric that is counted."""

    option: str
    macs: Count
    params: Count
    latency: Timing | None


class SweepFile(Record):
    """`sweep.json`; without a clock there are no latencies."""

    format: Literal["se_nas sweep"] = "se_nas sweep"
    version: Literal[1] = 1
    space: str
    part: str
    points: tuple[SweptOption, ...]
    latency_conditions: LatencyConditions | None
    environment: Environment
