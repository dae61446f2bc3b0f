from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from se_nas.cost.latency.cache import build_latency_table, cache_name, default_cache_folder
from se_nas.cost.latency.table import (
    LatencyTable,
    distinct_blocks,
    fit_relative,
    latency_lines,
    prediction_accuracy,
    spread_architectures,
)
from se_nas.cost.latency.timing import LatencyKey, Measurement, latency_key, measure_blocks, measure_networks
from se_nas.cost.table import count_tables
from se_nas.errors import ConfigError
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

    def blocks(self, blocks, key, on_progress):
        self.calls += 1
        return [true_block_ms(block) for block in blocks]

    def networks(self, networks, key, on_progress):
        found = [INTERCEPT + FACTOR * sum(map(true_block_ms, network.blocks)) for network in networks]
        return [Measurement(ms, ms, (ms, ms), 1) for ms in found]


def build(folder, clock=None, space=SPACE, key=KEY, **options):
    clock = clock or FakeClock()
    options = {"visits": 1, **options}
    return build_latency_table(
        space, key, cache_folder=folder, time_blocks=clock.blocks, time_networks=clock.networks, **options
    )


def same(one, other):
    values = [latency.to_dict() for latency in (one, other)]
    for value in values:
        assert value["report"].pop("seconds") > 0
    assert values[0] == values[1]
    assert dict(one.block_ms) == dict(other.block_ms)
    assert one.calibration == other.calibration
    assert one.key == other.key


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


def test_a_cached_table_is_equal_and_times_nothing(tmp_path):
    clock = FakeClock()
    first, again = build(tmp_path, clock), build(tmp_path, clock)
    assert clock.calls == 1
    same(first, again)
    same(first, LatencyTable.from_dict(SPACE, json.loads(json.dumps(first.to_dict()))))
    assert [path.name for path in tmp_path.iterdir()] == [cache_name(SPACE, KEY)]


def test_another_key_space_torch_or_fresh_is_timed_anew(tmp_path, monkeypatch):
    clock = FakeClock()
    build(tmp_path, clock)
    others = [{"device": "cpu Lovelace"}, {"backend": "cuda_graph"}, {"dtype": "bfloat16"}, {"batch_size": 2}]
    for number, change in enumerate([*others, {"threads": 2}], start=2):
        build(tmp_path, clock, key=replace(KEY, **change))
        assert clock.calls == number
    build(tmp_path, clock, space=tiny_space(width=16))
    assert clock.calls == 7
    build(tmp_path, clock, fresh=True)
    assert clock.calls == 8
    build(tmp_path, clock)
    assert clock.calls == 8
    monkeypatch.setattr("torch.__version__", "0.0.0")
    build(tmp_path, clock)
    assert clock.calls == 9


def test_keys_that_a_file_name_cannot_tell_apart_do_not_share_a_table(tmp_path):
    clock = FakeClock()
    build(tmp_path, clock, key=replace(KEY, device="cpu A(1)"))
    build(tmp_path, clock, key=replace(KEY, device="cpu A 1"))
    assert clock.calls == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"ms"', '"seconds"'),
        lambda text: text.replace('"version": 1', '"version": 99'),
        lambda text: text.replace('"mape"', '"mope"'),
        lambda text: text.replace("MBConv kernel 3", "MBConv colonel 3", 1),
        lambda text: text.replace('"environment": {', '"environment": 1, "x": {', 1),
        lambda text: text.replace('"torch": ', '"torch": 2, "x": ', 1),
        lambda text: text.replace('"stage1.depth": ', '"stage9.depth": ', 1),
    ],
)
def test_a_corrupted_cache_file_is_replaced_with_one_line_of_warning(tmp_path, caplog, damage):
    clock = FakeClock()
    path = tmp_path / cache_name(SPACE, KEY)
    first = build(tmp_path, clock)
    path.write_text(damage(path.read_text()))
    with caplog.at_level(logging.WARNING):
        same(first, build(tmp_path, clock))
    assert clock.calls == 2
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert str(path) in record.getMessage()
    same(first, build(tmp_path, clock))
    assert clock.calls == 2


def test_a_table_of_another_space_is_refused(tmp_path):
    value = build(tmp_path).to_dict()
    with pytest.raises(ConfigError, match=r"here\.json: space\.digest: must be"):
        LatencyTable.from_dict(tiny_space(width=16), value, "here.json")


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SE_NAS_CACHE", str(tmp_path))
    assert default_cache_folder() == tmp_path / "latency"
    build(None)
    assert (tmp_path / "latency" / cache_name(SPACE, KEY)).exists()
    monkeypatch.delenv("SE_NAS_CACHE")
    assert default_cache_folder().parts[-3:] == (".cache", "se_nas", "latency")


def test_a_space_of_few_networks_is_split_in_halves_and_one_of_fewer_refused(tmp_path):
    few = tiny_space(depths=(1,), kernels=(3,), expansions=(1.0, 2.0))  # 16 networks
    fit = build(tmp_path, space=few).fit
    assert (fit.calibrated_on, fit.held_out.n) == (8, 8)
    fewer = tiny_space(depths=(1,), kernels=(3,), expansions=(1.0,))  # 4 networks
    with pytest.raises(ConfigError, match=r"space tiny.*at least 6 distinct networks, but got 4"):
        build(tmp_path, space=fewer)


def test_a_table_is_really_timed_with_progress(tmp_path, capsys):
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
    assert "timing blocks" in captured.err
    lines = latency_lines(latency)
    assert "on 2 held-out networks" in lines[-1]
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
