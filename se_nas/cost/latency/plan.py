"""How much is timed for a table: all there is, or what a bound of time allows; and how long that will take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat

from se_nas.cost.latency.block_model import LEAST_BLOCKS
from se_nas.cost.metrics import LATENCY, METRICS
from se_nas.errors import ConfigError, counted, format_seconds
from se_nas.records.record import Record

#: Networks that are timed at least where their times alone tell the blocks'.
LEAST_NETWORKS = 24
#: Visits below which blocks are left out instead: a slow spell in the one of two is seen, in the only one it is not.
_LEAST_VISITS = 2
#: Share of a bound that is planned for.
_PLANNED = 0.9
#: Seconds above which whoever waits without a bound is told of one.
_LONG_SECONDS = 600


@dataclass(frozen=True)
class Speed:
    """Seconds that timing takes here, seen on a few.

    Attributes:
        block: of one block in one visit, None where blocks are not timed; network: of one network.
        visit: what a visit to any number of blocks takes in addition.
    """

    block: float | None
    network: float
    visit: float = 0.0

    def seconds(self, blocks: int, networks: int, visits: int) -> float:
        """Of so many."""
        of_blocks = self.visit + blocks * self.block if self.block is not None and blocks else 0.0
        return visits * (of_blocks + networks * self.network)


class Plan(Record):
    """How much is timed.

    Attributes:
        blocks: distinct blocks that are timed, the others being predicted; 0 where whole networks alone are timed.
        networks: to calibrate on, and held out.
        visits: how often all of them are timed.
        max_seconds: the bound; cut: whether less is timed for its sake than there is.
        seconds: what it will take.
    """

    kind: Literal["plan"] = "plan"
    blocks: int
    networks: int
    visits: int
    max_seconds: PositiveFloat | None = None
    cut: bool = False
    seconds: NonNegativeFloat = 0.0


def planned(
    blocks: int, networks: int, visits: int, speed: Speed, max_seconds: float | None, spent: float = 0.0
) -> Plan:
    """All of it, or in this order fewer visits, fewer blocks and a single visit.

    Where whole networks alone are timed it is fewer of these.

    Args:
        blocks, networks, visits: all there is, with blocks 0 where they are not timed.
        spent: seconds of the bound that are gone.

    Raises:
        ConfigError: the least of it takes longer than the bound.
    """

    def plan(blocks: int, networks: int, visits: int, cut: bool = True) -> Plan:
        seconds = speed.seconds(blocks, networks, visits)
        return Plan(blocks=blocks, networks=networks, visits=visits, max_seconds=max_seconds, cut=cut, seconds=seconds)

    left = math.inf if max_seconds is None else _PLANNED * max_seconds - spent
    if max_seconds is None or speed.seconds(blocks, networks, visits) <= left:
        return plan(blocks, networks, visits, cut=False)
    least_blocks, least_networks = min(blocks, LEAST_BLOCKS), networks if blocks else min(networks, LEAST_NETWORKS)
    tries = [(blocks, networks, fewer) for fewer in range(visits - 1, _LEAST_VISITS - 1, -1)]
    for fewer in range(min(visits, _LEAST_VISITS), 0, -1):
        tries += [(some, networks, fewer) for some in range(blocks - 1, least_blocks - 1, -1)]
    if not blocks:
        tries += [(0, some, 1) for some in range(networks, least_networks - 1, -1)]
    for one in tries:
        if speed.seconds(*one) <= left:
            return plan(*one)
    least = math.ceil((speed.seconds(least_blocks, least_networks, 1) + spent) / _PLANNED)
    what = f"{counted(least_blocks, 'block')} and {counted(least_networks, 'network')}"
    if not blocks:
        what = counted(least_networks, "network")
    must = f"must be at least {least:,}, for a table takes {what}"
    raise ConfigError("latency", [f"max_seconds: {must}, but got {max_seconds:g}"])


def plan_words(plan: Plan, blocks: int, metric: str = LATENCY) -> str:
    """What will be timed and how long that takes, to be said before.

    Args:
        blocks: all there are.
        metric: that of the table.
    """
    what = counted(plan.networks, "network")
    if plan.blocks:
        of = f" of {blocks:,}" if plan.blocks < blocks else ""
        what = f"{plan.blocks:,}{of} distinct blocks and {what}"
    often = f" in {plan.visits} visits" if plan.visits > 1 else ""
    bound = f", within max_seconds {plan.max_seconds:g}" if plan.max_seconds is not None else ""
    if not bound and plan.seconds > _LONG_SECONDS:
        bound = "; max_seconds bounds that"
    rest = "; the other blocks are predicted" if 0 < plan.blocks < blocks else ""
    how = "timing" if metric == LATENCY else "measuring"
    seconds = format_seconds(round(plan.seconds))
    return f"{METRICS[metric].title.lower()}: {how} {what}{often} takes about {seconds}{bound}{rest}"


class Watch:
    """Tells the seconds of each timing from those of what comes before the first, by what an `OnProgress` is told."""

    def __init__(self) -> None:
        self._marks = [(0, monotonic())]

    def on_progress(self, done: int, total: int) -> None:
        """See `OnProgress`."""
        self._marks.append((done, monotonic()))

    def seconds(self, items: int) -> tuple[float, float]:
        """Of each of so many items that were timed equally often, and before the first of them."""
        end = monotonic()
        (_, began), *told = self._marks
        if len(told) < 2:
            return (end - began) / items, 0.0
        (first, at_first), (last, at_last) = told[0], told[-1]
        one = (at_last - at_first) / (last - first)
        return one * last / items, max(0.0, at_first - began - first * one)
