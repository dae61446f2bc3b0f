from __future__ import annotations

import os

import pytest
import torch

from se_nas.hardware import contention


@pytest.mark.parametrize(
    ("load", "own", "count", "expected"),
    [
        (None, 1, 2, False),  # Windows does not say
        (0.1, 1, 1, False),
        (0.5, 16, 4, False),  # many threads of our own are no crowd
        (2.0, 2, 2, False),  # exactly half
        (2.1, 2, 2, True),
        (2.9, 1, 2, False),
        (3.1, 1, 2, True),
        (11.0, 1, 2, True),
        (11.0, 1, 64, False),
    ],
)
def test_a_machine_is_crowded_where_ours_gets_less_than_half_of_what_it_gets_alone(
    load: float | None, own: int, count: int, expected: bool
) -> None:
    assert contention.crowded(load, own, count) is expected


@pytest.mark.parametrize(
    ("wall", "cpu", "expected"),
    [(100.0, 49.0, True), (100.0, 51.0, False), (100.0, 180.0, False), (100.0, 0.0, False), (1.0, 0.1, False)],
)
def test_a_training_is_starved_where_it_had_less_than_half_a_processor(wall: float, cpu: float, expected: bool) -> None:
    assert contention.starved(wall, cpu) is expected


def test_the_warning_is_given_once_and_names_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contention, "_WARNED", set())
    monkeypatch.setattr(contention, "processors", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.3, 9.0, 9.0), raising=False)
    assert contention.crowd_warning() == []
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0, 0.0, 0.0), raising=False)
    (line,) = contention.crowd_warning()
    assert "9.0 wanted to run in the last minute, on 2 processors" in line
    assert contention.crowd_warning() == []
    assert contention.starvation_warning(100.0, 10.0) == []


def test_a_starved_training_says_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contention, "_WARNED", set())
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    (line,) = contention.starvation_warning(100.0, 10.0)
    assert line.endswith("the training had 10% of a processor")
    monkeypatch.setattr(contention, "_WARNED", set())
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert contention.starvation_warning(100.0, 10.0) == []  # it waits for the GPU


def test_a_system_without_a_load_average_is_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getloadavg", raising=False)
    assert contention.load_average() is None
