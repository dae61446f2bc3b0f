"""Tables within a bound of time: what is timed, what is predicted, what is said before, and a table that was killed."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import numpy as np
import pytest

from se_nas.cost.latency.block_model import LEAST_BLOCKS, chosen_blocks, predict_blocks
from se_nas.cost.latency.cache import KEPT_SECONDS
from se_nas.cost.latency.choosing import distinct_blocks
from se_nas.cost.latency.kept import KeptMeasurements
from se_nas.cost.latency.plan import LEAST_NETWORKS, Plan, Speed, plan_words, planned
from se_nas.cost.latency.table import LatencyFile, LatencyTable, latency_lines
from se_nas.errors import ConfigError
from se_nas.records.record import parse_record
from tests.cost.latency.fake_clock import FakeClock, build, same, tiny_space, true_block_ms

LARGE = tiny_space(
    width=16, depths=(1, 2, 3), kernels=(3, 5, 7), expansions=(1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
)
BLOCKS = distinct_blocks(LARGE)


def test_a_long_timing_without_a_bound_names_the_bound():
    long, short = (Plan(blocks=4940, networks=48, visits=4, seconds=seconds) for seconds in (4680, 40))
    words = "latency: timing 4,940 distinct blocks and 48 networks in 4 visits takes about "
    assert plan_words(long, 4940) == words + "1 h 18 min; max_seconds bounds that"
    assert plan_words(short, 4940) == words + "40 s"


class SlowClock(FakeClock):
    """A block takes it 1 second in each visit and a network half of one, on a clock of its own."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.now = 0.0
        self.pace = 1.0
        self.timed = []
        self.most = float("inf")
        for user in ("building", "plan", "visits"):
            monkeypatch.setattr(f"se_nas.cost.latency.{user}.monotonic", lambda: self.now)

    def blocks(self, blocks, key, on_progress):
        self.timed.append(len(blocks))
        self.now += 3.0  # for what is checked first
        for done in range(len(blocks)):
            self.now += self.pace
            on_progress(done + 1, len(blocks))
        if len(self.timed) > self.most:
            raise KeyboardInterrupt
        return super().blocks(blocks, key, on_progress)

    def networks(self, networks, key, on_progress):
        self.now += self.pace * 0.5 * len(networks)
        return super().networks(networks, key, on_progress)


@pytest.fixture
def clock(monkeypatch):
    return SlowClock(monkeypatch)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_blocks_that_are_not_timed_are_predicted_and_the_error_is_that_of_those(share):
    truth = np.array([true_block_ms(block) for block in BLOCKS])
    timed = chosen_blocks(BLOCKS, int(share * len(BLOCKS)))
    assert len(set(timed)) == len(timed) == int(share * len(BLOCKS))
    found, prediction = predict_blocks(BLOCKS, timed, truth[timed])
    assert (prediction.timed, prediction.predicted) == (len(timed), len(BLOCKS) - len(timed))
    assert list(found[timed]) == list(truth[timed])
    rest = np.setdiff1d(np.arange(len(BLOCKS)), timed)
    missed = float(np.mean(np.abs(found[rest] / truth[rest] - 1)))
    assert missed < 0.05
    assert prediction.mape < 0.05


def test_the_error_of_predicted_blocks_says_where_nothing_can_be_learnt():
    noise = np.exp(np.random.default_rng(0).normal(size=len(BLOCKS)))
    timed = chosen_blocks(BLOCKS, LEAST_BLOCKS)
    assert predict_blocks(BLOCKS, timed, noise[timed])[1].mape > 0.3


def test_blocks_whose_time_is_below_the_noise_do_no_harm():
    timed = chosen_blocks(BLOCKS, LEAST_BLOCKS)
    found, prediction = predict_blocks(BLOCKS, timed, np.zeros(len(timed)))
    assert np.isfinite(found).all()
    assert np.isfinite(prediction.mape)


@pytest.mark.parametrize(
    ("max_seconds", "plan"),
    [
        (None, (100, 48, 4)),
        (1000, (100, 48, 4)),
        (420, (100, 48, 3)),
        (300, (100, 48, 2)),
        (200, (66, 48, 2)),
        (110, (75, 48, 1)),
        (70, (39, 48, 1)),
    ],
)
def test_a_bound_takes_visits_first_and_then_blocks(max_seconds, plan):
    found = planned(100, 48, 4, Speed(block=1.0, network=0.5), max_seconds)
    assert (found.blocks, found.networks, found.visits) == plan
    assert max_seconds is None or found.seconds <= max_seconds
    assert found.cut is (plan != (100, 48, 4))


def test_where_networks_alone_are_timed_a_bound_takes_some_of_them():
    found = planned(0, 88, 1, Speed(None, 2.0), 100)
    assert (found.blocks, found.networks, found.visits) == (0, 45, 1)
    with pytest.raises(ConfigError, match="max_seconds: must be at least 54, for a table takes 24 networks"):
        planned(0, 88, 1, Speed(None, 2.0), 40)
    assert LEAST_NETWORKS == 24


def test_a_bound_that_no_table_keeps_is_one_line_with_the_least(tmp_path, clock):
    with pytest.raises(
        ConfigError, match=r"latency: max_seconds: must be at least \d+, for a table takes 32 blocks and"
    ) as e:
        build(tmp_path, clock, space=LARGE, max_seconds=30)
    assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bound_that_is_none_is_one_line_before_anything_is_timed(tmp_path, clock, bound):
    with pytest.raises(ConfigError, match="latency: max_seconds: must be a number above 0, but got"):
        build(tmp_path, clock, max_seconds=bound)
    assert clock.now == 0.0


def test_a_table_within_a_bound_says_so_before_and_after_and_predicts_about_as_well(tmp_path, clock):
    said = []
    table = build(tmp_path, clock, space=LARGE, visits=4, max_seconds=200, say=said.append)
    prediction = table.fit.prediction
    assert clock.now <= 200
    assert clock.timed == [16, prediction.timed, prediction.timed]
    assert LEAST_BLOCKS <= prediction.timed < len(BLOCKS) == prediction.timed + prediction.predicted
    (line,) = said
    assert line.startswith(
        f"latency: timing {prediction.timed} of {len(BLOCKS)} distinct blocks and 48 networks in 2 vis"
    )
    assert line.endswith("within max_seconds 200; the other blocks are predicted")
    assert table.fit.held_out.mape < 0.02
    assert any(f"{prediction.predicted} predicted from these" in line for line in latency_lines(table))
    plain = json.loads(json.dumps(table.record().plain()))
    assert sum(block.get("predicted", False) for block in plain["blocks"]) == prediction.predicted
    same(table, LatencyTable.from_record(LARGE, parse_record(LatencyFile, plain, "here.json")))
    plain["blocks"][plain["blocks"].index(next(b for b in plain["blocks"] if "predicted" in b))].pop("predicted")
    with pytest.raises(ConfigError, match=r"here.json: report.prediction.predicted: must be as many as"):
        LatencyTable.from_record(LARGE, parse_record(LatencyFile, plain, "here.json"), "here.json")


def test_where_all_fits_into_the_bound_the_table_is_what_it_is_without_one(tmp_path, clock):
    whole = build(tmp_path / "whole", FakeClock(), visits=2)
    bounded = build(tmp_path / "bounded", clock, visits=2, max_seconds=10_000)
    for table in (whole, bounded):
        object.__setattr__(table, "fit", replace(table.fit, seconds=1.0))
    same(whole, bounded)
    assert bounded.fit.max_seconds is None


def test_a_machine_that_has_become_slower_ends_the_visits_at_the_bound(tmp_path, clock):
    said = []
    times = clock.blocks

    def slower(blocks, key, on_progress):
        found = times(blocks, key, on_progress)
        clock.pace = 3.0  # after what it was planned by
        return found

    clock.blocks = slower
    table = build(tmp_path, clock, visits=4, max_seconds=300, say=said.append)
    assert "in 4 visits" in said[0]
    assert len(clock.timed) - 1 < 4
    assert clock.now <= 300 + 20
    assert table.fit.max_seconds == 300


def test_a_table_that_was_killed_goes_on_with_what_was_timed(tmp_path, clock):
    whole = build(tmp_path / "whole", clock, space=LARGE, visits=4, max_seconds=200)
    clock.timed.clear()
    clock.most = 2
    with pytest.raises(KeyboardInterrupt):  # in the second visit
        build(tmp_path / "kept", clock, space=LARGE, visits=4, max_seconds=200)
    (kept,) = (tmp_path / "kept").iterdir()
    with kept.open("a") as file:
        file.write('{"kind": "timed", "torn')
    clock.timed.clear()
    again = build(tmp_path / "kept", clock, space=LARGE, visits=4, max_seconds=200)
    assert clock.timed == [whole.fit.prediction.timed]  # nothing to plan by, and the second visit alone
    assert again.block_ms == whole.block_ms
    assert again.held_out == whole.held_out
    assert not kept.exists()


@pytest.mark.parametrize(("age", "visits"), [(KEPT_SECONDS - 60, 1), (KEPT_SECONDS + 60, 2)])
def test_what_was_kept_of_this_machine_counts_for_an_hour(tmp_path, clock, age, visits):
    clock.most = 1
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, clock, visits=2)
    (kept,) = tmp_path.iterdir()
    then = time.time() - age
    os.utime(kept, (then, then))
    clock.most = 99
    clock.timed.clear()
    build(tmp_path, clock, visits=2)
    assert len(clock.timed) == visits


def test_a_cached_table_of_a_bound_stands_for_a_tighter_one_alone(tmp_path, clock):
    def timed(**options):
        clock.timed.clear()
        said = []
        build(tmp_path, clock, space=LARGE, visits=4, say=said.append, **options)
        return said if clock.timed else None

    assert timed(max_seconds=200)
    assert timed(max_seconds=200) is None
    assert timed(max_seconds=160) is None
    assert timed(max_seconds=250)[0] == "cached latency table: it was timed within max_seconds 200: more is timed now"
    assert timed()[0] == "cached latency table: it was timed within max_seconds 250: all is timed now"
    assert timed(max_seconds=200) is None


def test_measurements_of_other_versions_are_not_taken_for_those_of_these(tmp_path):
    path = tmp_path / "kept.jsonl"
    kept = KeptMeasurements(path, {"torch": "1"})
    kept.keep_plan(Plan(blocks=2, networks=24, visits=2))
    kept.add(0, BLOCKS[:2], [1.0, 2.0], 0.5)
    again = KeptMeasurements(path, {"torch": "1"})
    assert again.plan == Plan(blocks=2, networks=24, visits=2)
    assert again.get(0, BLOCKS[:2]).ms == (1.0, 2.0)
    assert again.get(1, BLOCKS[:2]) is again.get(0, BLOCKS[:1]) is None
    assert KeptMeasurements(path, {"torch": "2"}).get(0, BLOCKS[:2]) is None
