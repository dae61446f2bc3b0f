"""What every test shares: reproducible hypothesis examples, one thread, and a space small enough to enumerate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from tests.helpers.command_lines import Run, call
from tests.helpers.figures import unrendered

settings.register_profile(
    "se_nas", deadline=None, derandomize=True, max_examples=20, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "se_nas"))

torch.set_num_threads(1)  # the networks of the tests are too small to share, and sums keep one order

TINY_SPACE = {
    "name": "tiny",
    "resolution": 8,
    "channels": 1,
    "classes": 3,
    "stem": {"width": 8},
    "stages": [
        {
            "width": 8,
            "depth": [1, 2],
            "kernel": [3, 5],
            "expansion": 2,
            "se": {"options": ["none", 2]},
        },
        {
            "width": 16,
            "stride": 2,
            "activation": "hard_swish",
            "blocks": [
                {"kind": "identity"},
                {"kind": "mbconv", "expansion": [2, 3], "se": {"options": ["none", 2, 4], "divisor": 4}},
            ],
        },
    ],
}


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Where several processes run the tests, each file goes to one of them, or what its tests share is set up twice.

    Those of the two files that look at the same experiments under NNI go together.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file.replace("nni_bridge/test_launch.py", "nni_bridge/test_page.py")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """The hook by which pytest-xdist asks who runs what."""
    config.option.loadscopereorder = False  # the files with most tests are not those that take longest
    return Scheduling(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """The hook by which pytest-xdist asks what `-n auto` is: one more than cores, as some tests wait for processes."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="module", autouse=True)
def figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures are not rendered but in files that say `RENDERED = True`, or where a test says `rendered()`."""
    with nullcontext() if getattr(request.module, "RENDERED", False) else unrendered():
        yield


@pytest.fixture(scope="session")
def tiny_space() -> SearchSpace:
    """20 x 7 networks: depth, kernel and SE by block, then an identity or a block of two expansions and three SEs."""
    return parse_space(TINY_SPACE, "tiny_space")


@pytest.fixture
def se_nas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command in `tmp_path`; returns the exit code, the lines on standard error, and standard output."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, list[str], str]:
        code = call(*words)
        said = capsys.readouterr()
        return code, said.err.splitlines(), said.out

    return run
