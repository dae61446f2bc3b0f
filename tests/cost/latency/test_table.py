from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from se_nas.cost.counts import block_counts, network_counts
from se_nas.cost.latency.cache import build_latency_table
from se_nas.cost.latency.choosing import distinct_blocks, spread_architectures
from se_nas.cost.latency.fit import fit_relative, prediction_accuracy
from se_nas.cost.latency.table import LatencyFile, LatencyTable, latency_lines
from se_nas.cost.latency.timing import Measurement, latency_key, measure_blocks, measure_networks
from se_nas.cost.table import count_tables
from se_nas.errors import ConfigError
from se_nas.records.record import parse_record
from se_nas.space.templates import HeadTemplate, StemTemplate
from tests.cost.latency.fake_clock import (
    FACTOR,
    INTERCEPT,
    SPACE,
    FakeClock,
    build,
    same,
    tiny_space,
    true_block_ms,
)


def test_calibration_recovers_a_known_truth(tmp_path):
    latency = build(tmp_path)
    fit = latency.fit
    assert fit.intercept_ms == pytest.approx(INTERCEPT, abs=1e-6)
    assert fit.factor == pytest.approx(FACTOR, abs=1e-6)
    assert (fit.calibrated_on, fit.held_out.n) == (24, 24)
    assert fit.held_out.mape < 1e-9
    assert (fit.held_out.within_5, fit.held_out.within_10) == (1, 1)
    assert fit.held_out.spearman == pytest.approx(1)
    assert fit.held_out.residual_std < 1e-9


def test_the_table_covers_every_choice_and_every_network(tmp_path):
    table = build(tmp_path).table
    assert table.metric == "latency_ms"
    assert {name for term in table.terms for name in term.choices} == {choice.name for choice in SPACE.choices}
    for architecture in SPACE.enumerate():
        truth = INTERCEPT + FACTOR * sum(map(true_block_ms, SPACE.resolve(architecture).blocks))
        assert table.cost(architecture) == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("sides", [8, (6, 12)])
def test_widths_and_sides_of_stem_and_head_have_their_part(tmp_path, sides):
    """On a machine on which every multiply-accumulate takes the same."""

    class Macs(FakeClock):
        def blocks(self, blocks, key, on_progress):
            return [block_counts(block).macs * 1e-6 for block in blocks]

        def networks(self, networks, key, on_progress):
            found = [INTERCEPT + FACTOR * network_counts(network).macs * 1e-6 for network in networks]
            return [Measurement(ms, ms, (ms, ms), 1) for ms in found]

    stages = tuple(replace(stage, width=(stage.width, 2 * stage.width)) for stage in SPACE.stages)
    space = replace(SPACE, stem=StemTemplate(width=(8, 16)), stages=stages, head=HeadTemplate(width=(16, 256)))
    space = replace(space, resolution=sides)
    latency = build(tmp_path, Macs(), space)
    assert latency.fit.held_out.mape < 1e-9
    assert {"stem.width", "head.width"} <= {name for term in latency.table.terms for name in term.choices}
    read = LatencyTable.from_record(space, latency.record())
    for architecture in map(space.sample, map(np.random.default_rng, range(20))):
        truth = INTERCEPT + FACTOR * network_counts(space.resolve(architecture)).macs * 1e-6
        assert read.table.cost(architecture) == pytest.approx(truth, rel=1e-9)


def test_a_slow_spell_of_the_machine_in_one_visit_moves_nothing(tmp_path):
    class Drifting(FakeClock):
        def blocks(self, blocks, key, on_progress):
            steady = super().blocks(blocks, key, on_progress)
            return [3 * ms for ms in steady] if self.calls == 2 else steady

        def networks(self, networks, key, on_progress):
            steady = super().networks(networks, key, on_progress)
            return [replace(m, median_ms=3 * m.median_ms) for m in steady] if self.calls == 2 else steady

    clock = Drifting()
    fit = build(tmp_path, clock, visits=3).fit
    assert clock.calls == 3
    assert (fit.intercept_ms, fit.factor) == pytest.approx((INTERCEPT, FACTOR), abs=1e-6)


def test_held_out_networks_are_not_those_of_the_calibration(tmp_path):
    class Recording(FakeClock):
        def networks(self, networks, key, on_progress):
            self.timed = networks
            return super().networks(networks, key, on_progress)

    clock = Recording()
    latency = build(tmp_path, clock, calibrate_on=10, held_out=6)
    fitted = [SPACE.resolve(architecture) for architecture, _ in latency.calibration]
    assert fitted == clock.timed[:10]
    assert len(set(clock.timed)) == 16


def test_a_table_of_another_space_is_refused(tmp_path):
    stored = build(tmp_path).record()
    with pytest.raises(ConfigError, match=r"here\.json: space\.digest: must be"):
        LatencyTable.from_record(tiny_space(width=16), stored, "here.json")


def test_a_space_of_few_networks_is_split_in_halves_and_one_of_fewer_refused(tmp_path):
    few = tiny_space(depths=(1,), kernels=(3,), expansions=(1.0, 2.0))  # 16 networks
    fit = build(tmp_path, space=few).fit
    assert (fit.calibrated_on, fit.held_out.n) == (8, 8)
    fewer = tiny_space(depths=(1,), kernels=(3,), expansions=(1.0,))  # 4 networks
    with pytest.raises(
        ConfigError, match=r"at least 6 distinct networks, but got 4; `latency: .table: false.` in a run"
    ):
        build(tmp_path, space=fewer)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_is_really_timed_with_progress_for_a_terminal(tmp_path, capsys, monkeypatch, terminal):
    monkeypatch.setattr("rich.console.Console.is_terminal", terminal)
    latency = build_latency_table(
        SPACE,
        latency_key(),
        cache_folder=tmp_path,
        progress=True,
        calibrate_on=4,
        held_out=2,
        visits=1,
        time_blocks=partial(measure_blocks, passes=1),
        time_networks=partial(measure_networks, rounds=1),
    )
    assert tuple(latency.block_ms) == distinct_blocks(SPACE)
    assert all(ms >= 0 for ms in latency.block_ms.values())
    assert all(ms > 0 for _, ms in latency.calibration)
    assert latency.fit.held_out.n == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("timing blocks" in captured.err) is terminal
    assert terminal or captured.err == ""
    lines = latency_lines(latency)
    assert "on 2 held-out networks" in lines[-2]
    assert "MACs alone" in lines[-1]
    assert f"{len(latency.block_ms)} distinct blocks" in lines[1]


def test_spread_architectures_are_distinct_seeded_and_wider_than_uniform_picks():
    space = tiny_space(depths=(1, 2, 3, 4), kernels=(3, 5, 7), expansions=(1.0, 2.0, 3.0))
    macs = count_tables(space)["macs"]
    spread = spread_architectures(space, 100, np.random.default_rng(3))
    assert len(set(spread)) == 100
    assert spread == spread_architectures(space, 100, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    uniform = np.std([macs.cost(space.sample(rng)) for _ in range(100)])
    assert np.std([macs.cost(a) for a in spread]) > 1.3 * uniform


def test_fit_weighs_errors_relative_to_the_value():
    x, y = np.array([1.0, 1.0, 100.0]), np.array([1.0, 3.0, 200.0])
    a, b = fit_relative(x, y)
    nearby = [np.sum(((a + da + (b + db) * x) / y - 1) ** 2) for da in (-0.01, 0, 0.01) for db in (-0.01, 0, 0.01)]
    assert np.argmin(nearby) == 4


def test_accuracy_of_known_errors():
    found = prediction_accuracy(np.array([1.04, 1.84, 3.0, 5.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert found.n == 4
    assert found.mape == pytest.approx((0.04 + 0.08 + 0 + 0.25) / 4)
    assert (found.within_5, found.within_10) == (0.5, 0.75)
    assert found.spearman == pytest.approx(1)
    assert found.residual_std == pytest.approx(np.std([0.04, -0.08, 0, 0.25], ddof=1))
    assert prediction_accuracy(np.ones(3), np.array([1.0, 2.0, 3.0])).spearman == 0


@pytest.mark.parametrize("part", ["intercept_ms", "factor", "block", "predicted_ms"])
def test_a_table_in_which_one_number_was_altered_is_refused(tmp_path, part):
    """A predicted latency could be negative."""
    plain = json.loads(json.dumps(build(tmp_path, FakeClock()).record().plain()))
    if part == "block":
        plain["blocks"][0]["ms"] += 100.0
    elif part == "predicted_ms":
        plain["held_out"][0]["predicted_ms"] += 0.001
    else:
        plain["report"][part] = -1.0
    stored = parse_record(LatencyFile, plain, "here.json")
    with pytest.raises(
        ConfigError, match=r"here.json: held_out\[\d+\].predicted_ms: must be what the blocks and the fit predict"
    ):
        LatencyTable.from_record(SPACE, stored, "here.json")


def test_blocks_that_one_visit_could_not_time_are_those_of_the_others(tmp_path):
    clock = FakeClock()
    visits = iter([clock.blocks, lambda *arguments: None, clock.blocks])
    found = build(tmp_path / "one", clock, visits=3)
    clock.blocks = lambda *arguments: next(visits)(*arguments)
    same(build(tmp_path / "other", clock, visits=3), found)


def test_where_no_block_can_be_timed_their_times_are_fitted_to_whole_networks(tmp_path):
    clock = FakeClock()
    clock.blocks = lambda *arguments: None
    found = build(tmp_path, clock, space=tiny_space(kernels=(3, 5, 7)))
    assert found.fit.method == "networks"
    assert found.fit.held_out.mape < 0.02 < found.fit.macs.mape
    assert any("fitted to" in line for line in latency_lines(found))
