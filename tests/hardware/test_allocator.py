from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from se_nas.hardware.allocator import tune_allocator

_CALL = "from se_nas.hardware.allocator import tune_allocator as t; a = t(); assert t() == a; print(a)"


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX"])
def test_environment_that_sets_malloc_is_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert tune_allocator.__wrapped__() is False


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert tune_allocator.__wrapped__() is False


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_applies_on_glibc_and_is_idempotent() -> None:
    # In a process of its own: the setting would outlive the test.
    done = subprocess.run([sys.executable, "-c", _CALL], capture_output=True, text=True, check=True, env={})
    assert done.stdout.strip() == "True"
