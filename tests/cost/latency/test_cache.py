"""The cache of latency tables: a table belongs to one machine, and is believed while it holds."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import replace

import pytest

from se_nas.cost.latency.cache import FRESH_SECONDS, cache_name, cached_latency_table
from se_nas.cost.latency.folder import latency_folder
from se_nas.cost.latency.table import LatencyFile, LatencyTable
from se_nas.records.record import parse_record
from tests.cost.latency.fake_clock import KEY, SPACE, FakeClock, build, same, tiny_space


def test_a_cached_table_is_equal_and_times_nothing(tmp_path):
    clock = FakeClock()
    first, again = build(tmp_path, clock), build(tmp_path, clock)
    assert clock.calls == 1
    same(first, again)
    stored = parse_record(LatencyFile, json.loads(json.dumps(first.record().plain())), "here.json")
    same(first, LatencyTable.from_record(SPACE, stored))
    assert [path.name for path in tmp_path.iterdir()] == [cache_name(SPACE, KEY)]


def test_another_key_space_torch_or_fresh_is_timed_anew(tmp_path, monkeypatch):
    clock = FakeClock()
    build(tmp_path, clock)
    others = [{"device": "cpu Lovelace"}, {"runtime": "cuda_graph"}, {"dtype": "bfloat16"}, {"batch_size": 2}]
    for number, change in enumerate([*others, {"threads": 2}], start=2):
        build(tmp_path, clock, key=replace(KEY, **change))
        assert clock.calls == number
    build(tmp_path, clock, space=tiny_space(width=16))
    assert clock.calls == 7
    build(tmp_path, clock, fresh=True)
    assert clock.calls == 8
    build(tmp_path, clock)
    assert clock.calls == 8
    monkeypatch.setattr("torch.__version__", "0.0.0")  # has other kernels
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


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SE_NAS_CACHE", str(tmp_path))
    assert latency_folder() == tmp_path / "latency"
    build(None)
    assert (tmp_path / "latency" / cache_name(SPACE, KEY)).exists()
    monkeypatch.delenv("SE_NAS_CACHE")
    assert latency_folder().parts[-3:] == (".cache", "se_nas", "latency")


OTHER_MACHINES = {
    "socket.gethostname": lambda: "other",
    "os.cpu_count": lambda: 3,
    "os.sched_getaffinity": lambda process: {0, 5, 7},
    "platform.python_version": lambda: "3.99",
}


@pytest.mark.parametrize("what", OTHER_MACHINES)
def test_a_machine_that_shares_a_home_does_not_share_a_table(tmp_path, monkeypatch, what):
    clock = FakeClock()
    build(tmp_path, clock)
    monkeypatch.setattr(what, OTHER_MACHINES[what])
    build(tmp_path, clock)
    assert clock.calls == 2
    monkeypatch.undo()
    build(tmp_path, clock)
    assert clock.calls == 2


def test_the_name_of_a_machine_shows_in_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "charles-desktop")
    build(tmp_path)
    (path,) = tmp_path.iterdir()
    assert "charles" not in path.name + path.read_text()


def older(folder):
    """As if the tables had been timed a while ago."""
    then = time.time() - FRESH_SECONDS - 1
    for path in folder.iterdir():
        os.utime(path, (then, then))


@pytest.mark.parametrize(("slower", "told"), [(1.05, "5.0% longer"), (0.92, "8.0% less")])
def test_an_older_table_is_believed_where_its_networks_take_as_long_as_it_says(tmp_path, slower, told):
    clock, lines = FakeClock(), []
    first = build(tmp_path, clock)
    older(tmp_path)
    clock.slower = slower
    same(first, build(tmp_path, clock, say=lines.append))
    assert clock.calls == 1
    assert lines == [
        f"cached latency table: 5 of its networks, timed again, take {told}, which is within 10%: it holds"
    ]
    build(tmp_path, clock, say=lines.append)  # found right a moment ago
    assert len(lines) == 1


@pytest.mark.parametrize(("slower", "told"), [(1.29, "29.0% longer"), (0.8, "20.0% less")])
def test_a_machine_that_is_slower_or_faster_by_now_is_timed_anew_and_the_line_says_by_how_much(tmp_path, slower, told):
    clock, lines = FakeClock(), []
    first = build(tmp_path, clock)
    older(tmp_path)
    clock.slower = slower
    now = build(tmp_path, clock, say=lines.append)
    assert clock.calls == 3  # of them one to see how long it takes
    assert lines == [
        f"cached latency table: 5 of its networks, timed again, take {told}, which is over 10%: it is timed anew",
        "latency: timing 16 distinct blocks and 48 networks takes about 0 s",
    ]
    assert now.fit.factor == pytest.approx(slower * first.fit.factor)
    same(now, build(tmp_path, clock))  # the new one is kept


def test_a_drift_that_nobody_listens_to_is_a_warning(tmp_path, caplog):
    clock = FakeClock()
    build(tmp_path, clock)
    older(tmp_path)
    clock.slower = 2.0
    with caplog.at_level(logging.WARNING):
        build(tmp_path, clock)
    assert [record.getMessage() for record in caplog.records] == [
        "cached latency table: 5 of its networks, timed again, take 100.0% longer, which is over 10%: it is timed anew"
    ]


def test_one_slow_moment_does_not_cost_a_table(tmp_path):
    class Startled(FakeClock):
        def networks(self, networks, key, on_progress):
            found = super().networks(networks, key, on_progress)
            self.slower = 1.0
            return found

    clock = Startled()
    build(tmp_path, clock)
    older(tmp_path)
    clock.slower = 3.0
    build(tmp_path, clock)
    assert clock.calls == 1


def test_what_is_shown_of_a_cached_table_is_checked_too(tmp_path, monkeypatch):
    monkeypatch.setenv("SE_NAS_CACHE", str(tmp_path))
    lines = []
    assert cached_latency_table(SPACE, KEY, lines.append) is None
    build(None)
    assert cached_latency_table(SPACE, KEY, lines.append) is not None
    older(tmp_path / "latency")
    clock = FakeClock()
    clock.slower = 2.0
    monkeypatch.setattr("se_nas.cost.latency.cache.TIME_NETWORKS", clock.networks)
    assert cached_latency_table(SPACE, KEY, lines.append) is None
    assert len(lines) == 1
