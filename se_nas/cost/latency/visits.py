"""The visits of a table in the making: blocks and networks are timed, and what was timed is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic

from se_nas.cost.latency.kept import KeptMeasurements
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.plan import Plan, Speed, Watch
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.timing import Measurement, OnProgress, measure_blocks, measure_networks, no_progress
from se_nas.errors import DeviceError, OutputError, counted
from se_nas.space.specs import BlockSpec, NetworkSpec

BlockTimer = Callable[[Sequence[BlockSpec], LatencyKey, OnProgress], list[float] | None]
"""None where chains of copies do not tell a block's time."""
NetworkTimer = Callable[[Sequence[NetworkSpec], LatencyKey, OnProgress], list[Measurement]]

TIME_BLOCKS: BlockTimer = partial(measure_blocks, passes=2)
TIME_NETWORKS: NetworkTimer = partial(measure_networks, rounds=10)

#: Blocks and networks of which it is seen how long timing takes.
_SEEN = 16, 3


class Visits:
    """Times blocks and networks under a key.

    Args:
        time_blocks, time_networks: the clocks.
        kept: has what was timed before, and gets what is timed now.
    """

    def __init__(
        self,
        key: LatencyKey,
        time_blocks: BlockTimer = TIME_BLOCKS,
        time_networks: NetworkTimer = TIME_NETWORKS,
        kept: KeptMeasurements | None = None,
    ) -> None:
        self._key, self._time_blocks, self._time_networks, self._kept = key, time_blocks, time_networks, kept
        self._remote = RUNTIMES[key.runtime].remote
        self._saved = 0.0  # seconds that timing again would have taken

    def blocks(self, visit: int, blocks: Sequence[BlockSpec], on_progress: OnProgress) -> list[float] | None:
        """The milliseconds of each; None where chains of copies do not tell them."""
        if self._kept is not None and (found := self._kept.get(visit, blocks)) is not None:
            return list(found.ms)
        began = monotonic()
        ms = self._time_blocks(blocks, self._key, on_progress)
        if ms is not None:
            self._keep(lambda kept: kept.add(visit, blocks, ms, monotonic() - began))
        return ms

    def networks(self, visit: int, networks: Sequence[NetworkSpec], on_progress: OnProgress) -> list[float]:
        """The medians of each, in milliseconds; where the device is elsewhere one network after the other."""
        if not self._remote:
            return self._together(visit, networks, on_progress)
        return self._one_by_one(visit, networks, len(networks), on_progress)

    def speed(self, blocks: Sequence[BlockSpec], networks: Sequence[NetworkSpec]) -> Speed:
        """How long timing takes, seen on a few of each; `block` is None where chains do not tell blocks' times."""
        few_blocks, few_networks = blocks[:: max(1, len(blocks) // _SEEN[0])][: _SEEN[0]], networks[: _SEEN[1]]
        if self._remote:  # what is timed is kept
            began = monotonic()
            self._one_by_one(0, few_networks, len(networks), no_progress)
        else:
            self._time_networks(few_networks[:1], self._key, no_progress)  # imports what the others have then
            began = monotonic()
            self._time_networks(few_networks, self._key, no_progress)
        network = (monotonic() - began + self._saved) / len(few_networks)
        watch = Watch()
        timed = self._time_blocks(few_blocks, self._key, watch.on_progress) if few_blocks else None
        if timed is None:
            return Speed(None, network)
        block, before = watch.seconds(len(few_blocks))
        return Speed(block, network, before)

    def keep_plan(self, plan: Plan) -> None:
        """See `KeptMeasurements.keep_plan`."""
        self._keep(lambda kept: kept.keep_plan(plan))

    def _one_by_one(
        self, visit: int, networks: Sequence[NetworkSpec], number: int, on_progress: OnProgress
    ) -> list[float]:
        found: list[float] = []
        for done, network in enumerate(networks):
            try:
                found += self._together(visit, [network], no_progress)
            except DeviceError as error:
                there = f"; it was at network {done + 1} of {number}"
                if done:
                    there += f", and the {counted(done, 'network')} before it are kept: the same command goes on there"
                raise DeviceError(f"{error}{there}") from error
            on_progress(done + 1, number)
        return found

    def _together(self, visit: int, networks: Sequence[NetworkSpec], on_progress: OnProgress) -> list[float]:
        if self._kept is not None and (found := self._kept.get(visit, networks)) is not None:
            self._saved += found.seconds
            return list(found.ms)
        began = monotonic()
        ms = [one.median_ms for one in self._time_networks(networks, self._key, on_progress)]
        self._keep(lambda kept: kept.add(visit, networks, ms, monotonic() - began))
        return ms

    def _keep(self, what: Callable[[KeptMeasurements], None]) -> None:
        if self._kept is None:
            return
        if self._remote:
            what(self._kept)
            return
        with suppress(OutputError):  # minutes of this machine are no reason to end
            what(self._kept)
