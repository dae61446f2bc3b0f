"""A clock that knows the truth, and a small space whose table is built by it."""

from __future__ import annotations

from se_nas.cost.latency.cache import build_latency_table
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.timing import Measurement
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import HeadTemplate, OpTemplate, SETemplate, StageTemplate, StemTemplate

KEY = LatencyKey("cpu Babbage")
INTERCEPT, FACTOR = 0.7, 1.3


def tiny_space(width=8, depths=(1, 2), kernels=(3, 5), expansions=(1.0, 2.0)):
    op = OpTemplate(
        kind="mbconv",
        name="mbconv",
        kernels=kernels,
        expansions=expansions,
        se=SETemplate(options=(None, 2), divisor=4),
    )
    stages = (StageTemplate(width, 1, depths, (op,)), StageTemplate(2 * width, 2, (1,), (op,)))
    return SearchSpace("tiny", stages, StemTemplate(width=width), HeadTemplate(), resolution=8, classes=4)


SPACE = tiny_space()


def true_block_ms(block):
    return 0.01 * block.kernel + 0.001 * block.expanded + (0.05 if block.se else 0.0)


class FakeClock:
    """Blocks cost `true_block_ms`, networks exactly INTERCEPT + FACTOR * their sum; counts how often it is asked."""

    def __init__(self):
        self.calls = 0
        self.slower = 1.0  # than when it was new

    def blocks(self, blocks, key, on_progress):
        self.calls += 1
        return [true_block_ms(block) for block in blocks]

    def networks(self, networks, key, on_progress):
        found = [INTERCEPT + FACTOR * sum(map(true_block_ms, network.blocks)) for network in networks]
        found = [self.slower * ms for ms in found]
        return [Measurement(ms, ms, (ms, ms), 1) for ms in found]


def build(folder, clock=None, space=SPACE, key=KEY, **options):
    clock = clock or FakeClock()
    options = {"visits": 1, **options}
    return build_latency_table(
        space, key, cache_folder=folder, time_blocks=clock.blocks, time_networks=clock.networks, **options
    )


def same(one, other):
    values = [latency.record().plain() for latency in (one, other)]
    for value in values:
        assert value["report"].pop("seconds") > 0
    assert values[0] == values[1]
    assert dict(one.block_ms) == dict(other.block_ms)
    assert one.calibration == other.calibration
    assert one.key == other.key
